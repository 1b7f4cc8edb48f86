"""OpenAI's services. They need the extra `openai`."""

from .chat_options import OpenAIChatOptions
from .file_stt import OpenAIFileSTT
from .llm import OpenAILLM
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
from .responses_llm import OpenAIResponsesLLM
from .responses_options import OpenAIResponsesOptions
from .stt import OpenAISTT
from .stt_options import OpenAIFileSTTOptions, OpenAISTTOptions
from .tts import OpenAITTS
from .tts_options import OpenAITTSOptions

__all__ = [
    "FunctionChoice",
    "InputTranscription",
    "OpenAIChatOptions",
    "OpenAIFileSTT",
    "OpenAIFileSTTOptions",
    "OpenAILLM",
    "OpenAIRealtime",
    "OpenAIRealtimeOptions",
    "OpenAIResponsesLLM",
    "OpenAIResponsesOptions",
    "OpenAISTT",
    "OpenAISTTOptions",
    "OpenAITTS",
    "OpenAITTSOptions",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "TokenLimits",
    "Tracing",
]
