"""`ConnectionDialect`: the part of a dialect that a `Connection` uses itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

from .events import Event
from .wire import WireMessage


class ConnectionDialect:
    """Translates for one connection, and does no I/O. The base of all dialects."""

    confirms_opening: ClassVar[bool] = True
    """True if the vendor answers the set-up, with `Opened` or `Refused`. Otherwise a wire that is open is set up."""
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
