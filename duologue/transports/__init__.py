"""Transports connect a call to a client. Each has an `input()` and an `output()` processor for a pipeline."""

from .base import TransportInput, TransportOutput
from .local import LocalAudioTransport
from .memory import MemoryTransport
from .playout.base import PlayoutSettings
from .playout.playout import Playout
from .wav import WavTransport

__all__ = [
    "LocalAudioTransport",
    "MemoryTransport",
    "Playout",
    "PlayoutSettings",
    "TransportInput",
    "TransportOutput",
    "WavTransport",
]
