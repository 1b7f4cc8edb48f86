"""The events of a speech-to-speech provider, the same for all wires. Ids in them are the provider's own."""

from __future__ import annotations

from typing import Any

from ...frames import ResponseStatus, Usage
from ..remote.events import Event as Event
from ..remote.events import GoingAway as GoingAway
from ..remote.events import Opened as Opened
from ..remote.events import Refused as Refused


class Configured(Event, frozen=True, kw_only=True):
    """The change with this `update_id` is in force as a whole."""

    update_id: str


class SpeechBegan(Event, frozen=True, kw_only=True):
    """The provider hears the caller speak, from `at_ms` of the audio that was sent on this connection."""

    item: str = ""
    at_ms: float = 0.0


class SpeechCeased(Event, frozen=True, kw_only=True):
    """The provider heard the caller's last speech `at_ms` of the audio that was sent."""

    item: str = ""
    at_ms: float = 0.0


class TurnTaken(Event, frozen=True, kw_only=True):
    """The caller's turn is complete, and `item` stands for it. If `answered`, the provider answers it by itself."""

    item: str
    answered: bool


class TurnTranscribed(Event, frozen=True, kw_only=True):
    """The transcript of all of the item so far. A final "" means that it was not understood."""

    item: str = ""
    text: str
    final: bool = True
    language: str = ""


class ResponseBegan(Event, frozen=True, kw_only=True):
    """A response begins. `tag` is that of the request for it, "" if the provider began it by itself."""

    response: str
    tag: str = ""


class Said(Event, frozen=True, kw_only=True):
    """A piece of the response's text."""

    response: str
    text: str


class Voiced(Event, frozen=True, kw_only=True):
    """A piece of the response's audio: mono s16le at the output rate. `item` is the unit that can be truncated."""

    response: str
    item: str = ""
    pcm: bytes


class AudioComplete(Event, frozen=True, kw_only=True):
    """All of the response's audio has come. Its `ResponseFinished` comes later, if it comes."""

    response: str


class Called(Event, frozen=True, kw_only=True):
    """The response asks for a tool. Comes before its `ResponseFinished`."""

    response: str
    call_id: str
    name: str
    arguments: dict[str, Any]


class CallsCancelled(Event, frozen=True, kw_only=True):
    """The provider no longer wants the results of these calls."""

    call_ids: tuple[str, ...]


class ResponseFinished(Event, frozen=True, kw_only=True):
    """The response is over. `usage` is its consumption, if the provider reports it; the ids in it are empty."""

    response: str
    status: ResponseStatus = "completed"
    reason: str = ""
    usage: Usage | None = None


class Consumed(Event, frozen=True, kw_only=True):
    """Consumption that is reported apart from a response."""

    usage: Usage


class CutShort(Event, frozen=True, kw_only=True):
    """The provider has stopped its response because the caller spoke."""


class HandleGiven(Event, frozen=True, kw_only=True):
    """With this handle the session can be resumed; "" while it cannot."""

    handle: str


class Unknown(Event, frozen=True, kw_only=True):
    """An unknown message of type `kind`. Known but irrelevant types yield no event."""

    kind: str
