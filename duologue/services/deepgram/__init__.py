"""Deepgram's services. They need the extra `deepgram`."""

from .options import DeepgramSTTOptions
from .stt import DeepgramSTT

__all__ = ["DeepgramSTT", "DeepgramSTTOptions"]
