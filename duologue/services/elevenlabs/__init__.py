"""ElevenLabs' services. They need the extra `elevenlabs`."""

from __future__ import annotations

from .tts import ElevenLabsTTS
from .tts_options import ElevenLabsTTSOptions, PronunciationDictionary, VoiceSettings

__all__ = ["ElevenLabsTTS", "ElevenLabsTTSOptions", "PronunciationDictionary", "VoiceSettings"]
