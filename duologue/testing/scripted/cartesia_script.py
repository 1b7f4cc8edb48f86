"""The behaviour of a scripted Cartesia, and the record of each of its connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .hearing import HearingBehaviour
from .speaking import SpeakingBehaviour
from .vendor import VendorConnection, VendorGot


@dataclass(kw_only=True)
class CartesiaBehaviour(HearingBehaviour, SpeakingBehaviour):
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    piece_letters: int = 1_000
    """Ink: the most characters of a final text; a longer text comes in pieces."""
    timestamps: Literal["message", "sentence", "none"] = "message"
    """Sonic: the words of each message's own audio, those of a sentence before its audio, or none."""
    context_s: float = 1.0
    """Sonic: seconds after its last audio for which a context takes more text."""
    dones: int = 1
    """Sonic: the number of messages about the end of a context; 0 for none."""
    idle_s: float = 300.0
    """Sonic: seconds without a message after which a connection is closed."""
    spoil_base64: int = 0
    """Sonic: the number of messages whose audio will not be base64."""


@dataclass(slots=True)
class CartesiaGot(VendorGot):
    """The record of one connection. Kept after its end. An utterance is the audio up to a `finalize`."""

    path: str
    query: dict[str, str]
    texts: list[str] = field(default_factory=list)
    """Ink: the messages other than audio."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """Sonic: all messages."""
    spoken: dict[str, str] = field(default_factory=dict)
    """Sonic: the text of each context."""
    ended: list[str] = field(default_factory=list)
    """Sonic: the contexts that the client has ended or cancelled, in order."""
    voices: list[str] = field(default_factory=list)
    """Sonic: the voice of each context."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    """All messages of the server."""


class CartesiaConnection(VendorConnection[CartesiaBehaviour, CartesiaGot]):
    """An open connection."""

    def note_sent(self, message: dict[str, Any]) -> None:
        """Record a message that is sent."""
        self.got.sent.append(message)
