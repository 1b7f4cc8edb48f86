"""Google's services (extra `google`)."""

from .options import GeminiLiveOptions

__all__ = ["GeminiLiveOptions"]
