"""`STT`: the base of speech-to-text services."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from ..audio.resample import MonoAt
from ..errors import DeadlineExceeded, ServiceError
from ..frames import EndOfTurn, Frame, Input, SpeechStarted, SpeechStopped, Usage, UserAudio, UserTranscript, Word
from ..processors.kernel.lane import DONE, Overdue, Patience
from ..processors.kernel.node import Node
from ..processors.processor import Processor, handles
from ..processors.turns.endpointing import check_turns

Result = TypeVar("Result")


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

    A service that fails, or takes longer than `timeout_s` for one of these calls, is not called again until the next
    utterance. The transcript of this one is `partial()`, by default empty. An utterance longer than `max_utterance_s`
    is transcribed in parts of that length.
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

    replaceable: bool = False
    """True while another engine can take the call if this service fails for good."""

    def __init__(self) -> None:
        self._recent: list[UserAudio] = []
        self._recent_s = 0.0
        self._mono: MonoAt | None = None  # made for the first audio that must be converted
        self._listening = False
        self._ending = False  # the end of the turn awaits its transcript
        self._failed = False
        self._released = False
        self._patience = Patience()
        self._utterance: list[Input] = []  # frames without a transcript
        self._started_at = 0.0
        self._utterance_id = ""
        self._stopped_at = 0.0
        self._fed_s = 0.0

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require the ends of the caller's turns, unless the service gives them itself."""
        super().check_place(before, after)
        if EndOfTurn not in self.gives:
            check_turns(self, before, after)

    async def open(self) -> None:
        """Begin to listen. Overriding methods call this first."""
        self._released = False

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
        self._listening, self._failed = True, False
        self._started_at, self._fed_s = start.at, 0.0
        kept, self._recent_s = list(self._recent), 0.0
        self._recent.clear()
        self._utterance_id = start.utterance or self.session.conversation.new_id()
        self._utterance = [*kept, msgspec.structs.replace(start, utterance=self._utterance_id)]
        await self._ask(None, self.begin)
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
        if pcm and (interim := await self._ask("", self.feed, pcm)):
            await self.tell_interim(interim)

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
        said = await self._ask(None, self.finish) or self.partial()
        # After what follows from the transcript: the caller waits for that.
        usage = Usage(service=self.name, model=self.model, input_audio_s=self._fed_s)
        asyncio.get_running_loop().call_soon(self.broadcast, usage)
        await self._tell(
            UserTranscript(
                text=said.text.strip(),
                start_s=self._started_at,
                end_s=end_s,
                utterance=self._utterance_id,
                confidence=said.confidence,
                language=said.language,
                words=said.words,
            )
        )

    async def _ask(self, otherwise: Result, call: Callable[..., Awaitable[Result]], *args: Any) -> Result:
        """Return the service's answer, or `otherwise` after a failure and for the rest of that utterance."""
        if self._failed:
            return otherwise
        try:
            return await self._patience.wait(call(*args), self.timeout_s)
        except Overdue:
            if not self._released:
                self._fail(DeadlineExceeded(f"no transcript: the service took longer than {self.timeout_s:g} s"))
        except Exception as error:
            self._fail(ServiceError(f"no transcript: {str(error) or type(error).__name__}"))
        return otherwise

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self.session.report(error, self.name)

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
