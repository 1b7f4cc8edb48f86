"""Rigs for the engines of Duologue. Each module needs the extras of its engine."""

from __future__ import annotations

from ..rig import Rig


def all_rigs() -> list[Rig]:
    """The cascade and the native engines, with the provider's turn detection and with the framework's.

    Raises MissingExtra without the extras `local`, `openai`, `google` and `testing`.
    """
    from .cascade import CascadeRig
    from .google import GeminiRig
    from .openai import OpenAIRig

    return [
        CascadeRig(),
        OpenAIRig(),
        OpenAIRig(detects_turns=False),
        GeminiRig(),
        GeminiRig(detects_turns=False),
        GeminiRig("gemini-2.5-flash-native-audio-preview-12-2025"),
        GeminiRig("gemini-3.1-flash-live-preview"),
    ]
