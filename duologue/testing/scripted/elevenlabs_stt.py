"""`ListeningElevenLabs`: speech-to-text in real time."""

from __future__ import annotations

from .elevenlabs_connection import ElevenLabsConnection


class ListeningElevenLabs(ElevenLabsConnection):
    """A connection of speech-to-text."""

    part = "listen"
