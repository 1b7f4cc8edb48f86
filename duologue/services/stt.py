"""`STT`: the base of speech-to-text services."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ..agents.engine import Billing
from ..frames import (
    EndOfTurn,
    Frame,
    Input,
    SpeechStarted,
    SpeechStopped,
    Usage,
    UserAudio,
    UserTranscript,
)
from ..processors.kernel.lane import DONE, Overdue
from ..processors.kernel.node import Node
from ..processors.processor import handles
from ..processors.turns.endpointing import check_turns
from .expected import ExpectsTerms
from .probable_end import TellsProbableEnd
from .transcribing import CallerSpeech, Transcribing, Transcription

__all__ = ["STT", "Transcription"]


class STT(ExpectsTerms, TellsProbableEnd):
    """Turns the caller's audio into `UserTranscript` frames, which go both down and up.

    A service implements `begin`, `feed` and `finish`; one with a connection derives from `RemoteSTT` instead. Between
    `SpeechStarted` and `EndOfTurn` it receives the audio, mono at `sample_rate`, from `preroll_ms` before the detected
    start, because a detector is sure only some time after the first sound. The final transcript precedes the
    `EndOfTurn` in the stream. A turn without speech has none.

    A service that fails, or takes longer than `timeout_s` for one of these calls, is left alone until the end of the
    utterance. Then it is closed and opened again, and gets the whole utterance once more. If that fails, too, the error
    is reported, and the transcript is `partial()` or else the latest interim text; an empty one is marked as `failed`.
    After three failures in a row the service is given up, unless it left a text: see `Recovery`. An utterance longer
    than `max_utterance_s` is transcribed in parts of that length.

    An `EagerEndOfTurn` goes on with the latest interim text, and once more with each later one, behind a `TurnResumed`.
    A service without interim texts drops it.
    """

    sample_rate: int = 16_000
    """The sample rate of the audio that the service receives, in Hz."""
    preroll_ms: int = 500
    """Milliseconds of audio that are kept from before the detected start."""
    billing: Billing = "audio"
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

    answered: bool = True
    """False if the service has not confirmed the text of the latest utterance: it may be lost."""
    hook: Callable[[UserTranscript], Awaitable[UserTranscript | None]] | None = None
    """Called with every transcript in the place of the session's hooks and watchers; returns what goes on, or None."""
    interims: Callable[[str], Awaitable[None]] | None = None
    """Takes the interim texts in place of the pipeline, for a service in a `Fallback`."""

    def __init__(self) -> None:
        super().__init__()
        self._speech = CallerSpeech(self)
        self._transcribing = Transcribing(self, self._speech)
        self._listening = False
        self._ending = False  # the end of the turn awaits its transcript
        self._stopped_at = 0.0

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require the ends of the caller's turns, unless the service gives them itself, and that `__init__` has run."""
        super().check_place(before, after)
        if EndOfTurn not in self.gives:
            check_turns(self, before, after)

    @property
    def at_work(self) -> STT:
        """The service that `Usage` names: this one, or the one of a `Fallback` that has the utterance."""
        return self

    async def open(self) -> None:
        """Begin to listen. Overriding methods call this first."""
        await super().open()
        if not self._transcribing.recovery.opening:
            assert self._lane is not None
            self._speech.released = False
            self._transcribing.open(self._lane)

    async def begin(self) -> None:
        """Begin an utterance."""

    async def feed(self, pcm: bytes) -> str:
        """Take more audio, mono s16le at `sample_rate`. Returns an interim text, "" for none."""
        raise NotImplementedError

    async def finish(self) -> Transcription:
        """End the utterance. Returns its text."""
        raise NotImplementedError

    def partial(self) -> Transcription:
        """Return the text that an utterance had before it failed, by default an empty one."""
        return Transcription(text="")

    def abandon(self) -> None:
        """Give up an utterance that failed, after its `partial`. Nothing to do by default: `begin` follows."""

    def take_at_once(self, frame: Frame) -> bool:
        """Keep audio from between utterances, also while a transcript is awaited: it needs no task."""
        if self._listening or type(frame) is not UserAudio or type(self).audio is not STT.audio:
            return False
        assert self._lane is not None
        if len(self._lane) if self._ending else self._lane.busy:
            return False
        if frame.audio:
            self._speech.keep(frame)
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
        self._probable_end.clear()
        if self._listening:
            self._speech.frames.append(frame)
            self._ending = True
            try:
                await self._finish(max(frame.at, self._stopped_at))
            finally:
                self._ending = False
            self._speech.clear()
        if not self._speech.released:
            await self.push(frame)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    def release(self) -> tuple[Input, ...]:
        """Return the speech that has no transcript yet, and transcribe none of it here any more.

        The audio from before the detected start comes first, then the `SpeechStarted`, the rest, and the `EndOfTurn`
        if it was here already, and then the audio of the last `preroll_ms` from between utterances.
        """
        cut, self._listening = self._listening, False
        speech = self._speech.release()
        self._transcribing.stop(cut=cut)
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

    # -- the utterance ---------------------------------------------------------------------------------------------

    async def _begin(self, start: SpeechStarted) -> None:
        self._listening = True
        self._probable_end.begin()
        utterance = start.utterance or self.session.conversation.new_id()
        kept = self._speech.begin(msgspec.structs.replace(start, utterance=utterance))
        await self._transcribing.begin()
        for frame in kept:
            await self._transcribing.feed(self._speech.converted(frame))

    def _hear_or_keep(self, frame: UserAudio) -> Awaitable[None]:
        if self._listening:
            return self._hear(frame)
        if frame.audio:
            self._speech.keep(frame)
        return DONE

    async def _hear(self, frame: UserAudio) -> None:
        speech = self._speech
        speech.frames.append(frame)
        await self._transcribing.feed(speech.converted(frame))
        if speech.fed_s >= self.max_utterance_s and self._listening:
            end_s = frame.at + frame.duration_s
            await self._finish(end_s)
            if not speech.released:
                await self._begin(SpeechStarted(at=end_s))

    async def tell_interim(self, text: str) -> None:
        """Push an interim text of the utterance in progress, for services whose texts arrive at any time."""
        if self.interims is not None:
            await self.interims(text)
            return
        speech = self._speech
        speech.told = text if self._listening else speech.told
        transcript = UserTranscript(text=text, final=False, start_s=speech.began_at, utterance=speech.utterance)
        told = await (self.hook or self.session.hooks.transcript)(transcript)
        going_on = self._listening and transcript.utterance == speech.utterance
        if told is not None and going_on and not speech.released:
            await self.push_up(told)  # turn-taking sits above
            await self.push(told)
            await self._probable_end.heard(told.text)

    async def _finish(self, end_s: float) -> None:
        speech = self._speech
        await self._transcribing.feed(speech.rest())
        self._listening = False
        fed_s = speech.fed_s
        said = await self._transcribing.finish()
        heard = said or self._transcribing.left()
        if said is None:
            self.abandon()
        usage = Usage(service=self.at_work.name, model=self.at_work.model, input_audio_s=fed_s)
        self._transcribing.metering.report_soon(usage, heard.usage)
        await self._tell(
            UserTranscript(
                text=heard.text.strip(),
                start_s=speech.began_at,
                end_s=end_s,
                utterance=speech.utterance,
                confidence=heard.confidence,
                language=heard.language,
                words=heard.words,
                failed=said is None and not heard.text.strip(),
            )
        )

    async def _tell(self, transcript: UserTranscript) -> None:
        if self._speech.released:
            return
        try:
            hook = self.hook or self.session.hooks.transcript
            told = await self._transcribing.patience.wait(hook(transcript), math.inf)
        except Overdue:
            return
        if self._speech.released:
            return  # another service transcribes it
        if transcript.final:
            self._speech.transcribed(transcript.utterance)
        if told is not None:
            await self.push_up(told)  # turn-taking sits above
            await self.push(told)
