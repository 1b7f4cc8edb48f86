"""Google's services. They need the extra `google`."""

from .options import GeminiLiveOptions
from .realtime import GeminiLive

__all__ = ["GeminiLive", "GeminiLiveOptions"]
