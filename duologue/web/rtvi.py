"""RTVI: the messages that Pipecat's client kits understand."""

from __future__ import annotations

from ..session.session import Session
from ..transports.client import ClientTransport


class Rtvi:
    """Speaks RTVI with one client."""

    def __init__(self, transport: ClientTransport, session: Session, *, controls: bool = False) -> None:
        self._transport, self._session = transport, session

    def attach(self) -> None:
        """Listen to both sides."""
