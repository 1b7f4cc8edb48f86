"""Parrot's models, voices and limits, as data."""

from __future__ import annotations

STT_MODELS = ("echo-1", "echo-2")
TTS_MODELS = ("squawk-1",)
VOICES = ("amber", "blue")
LANGUAGES = ("en", "fr")
STT_RATE = 16_000
TTS_RATE = 24_000
IDLE_S = 10.0
"""Seconds of silence on the wire after which the server closes a connection."""
