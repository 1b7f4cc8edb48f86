"""ElevenLabs' services. They need the extra `elevenlabs`."""

from __future__ import annotations

from .http_tts import ElevenLabsHTTPTTS
from .stt import ElevenLabsSTT
from .stt_options import ElevenLabsSTTOptions
from .tts import ElevenLabsTTS
from .tts_options import ElevenLabsHTTPTTSOptions, ElevenLabsTTSOptions, PronunciationDictionary, VoiceSettings

__all__ = [
    "ElevenLabsHTTPTTS",
    "ElevenLabsHTTPTTSOptions",
    "ElevenLabsSTT",
    "ElevenLabsSTTOptions",
    "ElevenLabsTTS",
    "ElevenLabsTTSOptions",
    "PronunciationDictionary",
    "VoiceSettings",
]
