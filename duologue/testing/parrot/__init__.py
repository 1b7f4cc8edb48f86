"""Parrot: a made-up vendor of speech-to-text and text-to-speech, as an example and for tests.

Its server is `duologue.testing.scripted.parrot.ScriptedParrot`. Needs the extra `testing`.
"""

from __future__ import annotations

from .options import ParrotSTTOptions, ParrotTTSOptions
from .stt import ParrotSTT
from .tts import ParrotTTS

__all__ = ["ParrotSTT", "ParrotSTTOptions", "ParrotTTS", "ParrotTTSOptions"]
