"""Google's services (extra `google`)."""

from .live import GeminiLive
from .options import GeminiLiveOptions

__all__ = ["GeminiLive", "GeminiLiveOptions"]
