"""`WS /listen/{call id}`: the conversation of a call as rows, for dashboards. Read-only."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import msgspec
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import ConfigurationError
from ..session.feed import CAPACITY, TooSlow
from ..session.rows import Rows
from .calls import Calls
from .gate import Gate, take_token
from .refusals import ClientRefused, deny

MAX_LISTENERS = 100
"""The largest number of dashboards of a server. More are refused with status 503."""
SEND_S = 10.0
"""Seconds within which a dashboard must take a row; then it counts as too slow."""
OVER, READ_ONLY, SLOW = 1000, 1008, 1013


def routes(calls: Calls, *, capacity: int = CAPACITY, max_listeners: int = MAX_LISTENERS) -> list[BaseRoute]:
    """Return the endpoint, which sends a JSON object for each row, earlier rows first; see `Rows`.

    `?mode=` is live (the default), coalesce or append. The authentication is that of the calls. A dashboard is cut off
    with code 1013 if more than `capacity` rows wait for it and cannot be merged, or if it takes none for `SEND_S`
    seconds; with 1008 if it sends anything. Code 1000 means that the call is over.
    """
    listening = _Listening(calls, capacity, max_listeners)
    return [WebSocketRoute("/listen/{call_id}", listening.serve, middleware=[Middleware(Gate, calls.admission)])]


class _Listening:
    """Admits dashboards, and sends rows to each until the call is over."""

    def __init__(self, calls: Calls, capacity: int, max_listeners: int) -> None:
        self._calls = calls
        self._capacity = capacity
        self._max_listeners = max_listeners
        self._count = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one dashboard."""
        try:
            rows = await self._admit(socket)
        except ClientRefused as refused:
            await deny(socket, refused.response())
            return
        self._count += 1
        try:
            await socket.accept()
            await _Dashboard(socket).inform(rows)
        finally:
            self._count -= 1

    async def _admit(self, socket: WebSocket) -> Rows:
        await self._calls.authorize(socket)
        take_token(socket.scope)
        if self._count >= self._max_listeners:
            raise ClientRefused(503, "too_many_listeners", f"{self._max_listeners} dashboards listen already")
        call_id = socket.path_params["call_id"]
        call = self._calls.get(call_id)
        if call is None or call.session is None:
            raise ClientRefused(404, "no_such_call", f"there is no call {call_id[:80]!r}, or it has not begun")
        mode = socket.query_params.get("mode", "live")
        try:
            return Rows(call.session, mode, capacity=self._capacity)  # type: ignore[arg-type] # checked there
        except ConfigurationError as error:
            raise ClientRefused(400, "bad_mode", str(error)) from error


class _Dashboard:
    """One connected dashboard."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._close: tuple[int, str] | None = None

    async def inform(self, rows: Rows) -> None:
        """Send rows until the call is over, or until the dashboard leaves, is too slow, or sends a message."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, tasks.cancel_scope)
            self._close = await self._send(rows)
            tasks.cancel_scope.cancel()
        if self._close is not None:
            with anyio.move_on_after(SEND_S):
                await self._socket.close(*self._close)

    async def _read(self, scope: anyio.CancelScope) -> None:
        message = await self._socket.receive()
        if message["type"] != "websocket.disconnect":
            self._close = READ_ONLY, "this connection is read-only"
        scope.cancel()

    async def _send(self, rows: Rows) -> tuple[int, str] | None:
        try:
            async with aclosing(aiter(rows)) as events:
                async for event in events:
                    with anyio.fail_after(SEND_S):
                        await self._socket.send_text(msgspec.json.encode(event).decode())
        except (TooSlow, TimeoutError):
            return SLOW, "too slow: listen again"
        except (WebSocketDisconnect, OSError):
            return None  # it has gone
        return OVER, "the call is over"
