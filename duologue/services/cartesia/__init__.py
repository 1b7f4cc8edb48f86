"""Cartesia's speech-to-text and text-to-speech. They need the extra `remote`."""

from __future__ import annotations

from .stt import CartesiaSTT, CartesiaSTTOptions
from .tts import CartesiaTTS
from .tts_options import CartesiaTTSOptions

__all__ = ["CartesiaSTT", "CartesiaSTTOptions", "CartesiaTTS", "CartesiaTTSOptions"]
