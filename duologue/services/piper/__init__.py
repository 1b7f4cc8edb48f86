"""Text-to-speech by Piper in the process, with voice files that the application names. Needs the extra `piper`."""

from .options import PiperOptions
from .tts import PiperTTS

__all__ = ["PiperOptions", "PiperTTS"]
