"""One connection as its vendor gives it: the `Wire`, the `Event`s, and the `ConnectionDialect` between the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import msgspec

WireMessage: TypeAlias = str | bytes
"""One message of a wire: text, or binary."""


class Wire(Protocol):
    """An open connection to a vendor, as its SDK or its WebSocket library gives it."""

    @property
    def ready(self) -> bool:
        """True while `send` takes a message at once, without waiting for the far end."""

    def send(self, message: WireMessage) -> Awaitable[None]:
        """Send a message. Waits while the far end takes none. Raises ConnectionLost."""

    async def receive(self) -> WireMessage:
        """Return the next message. Raises ConnectionLost at the end of the connection."""

    async def ping(self) -> None:
        """Return once the far end has answered a ping. Raises ConnectionLost."""

    async def close(self) -> None:
        """End the connection without waiting long for the far end. Never raises."""


@runtime_checkable
class PushingWire(Wire, Protocol):
    """A wire that can give a message away as it arrives, without waking the task in `receive`."""

    def listen(self, take: Callable[[WireMessage], bool]) -> None:
        """Offer messages to `take` while a task waits in `receive`, which returns those that it does not take."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of the vendor, as its dialect reads it. Ids are the vendor's own."""


class Opened(Event, frozen=True, kw_only=True):
    """The session is set up as requested. `left_s` is its limit in seconds, None if the vendor gives none."""

    session_id: str = ""
    left_s: float | None = None


class Refused(Event, frozen=True, kw_only=True):
    """The vendor refuses something. `about` is the id of the refused message, update or context, "" if unknown.

    After a `fatal` refusal the connection is useless, and another attempt would be refused as well.
    """

    code: str
    message: str
    about: str = ""
    fatal: bool = False


class GoingAway(Event, frozen=True, kw_only=True):
    """The vendor will close the connection in `left_s` seconds; 0 for one that is of no use any more."""

    left_s: float
    reason: str = ""


class ConnectionDialect:
    """Translates for one connection, and does no I/O. The base of all dialects."""

    confirms_opening: ClassVar[bool] = True
    """True if the vendor answers the set-up, with `Opened` or `Refused`. If False, an open wire counts as set up."""
    idle_s: float = inf
    """Seconds without a message to the vendor after which the messages of `idle` are sent."""

    def setup(self) -> Sequence[WireMessage]:
        """Return the messages to send first on the open wire."""
        return ()

    def idle(self) -> Sequence[WireMessage]:
        """Return the messages that keep an idle connection open. Called after `idle_s` seconds without a message."""
        return ()

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message. Raises BadInput for a malformed one, which changes nothing."""
        raise NotImplementedError
