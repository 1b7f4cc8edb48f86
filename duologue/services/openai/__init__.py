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

__all__ = [
    "FunctionChoice",
    "InputTranscription",
    "OpenAIRealtime",
    "OpenAIRealtimeOptions",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "TokenLimits",
    "Tracing",
]
