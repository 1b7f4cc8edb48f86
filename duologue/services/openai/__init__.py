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

__all__ = [
    "FunctionChoice",
    "OpenAIRealtimeOptions",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "TokenLimits",
    "Tracing",
    "Transcription",
]
