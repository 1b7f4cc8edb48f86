"""OpenAI's services. Need the extra `openai`."""

from .options import (
    FunctionChoice,
    OpenAIRealtimeOptions,
    RetentionRatio,
    SemanticVad,
    ServerVad,
    TokenLimits,
    Tracing,
    Transcription,
)
from .realtime import OpenAIRealtime

__all__ = [
    "FunctionChoice",
    "OpenAIRealtime",
    "OpenAIRealtimeOptions",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "TokenLimits",
    "Tracing",
    "Transcription",
]
