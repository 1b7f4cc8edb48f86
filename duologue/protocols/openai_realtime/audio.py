"""The audio formats of OpenAI's Realtime API: PCM at 24 kHz, and G.711 for telephony."""

from __future__ import annotations

import numpy as np

from ...audio import alaw, mulaw

FORMAT_RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
"""Formats and their sample rates in Hz."""


def decode_audio(kind: str, audio: bytes) -> bytes:
    """Return the audio of a format as s16le."""
    if kind == "audio/pcm":
        return audio
    return mulaw.decode(audio) if kind == "audio/pcmu" else alaw.decode(audio)


def encode_audio(kind: str, pcm: bytes) -> bytes:
    """Return s16le as audio of a format."""
    if kind == "audio/pcm":
        return pcm

    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    size = np.abs(samples)
    if kind == "audio/pcmu":
        size = np.minimum(size, 32_635) + 132
        segment = np.maximum(np.log2(size).astype(np.int32) - 7, 0)
        code = ~(np.where(samples < 0, 0x80, 0) | segment << 4 | size >> (segment + 3) & 0xF)
    else:
        size = np.minimum(size, 32_767)
        segment = np.maximum(np.log2(np.maximum(size, 1)).astype(np.int32) - 7, 0)
        code = (np.where(samples < 0, 0, 0x80) | segment << 4 | size >> (np.maximum(segment, 1) + 3) & 0xF) ^ 0x55
    audio: bytes = (code & 0xFF).astype(np.uint8).tobytes()
    return audio
