"""`STT`: the base of speech-to-text services."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from ..errors import ServiceError
from ..frames import EndOfTurn, SpeechStarted, SpeechStopped, Usage, UserAudio, UserTranscript, Word
from ..processors.base import Processor, handles

if TYPE_CHECKING:
    from ..audio.resample import Resampler


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """What a service understood. `text` is empty if it understood nothing; word times from the utterance's start."""

    text: str
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()


class STT(Processor):
    """Turns the caller's audio into `UserTranscript` frames, which go both down and up.

    A service implements `begin`, `feed` and `finish`. Between `SpeechStarted` and `EndOfTurn` it is fed the audio,
    mono at `sample_rate`, from `preroll_ms` before the start was detected: a detector is sure only some time after
    the first sound. The final transcript stands before the `EndOfTurn` in the stream; without speech there is none.
    """

    sample_rate: int = 16_000
    """What the service wants, in Hz."""
    preroll_ms: int = 500
    """Audio kept for the case that speech has begun already."""
    model: str = ""

    def __init__(self) -> None:
        self._recent: deque[UserAudio] = deque()
        self._recent_s = 0.0
        self._resampler: Resampler | None = None
        self._listening = False
        self._started_at = 0.0
        self._stopped_at = 0.0
        self._fed_s = 0.0

    async def begin(self) -> None:
        """An utterance begins."""

    async def feed(self, pcm: bytes) -> str:
        """More of the utterance: mono s16le at `sample_rate`. Returns an interim text, "" for none."""
        raise NotImplementedError

    async def finish(self) -> Transcription:
        """The utterance is over: what was said."""
        raise NotImplementedError

    @handles(UserAudio, queued=True)
    async def audio(self, frame: UserAudio) -> None:
        """Keep or transcribe the audio, and pass it on."""
        if self._listening:
            await self._feed(frame)
        else:
            self._recent.append(frame)
            self._recent_s += frame.duration_s
            while self._recent_s - self._recent[0].duration_s > self.preroll_ms / 1000:
                self._recent_s -= self._recent.popleft().duration_s
        await self.push(frame)

    @handles(SpeechStarted, queued=True)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """An utterance begins, or goes on after a pause."""
        if not self._listening:
            self._listening = True
            self._started_at, self._fed_s = frame.at, 0.0
            await self.begin()
            kept = list(self._recent)
            self._recent.clear()
            self._recent_s = 0.0
            for audio in kept:
                await self._feed(audio)
        await self.push(frame)

    @handles(SpeechStopped, queued=True)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Remember when the last speech was."""
        self._stopped_at = frame.at
        await self.push(frame)

    @handles(EndOfTurn, queued=True)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Give the final transcript, then let the end of the turn pass. It passes also if the service fails."""
        try:
            if self._listening:
                await self._finish(frame)
        finally:
            await self.push(frame)

    async def _finish(self, frame: EndOfTurn) -> None:
        self._listening = False
        if self._resampler is not None and (rest := self._resampler.flush()):
            await self.feed(rest)
        try:
            said = await self.finish()
        except Exception as error:
            self.session.report(ServiceError(f"no transcript: {error}"), self.name, frame)
            said = Transcription(text="")
        self.broadcast(Usage(service=self.name, model=self.model, input_audio_s=self._fed_s))
        await self._tell(
            UserTranscript(
                text=said.text.strip(),
                start_s=self._started_at,
                end_s=max(frame.at, self._stopped_at),
                confidence=said.confidence,
                language=said.language,
                words=said.words,
            )
        )

    async def _feed(self, frame: UserAudio) -> None:
        pcm = frame.audio
        self._fed_s += frame.duration_s
        if frame.channels != 1:
            from ..audio.pcm import downmix

            pcm = downmix(pcm, frame.channels)
        if frame.sample_rate != self.sample_rate:
            if self._resampler is None or self._resampler.source_rate != frame.sample_rate:
                from ..audio.resample import Resampler

                self._resampler = Resampler(frame.sample_rate, self.sample_rate)
            pcm = self._resampler.process(pcm)
        if pcm and (interim := await self.feed(pcm)):
            await self._tell(UserTranscript(text=interim, final=False, start_s=self._started_at))

    async def _tell(self, transcript: UserTranscript) -> None:
        await self.push_up(transcript)  # turn-taking sits above
        await self.push(transcript)
