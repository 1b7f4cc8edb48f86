"""`uvicorn_options`: how uvicorn serves calls, and `CallProtocol`, its HTTP with deadlines."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..session.logs import guard
from .calls import WebLimits

log = logging.getLogger("duologue")

PING_INTERVAL_S = 3.0
PING_TIMEOUT_S = 4.0
"""Seconds within which a WebSocket client must answer a ping; a client that does not is lost."""
MAX_CONNECTIONS = 256
"""Connections without a WebSocket. Beyond that the oldest that waits for no answer is closed."""
MAX_QUEUED_MESSAGES = 8
"""Messages of a WebSocket client that the server has read and the call has not."""
BACKLOG = 128
"""Connections that are accepted at once, before the first of them is served."""


def uvicorn_options(limits: WebLimits | None = None, *, openai_realtime: bool = False) -> dict[str, Any]:
    """Return uvicorn's options for calls: `uvicorn.run(app, **uvicorn_options())`.

    They bound the size and the time of requests, and the connections without a call; they let WebSocket clients be
    pinged, and log no addresses. `limits` are those of the calls. `openai_realtime` allows the long messages of the
    OpenAI Realtime API.
    """
    limits = limits or WebLimits()
    guard("uvicorn.error")
    return {
        "log_level": "warning",
        "access_log": False,  # its lines would have the addresses of other routes' requests
        "server_header": False,
        "backlog": BACKLOG,
        "http": partial(CallProtocol, lobby=Lobby(limits.request_s)),
        "ws_max_size": max(limits.message_bytes, limits.realtime_message_bytes if openai_realtime else 0),
        "ws_max_queue": MAX_QUEUED_MESSAGES,
        "ws_ping_interval": PING_INTERVAL_S,
        "ws_ping_timeout": PING_TIMEOUT_S,
        "ws_per_message_deflate": False,  # audio does not compress, and zeros that were compressed fill the memory
        "timeout_graceful_shutdown": round(limits.shutdown_s),
    }


class Lobby:
    """The connections without a WebSocket, oldest first, and the seconds within which each request must be complete."""

    def __init__(self, request_s: float, most: int = MAX_CONNECTIONS) -> None:
        self.request_s = request_s
        self._most = most
        self._inside: dict[CallProtocol, None] = {}

    def enter(self, connection: CallProtocol) -> None:
        """Take a new connection. At the limit it takes the place of the oldest that waits for no answer."""
        self._inside[connection] = None
        if len(self._inside) > self._most:
            oldest = next(other for other in self._inside if not other.answering)  # the new one at the latest
            log.warning("%s: a connection was closed, because there are %d without a call", oldest.peer, self._most)
            oldest.cut()

    def leave(self, connection: CallProtocol) -> None:
        """Forget a connection."""
        self._inside.pop(connection, None)


class CallProtocol(H11Protocol):
    """Closes connections whose requests are not complete in time, or when the server stops."""

    def __init__(self, *args: Any, lobby: Lobby, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lobby = lobby
        self._timer: asyncio.TimerHandle | None = None
        self._upgraded = False

    @property
    def incomplete(self) -> bool:
        """True while a request is expected or has come in part."""
        return self._timer is not None

    @property
    def answering(self) -> bool:
        """True while a complete request has no complete answer."""
        return not self.incomplete and self.cycle is not None and not self.cycle.response_complete

    @property
    def peer(self) -> str:
        """The address of the client."""
        return self.client[0] if self.client else "unknown"

    def cut(self) -> None:
        """Close the connection, without an answer."""
        self._complete()
        self._lobby.leave(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect()
        self._lobby.enter(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request. The deadline is that of the whole request, not of its parts."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Expect the rest of the next request, if a part of it has come."""
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        if self._upgraded:
            return
        if self.transport.is_closing() or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._complete()
        elif self._timer is None and (self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]):
            self._expect()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket protocol."""
        self._upgraded = True
        self._complete()
        self._lobby.leave(self)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._complete()
        self._lobby.leave(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection, after the answer to a request that is complete."""
        if self.incomplete:
            self.cut()
        else:
            super().shutdown()

    def _expect(self) -> None:
        self._timer = self.loop.call_later(self._lobby.request_s, self._late)

    def _complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        limit_s = self._lobby.request_s
        log.warning("%s: a connection was closed: its request was not complete within %g s", self.peer, limit_s)
        self.cut()
