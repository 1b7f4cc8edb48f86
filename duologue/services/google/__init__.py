"""Google's services. They need the extra `google`."""

from .llm import GeminiLLM
from .options import GeminiLiveOptions
from .realtime import GeminiLive
from .text_options import GeminiOptions

__all__ = ["GeminiLLM", "GeminiLive", "GeminiLiveOptions", "GeminiOptions"]
