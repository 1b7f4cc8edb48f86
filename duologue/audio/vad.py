"""Detectors of voice activity, which score frames of audio; `Framer` cuts audio of any rate for them.

`LatestAudio` is the audio that was heard last, for closer looks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol, runtime_checkable

from ..errors import BadInput, ConfigurationError
from .pcm import BYTES_PER_SAMPLE, FLOOR_DBFS, check_rate, check_whole, rms_dbfs
from .resample import Resampler

_WEBRTC_RATES = (8000, 16000, 32000, 48000)
_WEBRTC_FRAMES_MS = (10, 20, 30)
# A fresh model calls the first background noise speech for up to 5 frames of 20 ms (modes 2 and 3, white noise from
# -70 to -30 dBFS, 40 seeds): without settling, each call would begin with the caller interrupting.
_WEBRTC_SETTLING_MS = 120
_MOST_WAITING = 16  # frames whose level is computed at once
_MOST_PIECES = 400  # of the latest audio
_GAP_S = 0.01  # shorter gaps are rounding, or jitter of the clock
_TRIM_S = 0.1  # the latest audio is trimmed as often
_NO_PIECES: deque[tuple[bytes, float]] = deque(maxlen=0)


class Detector(Protocol):
    """Scores one frame of audio after the other. A detector keeps state, so each stream needs its own."""

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the mono s16le audio that the detector takes."""
        ...

    @property
    def frame_samples(self) -> int:
        """The number of samples in each frame."""
        ...

    def is_speech(self, frame: bytes) -> float:
        """The score of one frame, from 0 (no speech) to 1. Raises BadInput for a frame of another size."""
        ...

    def reset(self) -> None:
        """Forget the stream."""
        ...


@runtime_checkable
class AgentAware(Protocol):
    """A detector that `Vad` tells when the agent speaks: its echo may be in the caller's audio then."""

    def agent_speaks(self, speaking: bool) -> None:
        """Take the news that the caller begins or ceases to hear the agent."""
        ...


class WebRtcVad:
    """The voice-activity detector of WebRTC: a small Gaussian mixture model, about 2 µs per frame. Scores 0.0 or 1.0.

    `aggressiveness` runs from 0 (most frames are speech) to 3 (fewest). `sample_rate` is 8000, 16000, 32000 or 48000
    Hz, `frame_ms` 10, 20 or 30. Raises ConfigurationError for any other value. The first 120 ms of sound (digital
    silence does not count) score 0.0 while the model settles.
    """

    def __init__(self, aggressiveness: int = 2, frame_ms: int = 20, sample_rate: int = 16000) -> None:
        check_choice("aggressiveness", aggressiveness, (0, 1, 2, 3))
        check_choice("frame_ms", frame_ms, _WEBRTC_FRAMES_MS)
        check_choice("sample_rate", sample_rate, _WEBRTC_RATES)
        self.aggressiveness = aggressiveness
        self.sample_rate = sample_rate
        self.frame_samples = sample_rate * frame_ms // 1000
        self._frame_bytes = self.frame_samples * BYTES_PER_SAMPLE
        self._settling_frames = _WEBRTC_SETTLING_MS // frame_ms
        self.reset()

    def is_speech(self, frame: bytes) -> float:
        """1.0 for speech, else 0.0. Raises BadInput for a frame of another size than `frame_samples`."""
        if len(frame) != self._frame_bytes:
            raise wrong_size(frame, self.frame_samples)
        speech = self._classify(self._state, self.sample_rate, frame, self.frame_samples)
        if self._unsettled:
            self._unsettled -= any(frame)
            return 0.0
        return 1.0 if speech else 0.0

    def reset(self) -> None:
        """Forget the levels of speech and noise."""
        import _webrtcvad  # the C module: the class around it checks what was checked here

        self._state, self._classify = _webrtcvad.create(), _webrtcvad.process
        _webrtcvad.init(self._state)
        _webrtcvad.set_mode(self._state, self.aggressiveness)
        self._unsettled = self._settling_frames


class EnergyVad:
    """Scores 1.0 for every frame whose level reaches `threshold_dbfs`, else 0.0. Exact and stateless, for tests.

    Raises ConfigurationError for a threshold outside -96..0 dBFS or an empty frame.
    """

    def __init__(self, threshold_dbfs: float = -45.0, frame_ms: int = 20, sample_rate: int = 16000) -> None:
        check_rate(sample_rate)
        if not FLOOR_DBFS < threshold_dbfs <= 0:
            raise ConfigurationError(f"threshold_dbfs is {threshold_dbfs!r}: it lies above {FLOOR_DBFS} and up to 0")
        self.threshold_dbfs = threshold_dbfs
        self.sample_rate = sample_rate
        self.frame_samples = sample_rate * frame_ms // 1000
        if self.frame_samples < 1:
            raise ConfigurationError(f"frame_ms is {frame_ms!r}: no sample fits into it at {sample_rate} Hz")

    def is_speech(self, frame: bytes) -> float:
        """1.0 for a frame at or above the threshold, else 0.0. Raises BadInput for a frame of another size."""
        if len(frame) != self.frame_samples * BYTES_PER_SAMPLE:
            raise wrong_size(frame, self.frame_samples)
        return 1.0 if rms_dbfs(frame) >= self.threshold_dbfs else 0.0

    def reset(self) -> None:
        """Do nothing: this detector is stateless."""


class NoiseGate:
    """Scores as `detector` does, and 0.0 for frames that do not rise `margin_db` above the noise floor.

    WebRTC's detector takes the first 100 ms of any noise for speech, and also the first 100 ms after speech. The noise
    floor follows the quietest frames at once and rises slowly: by 6 dB a second while `detector` scores speech, else by
    20 dB. Digital silence does not change it. It never falls below -60 dBFS and starts at -45 dBFS or below. Raises
    ConfigurationError for a margin outside 0 to 60 dB.
    """

    def __init__(self, detector: Detector, margin_db: float = 6.0) -> None:
        import numpy as np

        if not 0 <= margin_db <= 60:
            raise ConfigurationError(f"margin_db is {margin_db!r}: it lies between 0 and 60")
        self.sample_rate = detector.sample_rate
        self.frame_samples = detector.frame_samples
        self._detector = detector
        self._silence = bytes(detector.frame_samples * BYTES_PER_SAMPLE)
        self._waiting: list[bytes] = []  # frames without speech whose level was not looked at
        self._samples = np.empty(detector.frame_samples, np.float32)
        self._numpy = (np.frombuffer, np.dtype("<i2"), self._samples.dot)
        full_scale = 32768.0**2 * self.frame_samples
        frame_s = self.frame_samples / self.sample_rate
        self._margin = _power(margin_db)
        self._lowest, self._first = full_scale * _power(-60), full_scale * _power(-45)
        self._slow, self._fast = _power(6 * frame_s), _power(20 * frame_s)
        self._floor = self._first

    def is_speech(self, frame: bytes) -> float:
        """The detector's score, or 0.0 at the level of the noise. Raises BadInput as the detector does."""
        score = self._detector.is_speech(frame)
        if not score:
            # Its level is not needed yet: that of several frames at once costs a third.
            if frame != self._silence:
                self._waiting.append(frame)
                if len(self._waiting) >= _MOST_WAITING:
                    self._settle()
            return 0.0
        if self._waiting:
            self._settle()
        from_bytes, int16, dot = self._numpy
        samples = self._samples
        samples[...] = from_bytes(frame, int16)
        energy = float(dot(samples))
        if energy:
            self._floor = max(self._lowest, min(energy, self._floor * self._slow))
        return score if energy >= self._floor * self._margin else 0.0

    def _settle(self) -> None:
        """Let the noise floor follow the frames that the detector did not take for speech."""
        import numpy as np

        from_bytes, int16, _ = self._numpy
        samples = from_bytes(b"".join(self._waiting), int16).reshape(len(self._waiting), -1).astype(np.float32)
        self._waiting.clear()
        floor, lowest, fast = self._floor, self._lowest, self._fast
        for energy in np.matmul(samples[:, None, :], samples[:, :, None]).ravel().tolist():
            floor = max(lowest, min(energy, floor * fast))
        self._floor = floor

    def reset(self) -> None:
        """Forget the noise, and reset the detector."""
        self._floor = self._first
        self._waiting.clear()
        self._detector.reset()


def _power(db: float) -> float:
    return float(10 ** (db / 10))


def default_detector(sample_rate: int) -> NoiseGate:
    """Return WebRTC's detector behind a `NoiseGate`, at the rate of the line if it takes that, else at 16 kHz."""
    return NoiseGate(WebRtcVad(sample_rate=sample_rate if sample_rate in _WEBRTC_RATES else 16_000))


class Score(NamedTuple):
    """The score of one frame."""

    score: float
    end: int
    """The end of the frame, in source samples from the start of the stream."""


class Framer:
    """Cuts mono s16le audio of `source_rate`, in pieces of any size, into a detector's frames.

    The end of a piece that does not fill a frame waits for the next piece. Positions count all source samples since
    construction, also across a `reset`. If the rates differ, the audio is resampled: frames are scored a few
    milliseconds later (see `Resampler.latency_s`), at the same positions. Raises BadInput for an impossible rate and
    for a piece that splits a sample.
    """

    def __init__(self, detector: Detector, source_rate: int) -> None:
        check_rate(source_rate, "source_rate")
        self._detector = detector
        self._source_rate = source_rate
        self._detector_rate = detector.sample_rate
        self._frame_samples = detector.frame_samples
        self._frame_bytes = detector.frame_samples * BYTES_PER_SAMPLE
        self._resampler = None if source_rate == detector.sample_rate else Resampler(source_rate, detector.sample_rate)
        self._is_speech = detector.is_speech
        self._rest = b""
        self.fed = 0
        """Source samples that were given to it."""
        self._origin = 0
        self._scored = 0

    def score(self, pcm: bytes) -> float | None:
        """Return the score of a piece that is exactly the next frame. Returns None for any other: call `process`."""
        if len(pcm) != self._frame_bytes or self._rest or self._resampler is not None:
            return None
        self.fed += self._frame_samples
        self._scored += self._frame_samples
        return self._is_speech(pcm)

    def process(self, pcm: bytes) -> list[Score]:
        """Return the scores of the frames that `pcm` completes, in order."""
        score = self.score(pcm)
        if score is not None:
            return [Score(score, self.fed)]
        check_whole(pcm)
        self.fed += len(pcm) // BYTES_PER_SAMPLE
        audio = self._rest + (pcm if self._resampler is None else self._resampler.process(pcm))
        whole = len(audio) - len(audio) % self._frame_bytes
        self._rest = audio[whole:]
        return [self._score(audio[start : start + self._frame_bytes]) for start in range(0, whole, self._frame_bytes)]

    def reset(self) -> None:
        """Forget the unfinished frame and reset the detector. The next frame begins with the next piece."""
        self._rest = b""
        self._origin = self.fed
        self._scored = 0
        if self._resampler is not None:
            self._resampler.reset()
        self._detector.reset()

    def _score(self, frame: bytes) -> Score:
        self._scored += self._frame_samples
        end = self._origin + round(self._scored * self._source_rate / self._detector_rate)
        return Score(self._is_speech(frame), end)


class LatestAudio:
    """The latest audio of one side of a call: mono s16le, with its session times in seconds.

    It keeps the last `seconds` of it; `more_s` within as much time after `voiced_until`, the end of the latest voice.
    """

    __slots__ = ("_pieces", "_trims_at", "end_s", "more_s", "rate", "seconds", "voiced_until")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.more_s = seconds, 0.0
        self.voiced_until = -math.inf
        self.rate = 0
        """The sample rate in Hz; 0 without audio."""
        self.end_s = -math.inf
        """The time at which the audio ends."""
        self._pieces = _NO_PIECES
        self._trims_at = -math.inf

    def clear(self) -> None:
        """Forget the audio."""
        self.rate, self.end_s, self._pieces = 0, -math.inf, _NO_PIECES

    def add(self, pcm: bytes, sample_rate: int, at: float) -> None:
        """Add a piece. Silence fills a gap; after a longer one, or at another rate, the audio begins anew.

        The piece is kept, and nothing is copied.
        """
        if at - self.end_s > _GAP_S or sample_rate != self.rate:
            self._begin(sample_rate, at)
        self._pieces.append((pcm, at))
        self.end_s = end_s = at + len(pcm) / (2 * sample_rate)
        if end_s > self._trims_at:
            self._trim()

    def _begin(self, sample_rate: int, at: float) -> None:
        gap_s = at - self.end_s
        if sample_rate != self.rate or gap_s > self._kept_s(at):
            self._pieces = deque(maxlen=_MOST_PIECES)
            self.rate = sample_rate
        else:
            self._pieces.append((bytes(2 * round(gap_s * sample_rate)), self.end_s))

    def _kept_s(self, at: float) -> float:
        return self.more_s if at - self.voiced_until <= self.more_s else self.seconds

    def _trim(self) -> None:
        """Drop what is too old."""
        pieces = self._pieces
        if not pieces:
            return
        oldest = self.end_s - self._kept_s(pieces[-1][1])
        while len(pieces) > 1 and pieces[1][1] <= oldest:
            pieces.popleft()
        self._trims_at = self.end_s + _TRIM_S

    def last(self, seconds: float, *, before_s: float = 0.0) -> tuple[bytes, int]:
        """Return the last seconds of the audio, or of the audio up to `before_s` seconds before its end, and its rate.

        There may be less.
        """
        self._trim()
        rate = self.rate
        skipped, wanted = 2 * round(before_s * rate), 2 * round((before_s + seconds) * rate)
        parts: list[bytes] = []
        size = 0
        for pcm, _ in reversed(self._pieces):
            parts.append(pcm)
            size += len(pcm)
            if size >= wanted:
                break
        audio = b"".join(reversed(parts))
        return audio[max(0, len(audio) - wanted) : max(0, len(audio) - skipped)], rate


def check_choice(name: str, value: int, choices: tuple[int, ...]) -> None:
    """Raise ConfigurationError, naming the setting, for a value that is not one of the choices."""
    if type(value) is not int or value not in choices:
        raise ConfigurationError(f"{name} is {value!r}: it must be one of {', '.join(map(str, choices))}")


def wrong_size(frame: bytes, frame_samples: int) -> BadInput:
    """Return the error of an audio frame of another size than the detector takes."""
    wanted = frame_samples * BYTES_PER_SAMPLE
    return BadInput(f"a frame of {len(frame)} bytes: the detector takes {frame_samples} samples, {wanted} bytes")
