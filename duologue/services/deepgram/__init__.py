"""Deepgram's services. They need the extra `deepgram`."""

from .flux import DeepgramFluxSTT
from .options import DeepgramFluxOptions, DeepgramFluxTTSOptions, DeepgramSTTOptions, DeepgramTTSOptions
from .stt import DeepgramSTT
from .tts import DeepgramFluxTTS, DeepgramTTS

__all__ = [
    "DeepgramFluxOptions",
    "DeepgramFluxSTT",
    "DeepgramFluxTTS",
    "DeepgramFluxTTSOptions",
    "DeepgramSTT",
    "DeepgramSTTOptions",
    "DeepgramTTS",
    "DeepgramTTSOptions",
]
