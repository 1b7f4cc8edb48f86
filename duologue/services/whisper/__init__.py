"""Speech-to-text by Whisper in the process, with a model that the application names. Needs the extra `whisper`."""

from .options import WhisperOptions
from .stt import WhisperSTT

__all__ = ["WhisperOptions", "WhisperSTT"]
