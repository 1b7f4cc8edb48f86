"""Google's services (extra `google`)."""

from .options import GeminiLiveOptions
from .realtime import GeminiLive

__all__ = ["GeminiLive", "GeminiLiveOptions"]
