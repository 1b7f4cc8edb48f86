"""`Transcribing`: gives a speech-to-text service its utterances, with limits, and once more after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from ..audio.resample import MonoAt
from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import EndOfTurn, Input, Signal, SpeechStarted, Usage, UserAudio, Word
from ..processors.kernel.lane import Lane, Overdue, Patience
from ..processors.kernel.tasks import Work
from .metering import Metering
from .service import Recovering, Recovery, result_of

Result = TypeVar("Result")
log = logging.getLogger("duologue")


class Listener(Protocol):
    """The settings of a service that say which audio it takes."""

    sample_rate: int
    preroll_ms: int


class CallerSpeech:
    """Keeps the latest audio between utterances, and all frames of the utterance in progress, until its transcript.

    It converts the audio to mono at the service's `sample_rate`.
    """

    def __init__(self, listener: Listener) -> None:
        self.utterance = ""
        """The id of the utterance in progress, or of the latest one."""
        self.began_at = 0.0
        """Session time at which it began, in seconds."""
        self.fed_s = 0.0
        """Seconds of its audio that were converted."""
        self.told = ""
        """The latest interim text of the utterance."""
        self.released = False
        """True once another service transcribes the speech."""
        self.frames: list[Input] = []
        """The frames of the utterance in progress, oldest first. More are appended."""
        self._listener = listener
        self.recent: list[UserAudio] = []
        """The latest audio from between utterances, the last `preroll_ms` of it."""
        self._recent_s = 0.0
        self._mono: MonoAt | None = None  # made for the first audio that must be converted

    def keep(self, frame: UserAudio) -> None:
        """Keep audio from between utterances, the last `preroll_ms` of it."""
        recent = self.recent
        recent.append(frame)
        self._recent_s += frame.duration_s
        while self._recent_s - (oldest_s := recent[0].duration_s) > self._listener.preroll_ms / 1000:
            recent.pop(0)
            self._recent_s -= oldest_s

    def begin(self, start: SpeechStarted) -> list[UserAudio]:
        """Begin an utterance with the audio from before it. Returns that audio."""
        kept, self.recent, self._recent_s = self.recent, [], 0.0
        self.utterance, self.began_at, self.fed_s, self.told = start.utterance, start.at, 0.0, ""
        self.frames = [*kept, start]
        return kept

    def converted(self, frame: UserAudio) -> bytes:
        """Return the next audio of the utterance as the service takes it."""
        self.fed_s += frame.duration_s
        if self._mono is None:
            if frame.channels == 1 and frame.sample_rate == self._listener.sample_rate:
                return frame.audio
            self._mono = MonoAt(self._listener.sample_rate)
        return self._mono.process(frame.audio, frame.sample_rate, frame.channels)

    def rest(self) -> bytes:
        """Return the end of the utterance's audio, which the conversion has held back."""
        return self._mono.flush() if self._mono is not None else b""

    def blocks(self) -> Iterator[bytes]:
        """Yield the audio of the whole utterance once more, about a second at a time."""
        if self._mono is not None:
            self._mono.reset()
        block = b""
        for frame in [frame for frame in self.frames if isinstance(frame, UserAudio)]:
            block += self.converted(frame)
            if len(block) >= 2 * self._listener.sample_rate:
                yield block
                block = b""
        block += self.rest()
        if block:
            yield block

    def transcribed(self, utterance: str) -> None:
        """Forget an utterance that has its transcript, except the end of the turn."""
        if utterance == self.utterance:
            self.frames = [frame for frame in self.frames if isinstance(frame, EndOfTurn)]

    def clear(self) -> None:
        """Forget the utterance: all of it was pushed on."""
        self.frames.clear()

    def release(self) -> tuple[Input, ...]:
        """Return all speech that has no transcript: the utterance, then the audio kept after it. Forget it here."""
        speech = (*self.frames, *self.recent)
        self.released = True
        self.frames, self.recent, self._recent_s = [], [], 0.0
        if self._mono is not None:
            self._mono.reset()
        return speech


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """The text of an utterance, "" for none. Word times are in seconds from the utterance's start.

    `usage` is the consumption as the vendor reports it; None for a vendor that does not: the seconds of audio count.
    """

    text: str
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()
    usage: Usage | None = None


class Transcriber(Recovering, Protocol):
    """The part of an `STT` that this class uses."""

    sample_rate: int

    @property
    def at_work(self) -> Any: ...
    def broadcast(self, signal: Signal) -> None: ...
    async def begin(self) -> None: ...
    async def feed(self, pcm: bytes) -> str: ...
    async def finish(self) -> Transcription: ...
    def partial(self) -> Transcription: ...
    async def tell_interim(self, text: str) -> None: ...


class Transcribing:
    """Calls one service for one utterance after the other, and counts its failures.

    A service that has failed is left alone until the end of the utterance, and gets the whole of it again then.
    """

    def __init__(self, service: Transcriber, speech: CallerSpeech) -> None:
        self.recovery = Recovery(service)
        self.metering = Metering(service)
        """The account of the service's work."""
        self.patience = Patience()
        """Limits the waits of the lane's task. It is given up once the speech is released."""
        self._service, self._speech = service, speech
        self._failed: Exception | None = None  # the error of the utterance in progress
        self._leaves: asyncio.Future[None] | None = None  # resolved once the speech is released
        self._work: Work[Any] | None = None
        self._lane: Lane | None = None

    def open(self, lane: Lane) -> None:
        """Forget the failures: the engine opens. `lane` is the service's."""
        self._lane = lane
        self.recovery.begin()
        self._have_patience()

    def _have_patience(self) -> None:
        self.patience = Patience(self._leave_behind, self._service.session.deadlines.stop_s)

    def stop(self, *, cut: bool) -> None:
        """Stop all calls: the speech was released. With `cut`, in the middle of an utterance."""
        if cut:
            self.metering.give_up()
        self.patience.give_up()
        self.recovery.stop()
        if self._work is not None:
            self._work.stop()
        if self._leaves is not None and not self._leaves.done():
            self._leaves.set_result(None)

    async def begin(self) -> None:
        """Begin an utterance."""
        self._failed = None
        await self._ask(self._begin_anew)

    async def feed(self, pcm: bytes) -> None:
        """Give the service more audio of the utterance, and push the interim text that it returns."""
        if not pcm or self._failed is not None:
            return
        # In this task, because it is called for each piece of audio, and nearly always returns at once.
        service = self._service
        self.metering.running.heard(len(pcm) / (2 * service.sample_rate))
        try:
            interim = await self.patience.wait(service.feed(pcm), service.timeout_s)
            if interim:
                if not isinstance(interim, str):
                    raise ConfigurationError(f"{service.name}.feed returns {type(interim).__name__}, not str")
                await service.tell_interim(interim)
        except Overdue:
            task = asyncio.current_task()
            assert self._lane is not None
            assert task is not None
            if task is not self._lane.worker:  # it was left behind: the lane has gone on without it
                task.cancel()
                await asyncio.sleep(0)
            self._note_overdue()
        except Exception as error:
            self._failed = error

    def _leave_behind(self) -> None:
        """Go on without a `feed` that ignores its cancellation."""
        self._note_overdue()
        self._have_patience()
        assert self._lane is not None
        self._lane.leave_behind(f"its cancellation for {self._service.session.deadlines.stop_s:g} s")

    async def finish(self) -> Transcription | None:
        """End the utterance. Returns its text, None if the service has failed twice."""
        said = await self._ask(self._final_text)
        if self._failed is not None and not self._speech.released:
            return await self._once_more(self._failed)
        return said

    def left(self) -> Transcription:
        """Return the text of an utterance that has failed: the service's `partial`, or else the latest interim text."""
        had = self._service.partial()
        return had if had.text.strip() else Transcription(text=self._speech.told)

    async def _begin_anew(self) -> None:
        await self.recovery.ready()
        await self._in_work("begin", self._service.begin, object)

    async def _final_text(self) -> Transcription:
        said = await self._in_work("finish", self._service.finish, Transcription)
        if not isinstance(said.text, str):
            kind = type(said.text).__name__
            raise ConfigurationError(f"{self._service.name}.finish returns a text of type {kind}, not str")
        self.recovery.worked()
        return said

    async def _once_more(self, error: Exception) -> Transcription | None:
        """Give the service the utterance once more after a failure. Returns None if that fails, too."""
        service, speech = self._service, self._speech
        again = self._failed_with(error) and service.reopens
        if again and not speech.released and not isinstance(error, ConfigurationError):
            log.info("session %s: %s gets an utterance once more: %s", service.session.id, service.name, error)
            self._failed = None
            said = await self._ask(self._transcribe_anew)
            if self._failed is None:
                return said
            self._failed_with(self._failed)
        if service.failure is None:
            if not speech.released:
                service.session.report(_reported(self._failed), service.name)
        elif service.replaceable and not speech.released:
            # The next engine takes the utterance, unless the change of engines fails.
            self._leaves = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._leaves}, timeout=service.timeout_s)
        return None

    def _failed_with(self, error: Exception) -> bool:
        return self.recovery.failed(error, in_part=bool(self.left().text.strip()))

    async def _transcribe_anew(self) -> Transcription:
        """Give the service the whole utterance."""
        await self._begin_anew()
        for block in self._speech.blocks():
            await self._in_work("feed", partial(self._service.feed, block), object)
        return await self._final_text()

    async def _in_work(self, method: str, call: Callable[[], Any], gives: type[Result]) -> Result:
        """Run a method of the service in a task of its own. Raises Overdue after `timeout_s` seconds."""
        service = self._service
        work: Work[Result] = Work(service, f"{service.name}.{method}", service.timeout_s)
        self._work = work
        try:
            return await work.run(result_of(service, method, call, gives))
        finally:
            self._work = None

    async def _ask(self, call: Callable[[], Awaitable[Result]]) -> Result | None:
        """Return the service's answer, or None after a failure and for the rest of that utterance."""
        if self._failed is None:
            try:
                return await call()
            except Overdue:
                self._note_overdue()
            except Exception as error:
                self._failed = error
        return None

    def _note_overdue(self) -> None:
        self._failed = DeadlineExceeded(f"the service took longer than {self._service.timeout_s:g} s")


def _reported(error: Exception | None) -> Exception:
    """Return the error to report for a failure of the service."""
    message = f"no transcript: {str(error) or type(error).__name__}"
    return DeadlineExceeded(message) if isinstance(error, DeadlineExceeded) else ServiceError(message)
