"""`LogMel`: the features of speech that Whisper's encoder takes.

The logarithm of the power in 80 bands of the mel scale, in steps of 10 ms, as in `log_mel_spectrogram` of
openai/whisper (`whisper/audio.py`) and `WhisperFeatureExtractor` of huggingface/transformers.
"""

from __future__ import annotations

from .._arrays import Samples

SAMPLE_RATE = 16_000
BANDS = 80
STEP = 160
"""Samples between two columns of the features, 10 ms."""
_WINDOW = 400  # samples, 25 ms
_FLOOR = 1e-10  # the least power
_RANGE = 8.0  # powers of ten below the loudest band that are kept
_LINEAR_HZ, _LINEAR_MELS = 1000.0, 15.0  # Slaney's mel scale is linear up to here
_HZ_PER_MEL = 200 / 3
_LOG_STEP = 6.4 ** (1 / 27)  # the ratio of the frequencies of two mels above that


class LogMel:
    """Makes the features of audio at 16 kHz. One instance serves all calls, from any thread."""

    def __init__(self) -> None:
        import numpy as np

        self._window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        self._bands = _mel_bands()

    def features(self, samples: Samples) -> Samples:
        """Return the features of samples: `BANDS` rows, and a column for each `STEP` samples.

        The audio is scaled to mean 0 and variance 1 first: its level makes no difference. The signal is mirrored at
        its ends.
        """
        import numpy as np

        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        mirrored = np.pad(samples, _WINDOW // 2, mode="reflect")
        pieces = np.lib.stride_tricks.sliding_window_view(mirrored, _WINDOW)[::STEP][: len(samples) // STEP]
        spectrum = np.fft.rfft(pieces * self._window, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        logs = np.log10(np.maximum(self._bands @ power.T.astype(np.float32), _FLOOR))
        scaled: Samples = (np.maximum(logs, logs.max() - _RANGE) / 4 + 1).astype(np.float32)
        return scaled


def _mel_bands() -> Samples:
    """Return the weight of each frequency in each band: triangles of equal area, as in Slaney's Auditory Toolbox."""
    import numpy as np

    top = _LINEAR_MELS + np.log(SAMPLE_RATE / 2 / _LINEAR_HZ) / np.log(_LOG_STEP)
    mels = np.linspace(0.0, top, BANDS + 2)
    edges = np.where(mels < _LINEAR_MELS, mels * _HZ_PER_MEL, _LINEAR_HZ * _LOG_STEP ** (mels - _LINEAR_MELS))
    hertz = np.linspace(0.0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    bands: Samples = np.maximum(0.0, np.minimum(rising, falling)) * 2 / (high - low)
    return bands.astype(np.float32)
