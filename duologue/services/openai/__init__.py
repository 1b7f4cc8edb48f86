"""OpenAI's services. They need the extra `openai`."""

from .options import (
    FunctionChoice,
    InputTranscription,
    OpenAIRealtimeOptions,
    RetentionRatio,
    SemanticVad,
    ServerVad,
    TokenLimits,
    Tracing,
)
from .realtime import OpenAIRealtime
from .stt import OpenAISTT
from .stt_options import OpenAIFileSTTOptions, OpenAISTTOptions

__all__ = [
    "FunctionChoice",
    "InputTranscription",
    "OpenAIFileSTTOptions",
    "OpenAIRealtime",
    "OpenAIRealtimeOptions",
    "OpenAISTT",
    "OpenAISTTOptions",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "TokenLimits",
    "Tracing",
]
