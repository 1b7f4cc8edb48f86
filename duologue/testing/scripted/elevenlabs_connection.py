"""`ElevenLabsConnection`: one connection to a scripted ElevenLabs, its behaviour and its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from ...errors import BadInput
from .hearing import HearingBehaviour
from .speaking import SpeakingBehaviour
from .vendor import VendorConnection, VendorGot


@dataclass(kw_only=True)
class ElevenLabsBehaviour(HearingBehaviour, SpeakingBehaviour):
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    # Text-to-speech.
    alignment: Literal["message", "sentence", "none"] = "message"
    """The characters of each message's own audio, those of a sentence in its first message, or null."""
    finals: int = 1
    """The number of messages about the end of a context; 0 for none."""
    spoil_base64: int = 0
    """The number of messages whose audio will not be base64."""
    # Speech-to-text.
    refuse_session: str = ""
    """The type of the error with which a session of speech-to-text is refused instead of started, "" for none."""
    end_session: str = ""
    """The type of the error with which a session of speech-to-text is ended right after its start, "" for none."""
    session_limit_s: float = 5_400.0
    """Seconds after which a session of speech-to-text is ended."""


@dataclass(slots=True)
class ElevenLabsGot(VendorGot):
    """The record of one connection. Kept after its end. An utterance is the audio up to a commit."""

    path: str
    query: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages, unchanged; those of speech-to-text without their audio."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    """All messages of the server."""
    texts: dict[str, str] = field(default_factory=dict)
    """The text of each context."""
    closed_contexts: list[str] = field(default_factory=list)
    """The contexts that the client has closed, in order."""

    @property
    def voice(self) -> str:
        """The voice of a connection of text-to-speech."""
        return unquote(self.path.split("/")[3])


class ElevenLabsConnection(VendorConnection[ElevenLabsBehaviour, ElevenLabsGot]):
    """An open connection."""

    type_field = "message_type"
    idle_s = 20.0
    """Seconds without a message after which the server closes the connection."""

    def idle_limit_s(self) -> float | None:
        """Return the seconds without a message after which the connection ends."""
        return self.idle_s

    def note_sent(self, message: dict[str, Any]) -> None:
        """Record a message that is sent."""
        self.got.sent.append(message)

    async def receive(self, message: str | bytes) -> None:
        """Take a message, or refuse it."""
        try:
            self.take(message)
        except BadInput as error:
            self.server.failures.append(error)
            await self.refuse("invalid_message", str(error))

    def take(self, message: str | bytes) -> None:
        """Take a message. Raises BadInput for one that ElevenLabs refuses."""
        raise NotImplementedError

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error, and close the connection."""
        raise NotImplementedError
