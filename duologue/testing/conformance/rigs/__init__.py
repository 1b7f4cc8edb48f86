"""Rigs for the engines of Duologue. Each module needs the extras of its engine."""

from __future__ import annotations

from ..rig import Rig


def all_rigs() -> list[Rig]:
    """The cascades of local and of remote services, and the native engines with either side's turn detection.

    Raises MissingExtra without the extras `local`, `openai`, `google`, `deepgram`, `elevenlabs` and `testing`.
    """
    from .cascade import CascadeRig
    from .deepgram import DeepgramRig
    from .elevenlabs import ElevenLabsRig
    from .google import GeminiRig
    from .models import MODEL_VENDORS, ModelRig
    from .openai import OpenAIRig
    from .openai_audio import OpenAIAudioRig
    from .remote import RemoteCascadeRig

    return [
        CascadeRig(),
        RemoteCascadeRig(),
        DeepgramRig(),
        DeepgramRig("Flux"),
        ElevenLabsRig(),
        ElevenLabsRig("HTTP"),
        *map(ModelRig, MODEL_VENDORS),
        OpenAIAudioRig(),
        OpenAIRig(),
        OpenAIRig(detects_turns=False),
        GeminiRig(),
        GeminiRig(detects_turns=False),
        GeminiRig("gemini-2.5-flash-native-audio-preview-12-2025"),
        GeminiRig("gemini-3.1-flash-live-preview"),
    ]
