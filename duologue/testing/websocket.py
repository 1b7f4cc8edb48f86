"""A client of the WebSocket endpoint, and a server for it, in the test's own loop."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ..errors import MissingExtra

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed
except ImportError as error:
    raise MissingExtra("a WebSocket client", "testing", str(error)) from error


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application in this event loop; `options` are uvicorn's. Yields its address, "127.0.0.1:port"."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("a web server", "web", str(error)) from error

    defaults: dict[str, Any] = {"lifespan": "off", "log_level": "warning", "ws_per_message_deflate": False}
    defaults |= {"timeout_graceful_shutdown": 1, "ws_ping_interval": None}
    server = uvicorn.Server(uvicorn.Config(app, **(defaults | options)))
    # The protocol is named, because asyncio turns Nagle's algorithm off only for sockets that say they are TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started and not task.done():
                await anyio.sleep(0.01)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class WebSocketClient:
    """Keeps the server's messages, and plays its audio, one piece after the other, until a message clears it.

    `events` are all messages except audio; `heard` are the pieces of audio with the loop time at which each is played.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.heard: list[tuple[float, bytes]] = []
        self.rate = 24_000
        self._until = 0.0
        self._news = asyncio.Event()
        self._closed = False
        self._reader = asyncio.get_running_loop().create_task(self._read())

    # -- sending ---------------------------------------------------------------------------------------------------

    async def say(self, pcm: bytes) -> None:
        """Send audio."""
        await self.send(type="audio", data=b64encode(pcm).decode())

    async def send(self, **message: Any) -> None:
        """Send a JSON object."""
        await self.connection.send(json.dumps(message))

    # -- receiving -------------------------------------------------------------------------------------------------

    async def until(self, kind: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for the `count`th event of a type (or "audio") with these fields. Raises EOFError at a close."""
        while True:
            if kind == "audio" and self.heard:
                return {}
            found = [e for e in self.events if e.get("type") == kind and fields.items() <= e.items()]
            if len(found) >= count:
                return found[count - 1]
            if self._closed:
                raise EOFError(f"the connection was closed before {kind!r} came: {self.events}")
            self._news.clear()
            await self._news.wait()

    async def until_closed(self) -> tuple[int, str]:
        """Wait until the server closes the connection. Returns the close code and the reason."""
        await self._reader
        return self.connection.close_code or 0, self.connection.close_reason or ""

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return all events of a type."""
        return [event for event in self.events if event.get("type") == kind]

    async def _read(self) -> None:
        try:
            async for data in self.connection:
                self._take(data)
                self._news.set()
        except ConnectionClosed:
            pass
        finally:
            self._closed = True
            self._news.set()

    def _take(self, data: str | bytes) -> None:
        now = asyncio.get_running_loop().time()
        event: dict[str, Any] = {"type": "audio"} if isinstance(data, bytes) else json.loads(data)
        if event.get("type") == "audio":
            pcm = data if isinstance(data, bytes) else b64decode(event["data"])
            self.rate = int(event.get("sample_rate", self.rate))
            at = max(now, self._until)
            self._until = at + len(pcm) / (2 * self.rate)
            self.heard.append((at, pcm))
            return
        if event.get("type") == "clear_audio":
            cut = [(at, pcm[: 2 * max(0, round((now - at) * self.rate))]) for at, pcm in self.heard]
            self.heard = [(at, pcm) for at, pcm in cut if pcm]
            self._until = now
        self.events.append(event)


@asynccontextmanager
async def calling(url: str, token: str = "", **options: Any) -> AsyncIterator[WebSocketClient]:
    """Connect a client to `url` (ws://…/ws). `options` are those of `websockets.connect`."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    options = {"compression": None, "ping_interval": None, "additional_headers": headers} | options
    async with connect(url, **options) as connection:
        client = WebSocketClient(connection)
        try:
            yield client
        finally:
            await connection.close()
            await client.until_closed()
