"""`ServerConnection`: one connection to a server, kept. All of it runs in the thread of `thread.py`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio

from ..errors import ToolError, without_credentials
from . import http
from .lines import one_line
from .listed import CheckedMessages
from .package import Client, ListenNotSupportedError, MCPError, SubscriptionLost, wire
from .stdio import Program, ServerProcess

T = TypeVar("T")
log = logging.getLogger("duologue.mcp")

MAX_TOOLS = 2000
"""Tools of one server. Further tools are left out, with a line in the log."""
MAX_PAGES = 100
"""Pages of one list."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0
"""The pause before a server is connected again, in seconds. It doubles with each failure in a row."""
STEADY_S = 10.0
"""Seconds after which a connection counts as one that works: the next pause is the first again."""
CLOSE_S = 10.0
"""The longest time that the end of a connection takes, in seconds."""
RELIST_S = 5.0
"""The time that a result waits for a list of tools that has changed meanwhile, in seconds."""
TERMINATED = "Session terminated"
"""The text of the package's error for a session that an HTTP server does not know any more."""

REFUSED = "Server returned an error response"
"""The text of the package's error for an answer with the status of an error."""


class Gone(Exception):
    """The connection has ended. The message says how."""


class ServerConnection:
    """Connects to a server, lists its tools, and connects again when it is lost, until it is closed.

    `changed` is called when the tools have changed. `failed` is called with the reason, once, when the connection is
    lost or cannot be made.
    """

    def __init__(
        self,
        name: str,
        place: Program | http.Endpoint,
        *,
        start_s: float,
        changed: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self.name = name
        self.tools: tuple[wire.Tool, ...] = ()
        """The tools that the server listed last. They stay while it is connected again."""
        self.why = ""
        """The reason why the server is not connected."""
        self._place = place
        self._start_s = start_s
        self._changed, self._failed = changed, failed
        self._process: ServerProcess | None = None
        self._status = ""  # of the latest answer over HTTP, if it was an error
        self._client: Client | None = None
        self._moved = asyncio.Event()  # set, and replaced, at every change of state
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stale = asyncio.Event()
        self._listed = asyncio.Event()
        self._wanted = asyncio.Event()  # a request ends the pause before the next attempt
        self._attempts = 0  # that have failed
        self._told = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"MCP server {name!r}")

    @property
    def up(self) -> bool:
        """True while requests can be sent."""
        return self._client is not None

    async def close(self) -> None:
        """End the connection, and with it the process."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_S)
        self.why = "it was closed"
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    # -- the connection --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S / 2
        while True:
            began_at = time.monotonic()
            why = "the connection ended"
            try:
                await self._live()
            except Exception as error:
                why = self._named(_reason(error))
            finally:
                self._client = None
            process = self._process.why if self._process is not None else ""
            self.why = one_line("; ".join(part for part in (why, process) if part), 800)
            pause_s = FIRST_PAUSE_S if time.monotonic() - began_at > STEADY_S else min(2 * pause_s, LONGEST_PAUSE_S)
            log.warning("MCP server %r: %s; it is connected again in %.1f s", self.name, self.why, pause_s)
            if not self._told:
                self._told = True
                self._failed(self.why)
            self._attempts += 1
            self._move()
            self._wanted.clear()
            with anyio.move_on_after(pause_s):
                await self._wanted.wait()

    async def _live(self) -> None:
        self._lost, self._stale = asyncio.get_running_loop().create_future(), asyncio.Event()
        async with AsyncExitStack() as stack:
            arriving, leaving = await stack.enter_async_context(self._streams())
            streams = CheckedMessages(self.name, arriving), leaving
            client = Client(_Given(streams), message_handler=self._hear, cache=None, client_info=_CLIENT)
            try:
                async with asyncio.timeout(self._start_s):
                    await stack.enter_async_context(client)
                    await self._list(client)
            except TimeoutError:
                raise Gone(f"it has not answered the handshake within {self._start_s:g} s") from None
            self._client, self._told, self.why = client, False, ""
            self._listed.set()
            log.info("MCP server %r is up, with %d tools", self.name, len(self.tools))
            self._move()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._relist, client)
                tasks.start_soon(self._subscribe, client)
                why = await self._until_lost()
                self._client = None
                tasks.cancel_scope.cancel()
        raise Gone(why)

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[Any]:
        if isinstance(self._place, Program):
            self._process = ServerProcess(self.name, self._place)
            async with self._process.connected() as streams:
                yield streams
        else:
            async with http.http_streams(self._place, self._answered) as streams:
                yield streams

    def _answered(self, status: str) -> None:
        self._status = status

    def _named(self, why: str) -> str:
        """Return a reason with the HTTP status, which the package's error does not have."""
        return f"{why} ({self._status})" if self._status and why == REFUSED else why

    async def _until_lost(self) -> str:
        if self._process is None:
            return await self._lost
        await self._process.ended.wait()
        return "the connection ended"

    # -- the list of tools -----------------------------------------------------------------------------------------

    async def _hear(self, message: Any) -> None:
        if isinstance(message, wire.ToolListChangedNotification):
            self._expire()

    def _expire(self) -> None:
        """Note that the list is out of date."""
        if self._listed.is_set():
            self._listed = asyncio.Event()
        self._stale.set()

    async def _subscribe(self, client: Client) -> None:
        """Subscribe to changes of the tools: a server of the newer protocol sends none without that."""
        pause_s = 1.0
        while True:
            try:
                async with client.listen(tools_list_changed=True) as events:
                    pause_s = 1.0
                    async for _ in events:
                        self._expire()
            except ListenNotSupportedError:
                return
            except MCPError as error:
                log.info("MCP server %r does not tell of changes of its tools: %s", self.name, _reason(error))
                return
            except SubscriptionLost:
                pass
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._expire()  # a change may have been missed

    async def _relist(self, client: Client) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._list(client)
            except Exception as error:
                log.warning("MCP server %r: its tools cannot be listed again: %s", self.name, _reason(error))
            self._listed.set()
            if self._stale.is_set():  # it has changed meanwhile
                self._listed = asyncio.Event()
            await asyncio.sleep(0.05)  # a server that changes without end

    async def _list(self, client: Client) -> None:
        found: dict[str, wire.Tool] = {}
        cursor: str | None = None
        with anyio.fail_after(self._start_s):
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                found.update((tool.name, tool) for tool in page.tools)
                last, cursor = cursor, page.next_cursor
                if not cursor or cursor == last or len(found) > MAX_TOOLS:
                    break
        if len(found) > MAX_TOOLS or cursor:
            log.warning("MCP server %r has more tools than %d: the rest is left out", self.name, MAX_TOOLS)
        tools = tuple(found.values())[:MAX_TOOLS]
        if tools != self.tools:
            self.tools = tools
            self._changed()

    # -- requests --------------------------------------------------------------------------------------------------

    async def ready(self, limit_s: float) -> str:
        """Wait until the server is connected. Returns the reason if that fails, or takes longer than `limit_s`."""
        with anyio.move_on_after(limit_s):
            while not self.up and not self.why:
                await self._moved.wait()
        return "" if self.up else self.why or f"it is not up after {limit_s:g} s"

    async def request(self, send: Callable[[Client], Awaitable[T]], timeout_s: float) -> T:
        """Return the answer to a request. Waits for a server that is connected again.

        Raises ToolError, which names the server, if it fails, is lost meanwhile, or has not answered in time.
        """
        try:
            with anyio.fail_after(timeout_s):
                answer = await self._request(send)
        except TimeoutError:
            noise = self._process.why if self._process is not None and self.up else self.why
            late = f"{'has not answered' if self.up else 'is not there, and did not come'} within {timeout_s:g} s"
            raise ToolError(f"the server {self.name!r} {late}{f' ({noise})' if noise else ''}") from None
        await self._up_to_date()
        return answer

    async def _request(self, send: Callable[[Client], Awaitable[T]]) -> T:
        for attempt in (1, 2):
            client = await self.connected()
            try:
                return await send(client)
            except MCPError as error:
                if error.code == wire.CONNECTION_CLOSED:
                    break
                if error.message != TERMINATED:
                    raise ToolError(f"the server {self.name!r}: {self._named(one_line(str(error)))}") from error
                if attempt == 2:
                    raise ToolError(f"the server {self.name!r} does not keep its sessions") from error
                self._client = None  # the server does not know the session: the request was not carried out
                if not self._lost.done():
                    self._lost.set_result("the server does not know the session any more")
            except ToolError:
                raise
            except Exception as error:  # an answer that is malformed, for example
                raise ToolError(f"the server {self.name!r}: {_reason(error)}") from error
        with anyio.move_on_after(1.0):  # until it is known how it ended
            while not self.why:
                await self._moved.wait()
        lost = f"the server {self.name!r} was lost before it answered: {self.why or 'the connection ended'}"
        unsent = self.why.startswith("ConnectError")
        raise ToolError(lost if unsent else f"{lost}. Nobody knows if the request was carried out")

    async def connected(self) -> Client:
        """Return the client once there is one. Raises ToolError if the next attempt to connect fails."""
        began = self._attempts
        while self._client is None:
            if self._task.done() or self._attempts > began + 1:
                raise ToolError(f"the server {self.name!r} is not there: {self.why}")
            self._wanted.set()
            await self._moved.wait()
        return self._client

    async def _up_to_date(self) -> None:
        """Wait for the list of tools if it has changed: the answer to a result may use the new tools.

        The list that is read at present may be older than the last change. A server whose list changes all the time is
        not waited for any longer than that.
        """
        await asyncio.sleep(0)
        with anyio.move_on_after(RELIST_S):
            for _ in range(2):
                await self._listed.wait()


class _Given:
    """Streams that are open already, as a transport of the package."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams

    async def __aenter__(self) -> Any:
        return self._streams

    async def __aexit__(self, *error: object) -> None:
        pass


_CLIENT = wire.Implementation(name="duologue", version="1")


def _reason(error: BaseException) -> str:
    """Return the first error of a group in one line, without credentials."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = without_credentials(str(error)) or type(error).__name__
    return one_line(text if isinstance(error, Gone | MCPError) else f"{type(error).__name__}: {text}")
