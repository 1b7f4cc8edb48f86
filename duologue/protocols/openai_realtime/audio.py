"""The audio formats of OpenAI's Realtime API: PCM at 24 kHz, and G.711 for telephony."""

from __future__ import annotations

from ...audio.g711 import A_LAW, MU_LAW

FORMAT_RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
"""Formats and their sample rates in Hz."""
_G711 = {"audio/pcmu": MU_LAW, "audio/pcma": A_LAW}


def decode_audio(kind: str, audio: bytes) -> bytes:
    """Return the audio of a format as s16le."""
    return _G711[kind].decode(audio) if kind in _G711 else audio


def encode_audio(kind: str, pcm: bytes) -> bytes:
    """Return s16le as audio of a format."""
    return _G711[kind].encode(pcm) if kind in _G711 else pcm
