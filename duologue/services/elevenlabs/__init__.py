"""ElevenLabs' services. They need the extra `elevenlabs`."""

from __future__ import annotations

from .stt import ElevenLabsSTT
from .stt_options import ElevenLabsSTTOptions
from .tts import ElevenLabsTTS
from .tts_options import ElevenLabsTTSOptions, PronunciationDictionary, VoiceSettings

__all__ = [
    "ElevenLabsSTT",
    "ElevenLabsSTTOptions",
    "ElevenLabsTTS",
    "ElevenLabsTTSOptions",
    "PronunciationDictionary",
    "VoiceSettings",
]
