"""`Room`: the way from a caller's mouth to the pipeline: level, reverberation, noise, telephone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ....audio.resample import Resampler
from ..clips import pink
from .scripts import read_script
from .voices import RATE, Samples, speakers, speech_of

QUIET_DBFS = -72.0
"""The level of a quiet line's own noise."""
BAND_HZ = 300.0, 3_400.0
BACKGROUND_S = 10
"""The background repeats after this many seconds."""
TALKERS = 6
ECHO_DELAY_S = 0.06, 0.25
"""The least and the most delay of the agent's echo."""
ECHO_REVERB_S = 0.3


@dataclass(frozen=True, slots=True)
class Condition:
    """A kind of line. `snr_db` compares the speech with pink noise, or with the voices of others (`babble`)."""

    name: str
    snr_db: float | None = None
    babble: bool = False
    telephone: bool = False
    """True: 300 to 3,400 Hz, at 8 kHz."""
    reverb_s: float = 0.0
    """Seconds in which the reverberation falls by 60 dB."""

    @property
    def sample_rate(self) -> int:
        """The sample rate of the line, in Hz."""
        return 8_000 if self.telephone else RATE


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("clean"),
        Condition("20 dB", snr_db=20.0),
        Condition("10 dB", snr_db=10.0),
        Condition("babble", snr_db=10.0, babble=True),
        Condition("telephone", telephone=True, snr_db=30.0),
        Condition("reverb", reverb_s=0.5),
    )
}
ADVERSE = ("20 dB", "10 dB", "babble", "telephone", "reverb")


class Room:
    """The line of one caller, whose speech has a level of `level_dbfs`. The same seed gives the same noise."""

    def __init__(self, condition: Condition, which: str, language: str, level_dbfs: float, seed: int) -> None:
        self.condition = condition
        self.sample_rate = condition.sample_rate
        self._level = 10 ** (level_dbfs / 20)
        self._random = np.random.default_rng([seed, 1])
        self._echoes = self._impulse(condition.reverb_s, RATE) if condition.reverb_s else None
        size = BACKGROUND_S * RATE
        if condition.snr_db is None:
            noise, level = self._random.standard_normal(size), 10 ** (QUIET_DBFS / 20)
        else:
            noise = _talkers(which, language, seed % 4) if condition.babble else pink(size, self._random)
            noise = noise / np.sqrt((noise**2).mean())
            level = self._level * 10 ** (-condition.snr_db / 20)
        self._noise = noise * level
        self._place = 0

    def background(self) -> bytes:
        """Return the noise of the line while nobody speaks, to be repeated."""
        return self._sent(self._noise)

    def carried(self, samples: Samples, gain_db: float = 0.0) -> bytes:
        """Return sound as it arrives: s16le. It is longer by the reverberation."""
        sound = samples * (self._level * 10 ** (gain_db / 20))
        if self._echoes is not None:
            size = len(sound) + len(self._echoes) - 1
            sound = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(self._echoes, size), size)
        places = (np.arange(len(sound)) + self._random.integers(len(self._noise))) % len(self._noise)
        return self._sent(sound + self._noise[places])

    def echo_path(self, echo_db: float) -> Any:
        """Return the way from the agent's loudspeaker into the microphone: a delay, and the room."""
        rate = self.sample_rate
        delay = np.zeros(int(self._random.uniform(*ECHO_DELAY_S) * rate))
        return np.concatenate((delay, self._impulse(ECHO_REVERB_S, rate))) * 10 ** (echo_db / 20)

    def _impulse(self, reverb_s: float, rate: int) -> Any:
        """Return a room: the direct sound, and a tail 5 dB below it that decays. Its energy is 1."""
        size = int(0.8 * reverb_s * rate)
        tail = self._random.standard_normal(size) * 10 ** (-3 * np.arange(size) / (reverb_s * rate))
        tail[: rate // 200] = 0.0
        tail *= 10 ** (-5 / 20) / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        return tail / np.sqrt((tail**2).sum())

    def _sent(self, samples: Any) -> bytes:
        if self.condition.telephone:
            spectrum = np.fft.rfft(samples)
            bands = np.fft.rfftfreq(len(samples), 1 / RATE)
            spectrum[(bands < BAND_HZ[0]) | (bands > BAND_HZ[1])] = 0
            samples = np.fft.irfft(spectrum, len(samples))
        pcm: bytes = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
        if self.sample_rate == RATE:
            return pcm
        resampler = Resampler(RATE, self.sample_rate)
        return resampler.process(pcm) + resampler.flush()


@lru_cache(maxsize=64)
def _talkers(which: str, language: str, seed: int) -> Any:
    """Return the voices of `TALKERS` people at once."""
    random = np.random.default_rng([seed, 2])
    texts: Sequence[str] = [" ".join(turn.parts) for turn in read_script(which, language).turns]
    size = BACKGROUND_S * RATE
    mixed = np.zeros(size)
    for talker in range(TALKERS):
        people = speakers(which, language)
        said = np.concatenate(
            [speech_of(texts[i], people[talker % len(people)]).samples for i in random.permutation(len(texts))[:5]]
        )
        mixed += said[(np.arange(size) + random.integers(len(said))) % len(said)]
    return mixed
