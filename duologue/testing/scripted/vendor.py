"""`VendorServer` and `VendorConnection`: the base of scripted vendors of speech-to-text and text-to-speech.

A vendor gives its behaviour and its record as dataclasses, a class for each kind of connection, and the form of its
refusals. Refusals at the door, delays, losses, half-open connections and the faults of a plan of `Manners` are the same
for all.
"""

from __future__ import annotations

import asyncio
import http
import json
import ssl
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .manners import UNKNOWN, Manners, Part
from .serving import ConnectionType, WebSocketServer

RARELY = 0.1
"""The probability of an unknown message before a message."""
ODD = ["odd", 7]
"""The value of a field of another type."""


@dataclass(kw_only=True)
class VendorBehaviour:
    """The behaviour of a vendor's server. May be changed at any time, with effect from then on."""

    key: str = "test"
    """The accepted key."""
    setup_delay_s: float = 0.0
    """Seconds before a connection is accepted."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next connections are refused."""


@dataclass(slots=True)
class VendorGot:
    """The record of one connection. The server keeps it after the end of the connection."""

    audio: bytearray = field(default_factory=bytearray, kw_only=True)
    """All audio of the caller: mono s16le."""
    utterances: list[bytes] = field(default_factory=list, kw_only=True)
    """The audio of each utterance that has ended."""
    closed: int | None = field(default=None, kw_only=True)
    """The close code, None while the connection is open."""


B = TypeVar("B", bound=VendorBehaviour)
G = TypeVar("G", bound=VendorGot)


def asked(request: Request) -> tuple[str, dict[str, list[str]]]:
    """Return the path and the query parameters of a request."""
    url = urlsplit(request.path)
    return url.path, parse_qs(url.query, keep_blank_values=True)


def latest(query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the last value of each query parameter."""
    return {name: values[-1] for name, values in query.items()}


def refusal(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that refuses a connection, with a body in JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = Headers({"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"})
    told.update(headers or {})
    return Response(status, http.HTTPStatus(status).phrase, told, content)


class VendorServer(WebSocketServer[G, ConnectionType], Generic[B, G, ConnectionType]):
    """A vendor's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    The keyword arguments are fields of `behaviour`, which may be changed at any time. `manners` are the faults that the
    vendor shows. `got` has one entry for each connection since the start; `connections` has the open connections.
    """

    scheme: ClassVar[str] = "ws"
    kind: type[B]
    """The type of the behaviour."""
    manners: Manners

    def __init__(self, *, manners: Manners | None = None, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        super().__init__(manners or Manners(faults=[]), tls)
        self.behaviour = self.kind(**behaviour)

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState outside of the `async with`."""
        return f"{self.scheme}{'s' if self._tls else ''}://{self.address}"

    async def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Return the response that refuses a connection, None to accept it."""
        await anyio.sleep(self.behaviour.setup_delay_s)
        if self.behaviour.refuse:
            return self.rejection(self.behaviour.refuse.pop(0))
        return self.check(request)

    @abstractmethod
    def rejection(self, status: int) -> Response:
        """Return the response to a connection that the behaviour refuses."""

    @abstractmethod
    def check(self, request: Request) -> Response | None:
        """Return the response that refuses a request of this path, query and key, None to accept it."""


class Vendor(Protocol[B]):
    """The server as its connections see it."""

    behaviour: B
    manners: Manners
    failures: list[Exception]


class VendorConnection(Generic[B, G]):
    """An open connection."""

    part: Part
    type_field: ClassVar[str] = "type"
    """The field of a message that has its type."""

    def __init__(self, server: Vendor[B], socket: ServerConnection, got: G) -> None:
        self.server, self.got = server, got
        self._socket = socket
        self._frozen = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def behaviour(self) -> B:
        """The server's behaviour."""
        return self.server.behaviour

    @property
    def manners(self) -> Manners:
        """The server's faults."""
        return self.server.manners

    # -- for tests ---------------------------------------------------------------------------------------------------

    def drop(self, code: int = 0, reason: str = "") -> None:
        """Close the connection; a `code` of 0 breaks it off."""
        if code:
            self.start(self.close(code, reason))
        else:
            self._socket.transport.abort()

    def go_half_open(self) -> None:
        """Stop reading and writing, and do not close."""
        self._frozen = True
        self._socket.transport.pause_reading()

    # -- for vendors -------------------------------------------------------------------------------------------------

    def idle_limit_s(self) -> float | None:
        """Return the seconds without a message after which `idle` ends the connection, None for never."""
        return None

    async def begin(self) -> None:
        """Begin the session."""

    async def receive(self, message: str | bytes) -> None:
        """Take a message."""
        raise NotImplementedError

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing."""
        await self.close(1000, "")

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    async def send_raw(self, message: str | bytes) -> None:
        """Send a message unchanged."""
        if self._frozen:
            await anyio.sleep_forever()
        with suppress(ConnectionClosed):
            await self._socket.send(message)

    async def deliver(self, message: dict[str, Any], name: str, optional: Sequence[str] = ()) -> None:
        """Send a message with the faults of the plan. `optional` are fields that may be null or of another type."""
        if self._frozen:
            await anyio.sleep_forever()
        manners, messages = self.manners, [message]
        if pause_s := manners.pause_s(self.part, f"before {name}"):
            await anyio.sleep(pause_s)
        if optional and manners.draw("nulls", self.part, name):
            messages = [message | dict.fromkeys(optional)]
        if optional and manners.draw("odd-types", self.part, name):
            messages = [message | dict.fromkeys(optional, ODD)]
        if manners.draw("unknown-events", self.part, f"before {name}", RARELY):
            messages.insert(0, {self.type_field: UNKNOWN, "high": []})
        for one in messages:
            self.note_sent(one)
            await self.send_raw(json.dumps(one))

    def note_sent(self, message: dict[str, Any]) -> None:
        """Record a message that is sent."""

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends. An error in it is one of the script."""
        try:
            await self.begin()
            while True:
                try:
                    async with asyncio.timeout(self.idle_limit_s()):
                        message = await self._socket.recv()
                except TimeoutError:
                    await self.idle()
                    return
                await self.receive(message)
        except ConnectionClosed:
            pass
        except Exception as error:
            self.server.failures.append(error)
        finally:
            for task in list(self._tasks):
                task.cancel()

    def end(self) -> None:
        """Break the connection off, because the server ends."""
        self.drop()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in a task that ends with the connection. An error in it is one of the script."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # a task that is cancelled at once does not begin its work
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectionClosed:
            pass
        except Exception as error:
            self.server.failures.append(error)
