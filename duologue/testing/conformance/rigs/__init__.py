"""Rigs for the engines of Duologue. Each module needs the extras of its engine."""

from __future__ import annotations

from ..rig import Rig


def all_rigs() -> list[Rig]:
    """Return the rigs of all cascades (of local services, of a made-up vendor, of paid vendors) and native engines.

    The native engines come with either side's turn detection. Raises MissingExtra without the extras `local`,
    `openai`, `google`, `deepgram`, `elevenlabs` and `testing`.
    """
    from .cascade import CascadeRig
    from .google import GeminiRig
    from .mixes import MIXES, MixRig
    from .openai import OpenAIRig
    from .remote import RemoteCascadeRig

    return [
        CascadeRig(),
        RemoteCascadeRig(),
        *(MixRig(*mix) for mix in MIXES),
        OpenAIRig(),
        OpenAIRig(detects_turns=False),
        GeminiRig(),
        GeminiRig(detects_turns=False),
        GeminiRig("gemini-2.5-flash-native-audio-preview-12-2025"),
        GeminiRig("gemini-3.1-flash-live-preview"),
    ]
