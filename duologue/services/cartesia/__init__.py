"""Cartesia's speech-to-text. It needs the extra `remote`."""

from __future__ import annotations

from .stt import CartesiaSTT, CartesiaSTTOptions

__all__ = ["CartesiaSTT", "CartesiaSTTOptions"]
