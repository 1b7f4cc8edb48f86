"""`STT`: the base of speech-to-text services."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from ..audio.resample import MonoAt
from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import EndOfTurn, Frame, Input, SpeechStarted, SpeechStopped, Usage, UserAudio, UserTranscript, Word
from ..processors.kernel.lane import DONE, Overdue, Patience
from ..processors.kernel.node import Node
from ..processors.kernel.work import Work
from ..processors.processor import Processor, handles
from ..processors.turns.endpointing import check_turns
from .contract import check_made, check_opened, result_of
from .recovery import Recovery

Result = TypeVar("Result")

log = logging.getLogger("duologue")


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """The text of an utterance, "" for none. Word times are in seconds from the utterance's start."""

    text: str
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()


class STT(Processor):
    """Turns the caller's audio into `UserTranscript` frames, which go both down and up.

    A service implements `begin`, `feed` and `finish`; one with a connection derives from `RemoteSTT` instead. Between
    `SpeechStarted` and `EndOfTurn` it receives the audio, mono at `sample_rate`, from `preroll_ms` before the detected
    start, because a detector is sure only some time after the first sound. The final transcript precedes the
    `EndOfTurn` in the stream. Without speech there is no transcript.

    A service that fails, or takes longer than `timeout_s` for one of these calls, is left alone until the end of the
    utterance. Then it is closed and opened again, and gets the whole utterance once more. If that fails, too, the error
    is reported, and the transcript is `partial()`; an empty one is marked as `failed`. After three failures in a row
    the service is given up: see `Recovery`. An utterance longer than `max_utterance_s` is transcribed in parts of that
    length.
    """

    sample_rate: int = 16_000
    """The sample rate of the audio that the service receives, in Hz."""
    preroll_ms: int = 500
    """Milliseconds of audio that are kept from before the detected start."""
    timeout_s: float = 5.0
    """The limit for each call of the service, in seconds."""
    max_utterance_s: float = 60.0
    """The longest utterance, in seconds."""
    model: str = ""
    """The model's name, for `Usage`."""
    language: str = ""
    """The caller's language, from the agent's configuration; "" means the service's default."""

    gives = frozenset({UserTranscript})
    follows = frozenset({UserAudio})

    reopens: bool = True
    """True if `close` and `open` mend the service after a failure. False for one that keeps its connection itself."""

    replaceable: bool = False
    """True while another engine can take the call if this service fails for good."""

    failure: Exception | None = None
    """The error with which the service was given up."""

    is_made = False
    """True once `__init__` has run."""

    def __init__(self) -> None:
        self.is_made = True
        self._recovery = Recovery(self)
        self._opened = False
        self._recent: list[UserAudio] = []
        self._recent_s = 0.0
        self._mono: MonoAt | None = None  # made for the first audio that must be converted
        self._listening = False
        self._ending = False  # the end of the turn awaits its transcript
        self._failed: Exception | None = None  # the error of the utterance in progress
        self._released = False
        self._leaves: asyncio.Future[None] | None = None  # resolved once the speech is released
        self._patience = Patience()
        self._work: Work[Any] | None = None
        self._utterance: list[Input] = []  # frames without a transcript
        self._started_at = 0.0
        self._utterance_id = ""
        self._stopped_at = 0.0
        self._fed_s = 0.0

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require the ends of the caller's turns, unless the service gives them itself, and that `__init__` has run."""
        check_made(self, STT)
        super().check_place(before, after)
        if EndOfTurn not in self.gives:
            check_turns(self, before, after)

    async def open(self) -> None:
        """Begin to listen. Overriding methods call this first."""
        self._opened = True
        if not self._recovery.opening:
            self._recovery.begin()
            self._released = False
            self._patience = Patience(self._leave_behind, self.session.deadlines.stop_s)

    def check_opened(self) -> None:
        """Require that `open` has run."""
        check_opened(self, self._opened)

    async def begin(self) -> None:
        """Begin an utterance."""

    async def feed(self, pcm: bytes) -> str:
        """Take more audio, mono s16le at `sample_rate`. Returns an interim text, "" for none."""
        raise NotImplementedError

    async def finish(self) -> Transcription:
        """End the utterance. Returns its text."""
        raise NotImplementedError

    def partial(self) -> Transcription:
        """Return the text so far of an utterance that failed, by default an empty one."""
        return Transcription(text="")

    def take_at_once(self, frame: Frame) -> bool:
        """Keep audio from between utterances, also while a transcript is awaited: it needs no task."""
        if self._listening or type(frame) is not UserAudio or type(self).audio is not STT.audio:
            return False
        assert self._lane is not None
        if len(self._lane) if self._ending else self._lane.busy:
            return False
        if frame.audio:
            self._keep(frame)
        return True

    @handles(UserAudio, queued=True)
    async def audio(self, frame: UserAudio) -> None:
        """Keep or transcribe the audio, and push it on."""
        await self._hear_or_keep(frame)
        await self.push(frame)

    @handles(SpeechStarted, queued=True)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """Begin an utterance, or go on with it after a pause."""
        await self.push(frame)
        if not self._listening:
            await self._begin(frame)

    @handles(SpeechStopped, queued=True)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Note the end of the latest speech."""
        self._stopped_at = frame.at
        await self.push(frame)

    @handles(EndOfTurn, queued=True)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Push the final transcript, then the end of the turn."""
        if self._listening:
            self._utterance.append(frame)
            self._ending = True
            try:
                await self._finish(max(frame.at, self._stopped_at))
            finally:
                self._ending = False
            self._utterance.clear()
        if not self._released:
            await self.push(frame)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    def release(self) -> tuple[Input, ...]:
        """Return the speech that has no transcript yet, and transcribe none of it here any more.

        The audio from before the detected start comes first, then the `SpeechStarted`, the rest, and the `EndOfTurn`
        if it was here already, and then the audio of the last `preroll_ms` from between utterances.
        """
        speech = (*self._utterance, *self._recent)
        self._released, self._listening = True, False
        self._patience.give_up()
        if self._work is not None:
            self._work.stop()
        if self._leaves is not None and not self._leaves.done():
            self._leaves.set_result(None)
        self._utterance = []
        self._recent.clear()
        self._recent_s = 0.0
        if self._mono is not None:
            self._mono.reset()
        return speech

    def adopt(self, speech: Sequence[Input]) -> None:
        """Transcribe the speech that another service has released, before all later frames."""
        assert self._lane is not None
        self._lane.put_all(self._relive, speech, up=False)

    async def _relive(self, frame: Input) -> None:
        # The other service has pushed all of them on already, except the end of the turn.
        if isinstance(frame, UserAudio):
            await self._hear_or_keep(frame)
        elif isinstance(frame, SpeechStarted):
            await self._begin(frame)
        elif isinstance(frame, EndOfTurn):
            await self.end_of_turn(frame)

    # -- the service -----------------------------------------------------------------------------------------------

    async def _begin(self, start: SpeechStarted) -> None:
        self._listening, self._failed = True, None
        self._started_at, self._fed_s = start.at, 0.0
        kept, self._recent_s = list(self._recent), 0.0
        self._recent.clear()
        self._utterance_id = start.utterance or self.session.conversation.new_id()
        self._utterance = [*kept, msgspec.structs.replace(start, utterance=self._utterance_id)]
        await self._ask(self._begin_anew)
        for frame in kept:
            await self._feed(self._converted(frame))

    def _hear_or_keep(self, frame: UserAudio) -> Awaitable[None]:
        if self._listening:
            return self._hear(frame)
        if frame.audio:
            self._keep(frame)
        return DONE

    async def _hear(self, frame: UserAudio) -> None:
        self._utterance.append(frame)
        await self._feed(self._converted(frame))
        if self._fed_s >= self.max_utterance_s and self._listening:
            end_s = frame.at + frame.duration_s
            await self._finish(end_s)
            if not self._released:
                await self._begin(SpeechStarted(at=end_s))

    def _keep(self, frame: UserAudio) -> None:
        recent = self._recent
        recent.append(frame)
        self._recent_s += frame.duration_s
        while self._recent_s - (oldest_s := recent[0].duration_s) > self.preroll_ms / 1000:
            recent.pop(0)
            self._recent_s -= oldest_s

    def _converted(self, frame: UserAudio) -> bytes:
        """Return audio of the utterance as the service takes it."""
        self._fed_s += frame.duration_s
        if self._mono is None:
            if frame.channels == 1 and frame.sample_rate == self.sample_rate:
                return frame.audio
            self._mono = MonoAt(self.sample_rate)
        return self._mono.process(frame.audio, frame.sample_rate, frame.channels)

    async def _feed(self, pcm: bytes) -> None:
        if not pcm or self._failed is not None:
            return
        # In this task, because it is called for each piece of audio, and nearly always returns at once.
        try:
            interim = await self._patience.wait(self.feed(pcm), self.timeout_s)
            if interim:
                self._check_interim(interim)
                await self.tell_interim(interim)
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
        self._patience = Patience(self._leave_behind, self.session.deadlines.stop_s)
        assert self._lane is not None
        self._lane.leave_behind(f"its cancellation for {self.session.deadlines.stop_s:g} s")

    def _check_interim(self, interim: object) -> None:
        if not isinstance(interim, str):
            raise ConfigurationError(f"{self.name}.feed returns {type(interim).__name__}, not str")

    async def tell_interim(self, text: str) -> None:
        """Push an interim text of the utterance in progress, for services whose texts arrive at any time."""
        transcript = UserTranscript(text=text, final=False, start_s=self._started_at, utterance=self._utterance_id)
        told = await self.session.hooks.transcript(transcript)
        going_on = self._listening and transcript.utterance == self._utterance_id
        if told is not None and going_on and not self._released:
            await self.push_up(told)  # turn-taking sits above
            await self.push(told)

    async def _finish(self, end_s: float) -> None:
        if self._mono is not None:
            await self._feed(self._mono.flush())
        self._listening = False
        fed_s = self._fed_s
        said = await self._ask(self._final_text)
        if self._failed is not None and not self._released:
            said = await self._once_more()
        heard = said or self.partial()
        # After what follows from the transcript: the caller waits for that.
        usage = Usage(service=self.name, model=self.model, input_audio_s=fed_s)
        asyncio.get_running_loop().call_soon(self.broadcast, usage)
        await self._tell(
            UserTranscript(
                text=heard.text.strip(),
                start_s=self._started_at,
                end_s=end_s,
                utterance=self._utterance_id,
                confidence=heard.confidence,
                language=heard.language,
                words=heard.words,
                failed=said is None and not heard.text.strip(),
            )
        )

    async def _begin_anew(self) -> None:
        await self._recovery.ready()
        await self.in_work("begin", result_of(self, "begin", self.begin, object), self.timeout_s)

    async def _final_text(self) -> Transcription:
        said = await self.in_work("finish", result_of(self, "finish", self.finish, Transcription), self.timeout_s)
        if not isinstance(said.text, str):
            raise ConfigurationError(f"{self.name}.finish returns a text of type {type(said.text).__name__}, not str")
        self._recovery.worked()
        return said

    async def _once_more(self) -> Transcription | None:
        """Give the service the utterance once more after a failure. Returns None if that fails, too."""
        again = self._recovery.failed(self._failed or ServiceError("it has failed")) and self.reopens
        if again and not self._released and not isinstance(self._failed, ConfigurationError):
            log.info("session %s: %s gets an utterance once more: %s", self.session.id, self.name, self._failed)
            self._failed = None
            said = await self._ask(self._transcribe_anew)
            if self._failed is None:
                return said
            self._recovery.failed(self._failed)
        if self.failure is None:
            if not self._released:
                self.session.report(_reported(self._failed), self.name)
        elif self.replaceable and not self._released:
            # The next engine takes the utterance, unless the change of engines fails.
            self._leaves = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._leaves}, timeout=self.timeout_s)
        return None

    async def _transcribe_anew(self) -> Transcription:
        """Give the service the whole utterance."""
        await self._begin_anew()
        if self._mono is not None:
            self._mono.reset()
        block = b""
        for frame in [frame for frame in self._utterance if isinstance(frame, UserAudio)]:
            block += self._converted(frame)
            if len(block) >= 2 * self.sample_rate:
                await self.in_work("feed", result_of(self, "feed", partial(self.feed, block), object), self.timeout_s)
                block = b""
        if self._mono is not None:
            block += self._mono.flush()
        if block:
            await self.in_work("feed", result_of(self, "feed", partial(self.feed, block), object), self.timeout_s)
        return await self._final_text()

    async def in_work(self, method: str, call: Coroutine[Any, Any, Result], limit_s: float) -> Result:
        """Run code of the service in a task of its own. Raises Overdue after `limit_s` seconds."""
        work: Work[Result] = Work(self, f"{self.name}.{method}", limit_s)
        self._work = work
        try:
            return await work.run(call)
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
        self._failed = DeadlineExceeded(f"the service took longer than {self.timeout_s:g} s")

    async def _tell(self, transcript: UserTranscript) -> None:
        if self._released:
            return
        try:
            told = await self._patience.wait(self.session.hooks.transcript(transcript), math.inf)
        except Overdue:
            return
        if self._released:
            return  # another service transcribes it
        if transcript.final and transcript.utterance == self._utterance_id:
            self._utterance = [frame for frame in self._utterance if isinstance(frame, EndOfTurn)]
        if told is not None:
            await self.push_up(told)  # turn-taking sits above
            await self.push(told)


def _reported(error: Exception | None) -> Exception:
    """Return the error to report for a failure of the service."""
    message = f"no transcript: {str(error) or type(error).__name__}"
    return DeadlineExceeded(message) if isinstance(error, DeadlineExceeded) else ServiceError(message)
