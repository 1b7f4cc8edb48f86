"""A web server for tests, at an address that the rules of the tests allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from duologue.images.limits import ImageRules
from duologue.testing.tls import loopback

OPEN = "127.0.0.2"
"""The address at which the servers of these tests may be asked. 127.0.0.1 stays private."""
RULES = ImageRules(networks=(f"{OPEN}/32",), deadline_s=5.0, max_bytes=1_000_000)

Answer = Callable[[str], bytes | list[bytes | float]]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return an HTTP answer."""
    named = {"content-type": "image/jpeg", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items() if value), "", ""]
    return "\r\n".join(lines).encode() + body


class WebServer:
    """Answers each path by a function, in pieces with pauses (seconds) between them, and notes what it was asked."""

    def __init__(self, give: Answer) -> None:
        self.give = give
        self.asked: list[tuple[str, str, str]] = []
        """The address that was called, the Host header and the path of each request."""
        self.port = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            host = next(line[6:] for line in head.splitlines() if line.lower().startswith("host: "))
            self.asked.append((writer.get_extra_info("sockname")[0], host, path))
            given = self.give(path)
            for piece in [given] if isinstance(given, bytes) else given:
                if isinstance(piece, float):
                    with anyio.move_on_after(piece):
                        await self.closed.wait()
                        return
                else:
                    writer.write(piece)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def web(give: Answer, *, tls: bool = False) -> AsyncIterator[WebServer]:
    server = WebServer(give)
    listening = await asyncio.start_server(server.serve, "0.0.0.0", 0, ssl=loopback().server if tls else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.closed.set()
        listening.close()
