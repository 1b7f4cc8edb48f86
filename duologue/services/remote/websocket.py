"""`WebSocketWire`: a wire over a connection of the `websockets` library, also one that a vendor's SDK has opened.

SDKs hide their connection in a private attribute. Those that dial with `websockets` pass its `create_connection` on:
given `create_connection` of this module, the SDK opens a connection that `dialled` finds.

    with dialled() as connections:
        await client.realtime.connect(websocket_connection_options={"create_connection": create_connection}).enter()
    wire = WebSocketWire(connections[-1], as_lost)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from ...errors import IncompatiblePackage
from .errors import ConnectionLost
from .wire import WireMessage

if TYPE_CHECKING:  # an optional dependency
    from websockets.asyncio.client import ClientConnection

CLOSE_S = 1.0
"""How long a closing connection waits for the far end before it is cut."""
MAX_MESSAGE_BYTES = 16 * 2**20
"""A longer message ends the connection."""

_dialled: ContextVar[list[ClientConnection]] = ContextVar("_dialled")


@contextmanager
def dialled() -> Iterator[list[ClientConnection]]:
    """Collect the connections that `create_connection` makes for this task and the tasks that it starts meanwhile."""
    connections: list[ClientConnection] = []
    token = _dialled.set(connections)
    try:
        yield connections
    finally:
        _dialled.reset(token)


def create_connection(*arguments: Any, **settings: Any) -> ClientConnection:
    """Make a connection for `websockets`' argument of this name. It has no pings of its own: the keeper has."""
    from websockets.asyncio.client import ClientConnection

    connection = ClientConnection(*arguments, **{**settings, "ping_interval": None, "close_timeout": CLOSE_S})
    _dialled.get([]).append(connection)
    return connection


def check_websockets(extra: str) -> None:
    """Raise IncompatiblePackage if the installed `websockets` has no `create_connection`."""
    from websockets.asyncio.client import connect

    if "create_connection" not in inspect.signature(connect).parameters:
        raise IncompatiblePackage("websockets", "connect(create_connection=…)", extra)


class WebSocketWire:
    """A connection of `websockets` as a `Wire`. `as_lost` says what its errors mean."""

    def __init__(self, connection: ClientConnection, as_lost: Callable[[Exception], ConnectionLost]) -> None:
        self._connection, self._as_lost = connection, as_lost

    @property
    def ready(self) -> bool:
        """True once all sent messages have left the process."""
        return self._connection.transport.get_write_buffer_size() == 0

    async def send(self, message: WireMessage) -> None:
        """Send a message. Raises ConnectionLost."""
        try:
            await self._connection.send(message)
        except Exception as error:
            raise self._as_lost(error) from error

    async def receive(self) -> WireMessage:
        """Return the next message, text as UTF-8. Raises ConnectionLost."""
        try:
            return await self._connection.recv(decode=False)
        except Exception as error:
            raise self._as_lost(error) from error

    async def ping(self) -> None:
        """Return once the far end has answered a ping. Raises ConnectionLost."""
        try:
            await (await self._connection.ping())
        except Exception as error:
            raise self._as_lost(error) from error

    async def close(self) -> None:
        """End the connection. A far end that does not answer within a second is cut off."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            try:
                await self._connection.close()
                return
            except Exception:
                pass
        self._connection.transport.abort()
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._connection.wait_closed()
