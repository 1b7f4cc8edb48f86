"""`NoiseSuppression` and `EchoCancellation`: the caller's audio without noise, without the agent's own voice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from .._arrays import Int16s
from ..audio.pcm import BYTES_PER_SAMPLE, downmix
from ..audio.track import SEAM_S, Track
from ..errors import BadInput, ConfigurationError, check_installed
from ..frames import End, Frame, UserAudio
from .processor import Processor, handles

REDUCTIONS_DB = (6, 12, 18, 21)
"""The strengths of noise suppression that WebRTC has, in decibels."""
MAX_REFERENCE_S = 30.0
"""Seconds of the agent's audio that wait for the caller's. Beyond that they are dropped: no audio comes."""
_BLOCKS_PER_S = 100  # WebRTC's audio processing takes blocks of 10 ms
_RATES = (8_000, 384_000)
_GAP_S = 0.02  # audio whose time is further from the end of the previous audio begins anew


class AudioProcessing(Protocol):
    """WebRTC's audio processing, as the package `pywebrtc_audio` has it."""

    def process(self, near: Int16s, far: Int16s | None = None) -> Int16s:
        """Return a block of the caller's audio cleaned, of the echo of `far` too if that is given."""
        ...


class Cleaning(Processor):
    """Passes the caller's audio through WebRTC's audio processing, in mono. The base of the processors below.

    The audio leaves in whole blocks of 10 ms: the rest of a piece waits for the next one. Audio of a rate below 8 kHz
    passes unchanged, with one error.
    """

    gives = frozenset({UserAudio})
    needs: Mapping[type[Frame], str] = {UserAudio: "put the transport's input before it"}

    def __init__(self) -> None:
        check_installed("clean", "pywebrtc_audio")
        self._processing: AudioProcessing | None = None
        self._rate = 0
        self._rest = b""
        self._next_at = 0.0  # session time of the end of the audio that has come

    def make(self, sample_rate: int) -> AudioProcessing:
        """Return WebRTC's audio processing for a sample rate."""
        raise NotImplementedError

    def clean(self, processing: AudioProcessing, pcm: bytes, at: float) -> bytes:
        """Return a stretch of audio, cleaned. It begins at session time `at`, and has whole blocks but at the end."""
        import numpy as np

        return processing.process(np.frombuffer(pcm, "<i2")).astype("<i2", copy=False).tobytes()

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass a piece of audio on, cleaned."""
        if frame.sample_rate != self._rate:
            await self._flush()
            self._tune(frame)
        processing = self._processing
        if processing is None:
            await self.push(frame)
            return
        if self._rest and abs(frame.at - self._next_at) > _GAP_S:
            await self._flush()
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        at = self._next_at - len(self._rest) / (BYTES_PER_SAMPLE * self._rate) if self._rest else frame.at
        pcm = self._rest + pcm
        block = BYTES_PER_SAMPLE * (self._rate // _BLOCKS_PER_S)
        whole = len(pcm) - len(pcm) % block
        self._rest, self._next_at = pcm[whole:], at + len(pcm) / (BYTES_PER_SAMPLE * self._rate)
        if whole:
            await self._push_cleaned(processing, pcm[:whole], at)

    @handles(End)
    async def end(self, frame: End) -> None:
        """Pass on the rest of the audio before the end."""
        await self._flush()

    def _tune(self, frame: UserAudio) -> None:
        self._rate, self._processing = frame.sample_rate, None
        low, high = _RATES
        if low <= frame.sample_rate <= high:
            self._processing = self.make(frame.sample_rate)
        else:
            error = BadInput(f"audio of {frame.sample_rate} Hz stays as it is: {self.name} takes {low} to {high} Hz")
            self.session.report(error, self.name, frame)

    async def _flush(self) -> None:
        rest, self._rest = self._rest, b""
        if rest and self._processing is not None:
            at = self._next_at - len(rest) / (BYTES_PER_SAMPLE * self._rate)
            await self._push_cleaned(self._processing, rest, at)

    async def _push_cleaned(self, processing: AudioProcessing, pcm: bytes, at: float) -> None:
        await self.push(UserAudio(audio=self.clean(processing, pcm, at), sample_rate=self._rate, at=at))


class NoiseSuppression(Cleaning):
    """Takes steady noise out of the caller's audio (extra `clean`). Put it right after the transport's input.

    The noise becomes about `reduction_db` quieter: 6, 12, 18 or 21 dB. More reduction also takes more of the voice.
    Recognisers are trained on noise: measure if yours gains. The audio leaves 6 ms later, as mono. Raises
    ConfigurationError for another reduction, and MissingExtra without the extra.
    """

    def __init__(self, *, reduction_db: int = 12) -> None:
        super().__init__()
        if reduction_db not in REDUCTIONS_DB:
            raise ConfigurationError(f"reduction_db is {reduction_db!r}: it is one of {REDUCTIONS_DB}")
        self.reduction_db = reduction_db

    def make(self, sample_rate: int) -> AudioProcessing:
        """Return WebRTC's noise suppression."""
        from pywebrtc_audio import AudioProcessor

        level = REDUCTIONS_DB.index(self.reduction_db)
        return AudioProcessor(sample_rate=sample_rate, noise_suppression=True, ns_level=level)


class EchoCancellation(Cleaning):
    """Takes the agent's own voice out of the caller's audio (extra `clean`): WebRTC's AEC3.

    For callers without an echo cancellation of their own: a loudspeaker and a microphone in one room. Browsers and
    telephones have one. Put it right after the transport's input, before a `NoiseSuppression`. The reference is the
    audio that the transport's playout writes, at the times at which the far end plays it. AEC3 finds the delay of the
    echo after that, up to 0.5 s; `delay_ms` is the known part of a longer one. It learns the room from the first
    seconds of the agent's speech. The audio leaves 8 ms later, as mono. Clients that pace the agent's audio themselves
    (the OpenAI Realtime door) give no reference: their audio keeps its echo.

    Raises ConfigurationError for a delay outside 0 to 2,000 ms, and MissingExtra without the extra.
    """

    def __init__(self, *, delay_ms: int = 0) -> None:
        super().__init__()
        if not 0 <= delay_ms <= 2000:
            raise ConfigurationError(f"delay_ms is {delay_ms!r}: it lies between 0 and 2000")
        self._delay_s = delay_ms / 1000
        self._reference: Track | None = None
        self._place = 0  # the sample of the reference that is due
        self._stop: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Listen to the agent."""
        self._stop = self.session.audio.written.add(self._agent)

    async def close(self) -> None:
        """Stop listening."""
        self._stop()

    def make(self, sample_rate: int) -> AudioProcessing:
        """Return WebRTC's echo cancellation, with a new reference."""
        from pywebrtc_audio import AudioProcessor

        self._reference = Track(sample_rate)
        return AudioProcessor(sample_rate=sample_rate, echo_cancellation=True)

    def clean(self, processing: AudioProcessing, pcm: bytes, at: float) -> bytes:
        """Return a stretch of audio without the echo of what was played then."""
        import numpy as np

        assert self._reference is not None
        start = round((at - self._delay_s) * self._rate)
        if abs(start - self._place) < _GAP_S * self._rate:
            start = self._place  # the audio goes on
        self._place = start + len(pcm) // BYTES_PER_SAMPLE
        far = self._reference.render(start, self._place)
        near = np.frombuffer(pcm, "<i2")
        return processing.process(near, np.frombuffer(far, "<i2")).astype("<i2", copy=False).tobytes()

    def _agent(self, pcm: bytes, sample_rate: int, at: float) -> None:
        reference = self._reference
        if reference is None:  # no audio of the caller has come
            return
        if reference.held > MAX_REFERENCE_S * BYTES_PER_SAMPLE * self._rate:
            reference = self._reference = Track(self._rate)
        if at < reference.end / self._rate - SEAM_S:  # the transport has dropped what it had not played
            reference.cut(at)
        reference.add(pcm, sample_rate, at)
