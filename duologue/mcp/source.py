"""`MCPTools`: the tools of an MCP server, for agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..agents.fields import check_several, check_strings
from ..agents.sources import ToolSource
from ..agents.tool import Tool
from ..errors import ConfigurationError, ServiceError, check_installed, check_range, public_address
from .offered import Filter, Offered, Progress
from .thread import THREAD, in_thread

if TYPE_CHECKING:
    from .connection import ServerConnection

T = TypeVar("T")
Ask: TypeAlias = Callable[[Any, "ServerConnection"], Coroutine[Any, Any, T]]
"""A request, made with the functions of `requests.py`, on a connection."""

KEPT_S = 60.0
"""Seconds that a connection is kept after the last call that used it."""


class MCPTools(ToolSource):
    """The tools of an MCP server, over the official package (extra `mcp`).

        crm = MCPTools("crm", command="python", args=["crm.py"])
        maps = MCPTools("maps", url="https://maps.example/mcp", headers={"Authorization": f"Bearer {key}"})
        agent = Agent(name="Desk", tools=[book, crm, maps])

    A server is a program (`command`, `args`, `env`, `cwd`), which talks over stdin and stdout, or an address (`url`,
    `headers`, `tokens`, `auth`), which talks streamable HTTP. `tokens` is the file of an OAuth sign-in, made by
    `duologue mcp-login`: its tokens are renewed, and kept there. `auth` is an authentication of httpx2, such as the
    package's own for OAuth; its handlers run in the thread of the MCP connections. `env` is added to the few variables
    that the package lets a server have.

    One connection serves all calls of a program. It is made by `async with`, or by the first call, and ends with the
    block, or `KEPT_S` after the last call. With `per_call` each call has one of its own. A server has `start_s` seconds
    to start and to list its tools. A call waits for it at most `wait_s` seconds, then goes on without its tools and
    gets them when they are there. A connection that is lost is made again after a pause, which doubles up to 30 s; the
    calls in progress fail with an error that names the server. Each failure is reported to the calls, once.

    `allow` and `deny` filter the tools: names, patterns like "read_*", or a function of the name. `settings` are
    options of `Tool` for single tools by their names, for example {"refund": {"needs_approval": True}}; `timeout_s` is
    the time limit of the others, in seconds. With `prefix`, "prefix_" stands before every name. A name that the
    agent's own tools have, or those of a source before this one, becomes "server_name", with the server's name.

    A model sees at most `max_tools` tools of a server. Of more, it sees those with `settings`, and two others,
    `search_tools` and `call_tool`, for the rest. With `resources` it also sees `read_resource`.

    Raises ConfigurationError for a wrong argument, and MissingExtra without the package.
    """

    def __init__(
        self,
        name: str,
        *,
        command: str = "",
        args: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        url: str = "",
        headers: Mapping[str, str] | None = None,
        tokens: str | os.PathLike[str] = "",
        auth: Any = None,
        allow: Filter = None,
        deny: Filter = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        timeout_s: float = 20.0,
        prefix: str = "",
        max_tools: int = 40,
        resources: bool = False,
        per_call: bool = False,
        start_s: float = 30.0,
        wait_s: float = 2.0,
    ) -> None:
        check_installed("mcp", "mcp")
        self.name, self.command, self.url, self.prefix = name, command, url, prefix
        check_strings(self, "name", "command", "url", "prefix")
        if not name.strip():
            raise ConfigurationError("an MCP server needs a name")
        if bool(command) == bool(url):
            raise ConfigurationError(f"MCP server {name!r} has either a command or a url")
        if url and not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"MCP server {name!r}: its url begins with http:// or https://")
        if tokens and auth is not None:
            raise ConfigurationError(f"MCP server {name!r} has either tokens or an auth")
        for given, other in ((args or env or cwd, "url"), (headers or tokens or auth is not None, "command")):
            if given and getattr(self, other):
                fields = "args, env and cwd" if other == "url" else "headers, tokens and auth"
                raise ConfigurationError(f"MCP server {name!r} has a {other}, so {fields} have no effect")
        check_several(f"MCP server {name!r}", "args", args, 'args=["server.py"]')
        self.timeout_s, self.start_s, self.wait_s, self.max_tools = timeout_s, start_s, wait_s, max_tools
        check_range(self, timeout_s=(0.01, 3600), start_s=(0.01, 600), wait_s=(0, 600), max_tools=(1, 1000))
        self._program = command, tuple(args), env, cwd
        self._endpoint = url, headers, auth, tokens
        self._offered = Offered(self, allow, deny, settings or {}, resources)
        self._per_call = per_call
        self._shared = Use(self)
        self._uses: dict[str, Use] = {}  # by the id of the session
        self._entered = 0

    def __repr__(self) -> str:
        return f"MCPTools({self.name!r}, {public_address(self.url) or self.command})"

    # -- the life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> MCPTools:
        """Connect, and wait until the server is up, or has failed; then it is connected in the background."""
        self._entered += 1
        use = self._shared
        use.hold()
        await use.ready(self.start_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        self._shared.drop()
        if not self._shared.holders:
            await self._shared.end()

    async def open(self, session: Any, changed: Callable[[], None]) -> None:
        """Connect for a call. A server that is not up within `wait_s` is reported to the session."""
        use = self._uses[session.id] = Use(self) if self._per_call else self._shared
        use.hold()
        loop = asyncio.get_running_loop()

        def report(why: str) -> None:
            session.report(ServiceError(f"the MCP server {self.name!r} is not connected: {why}"), self.name)

        def tell(function: Callable[..., None], *args: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop of the call has closed
                loop.call_soon_threadsafe(function, *args)

        if why := await use.ready(min(self.wait_s, session.deadlines.start_s / 2)):
            report(why)
        use.watchers[session.id] = (lambda: tell(changed), lambda why: tell(report, why))

    async def close(self, session: Any) -> None:
        """End the use by a call."""
        use = self._uses.pop(session.id, None)
        if use is not None:
            use.watchers.pop(session.id, None)
            use.drop()
            if not use.holders:
                use.end_later(0.0 if self._per_call else KEPT_S)

    # -- tools, prompts, resources -----------------------------------------------------------------------------------

    def tools(self, session: Any) -> Sequence[Tool]:
        """Return the tools that a call has at present."""
        use = self._uses.get(session.id, self._shared)
        return self._offered.tools(use.listed)

    async def prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> str:
        """Return a prompt of the server as text, for example for the instructions of an agent.

        Raises ToolError, which names the server, if it fails.
        """
        return await self._ask(lambda requests, c: requests.read_prompt(c, name, dict(arguments or {}), self.timeout_s))

    async def resource(self, uri: str) -> str:
        """Return a resource of the server as text. Raises ToolError, which names the server, if it fails."""
        return await self._ask(lambda requests, c: requests.read_resource(c, uri, self.timeout_s))

    async def prompts(self) -> dict[str, str]:
        """Return the names of the server's prompts with their descriptions. Raises ToolError if it fails."""
        return await self._ask(lambda requests, c: requests.list_prompts(c, self.timeout_s))

    async def resources(self) -> dict[str, str]:
        """Return the URIs of the server's resources with their names. Raises ToolError if it fails."""
        return await self._ask(lambda requests, c: requests.list_resources(c, self.timeout_s))

    async def instructions(self) -> str:
        """Return the server's instructions for its use, "" if it has none."""
        return await self._ask(lambda requests, c: requests.server_instructions(c, self.timeout_s))

    async def call(
        self, session: Any, name: str, arguments: dict[str, Any], timeout_s: float, progress: Progress = None
    ) -> Any:
        """Call a tool by the server's own name for it, and return its result. Raises ToolError if it fails.

        `progress` receives the server's words on its progress, in another thread.
        """
        use = self._uses.get(session.id, self._shared)
        return await use.ask(lambda requests, c: requests.call_tool(c, name, arguments, timeout_s, progress))

    async def _ask(self, request: Ask[T]) -> T:
        self._shared.hold()
        try:
            return await self._shared.ask(request)
        finally:
            self._shared.drop()
            if not self._shared.holders:
                self._shared.end_later(KEPT_S)

    def connect(self, use: Use) -> ServerConnection:
        """Return a new connection. Runs in the thread of the connections."""
        from .connection import ServerConnection
        from .http import Endpoint
        from .stdio import Program

        command, args, env, cwd = self._program
        url, headers, auth, tokens = self._endpoint
        if tokens:
            from .oauth import with_tokens

            auth = with_tokens(url, tokens)
        place = Endpoint(url, headers, auth) if url else Program(command, args, env, os.fspath(cwd) if cwd else None)
        return ServerConnection(self.name, place, start_s=self.start_s, changed=use.changed, failed=use.failed)


class Use:
    """A connection and its users: the blocks and calls that hold it.

    The fields are changed on the loops of the users; the connection lives in the thread.
    """

    def __init__(self, source: MCPTools) -> None:
        self._source = source
        self._connection: ServerConnection | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._end_task: asyncio.Task[None] | None = None
        self.holders = 0
        self.watchers: dict[str, tuple[Callable[[], None], Callable[[str], None]]] = {}
        """By session, the functions to call after a change and after a failure."""

    @property
    def listed(self) -> tuple[Any, ...]:
        """The tools as the server listed them."""
        connection = self._connection
        return connection.tools if connection is not None else ()

    def hold(self) -> None:
        """Keep the connection for a user."""
        self.holders += 1

    def drop(self) -> None:
        """End the use by one user."""
        self.holders -= 1

    def changed(self) -> None:
        """Tell the calls that the tools have changed."""
        for changed, _ in list(self.watchers.values()):
            changed()

    def failed(self, why: str) -> None:
        """Tell the calls that the server is not connected."""
        for _, failed in list(self.watchers.values()):
            failed(why)

    async def ready(self, limit_s: float) -> str:
        """Connect, and wait for it. Returns the reason if that fails, or takes longer."""

        async def wait() -> str:
            return await self._connected().ready(limit_s)

        return await in_thread(wait)

    async def ask(self, request: Ask[T]) -> T:
        """Return the answer to a request."""

        from . import requests  # loads the package

        async def send() -> T:
            return await request(requests, self._connected())

        return await in_thread(send)

    def _connected(self) -> ServerConnection:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._connection is None:
            self._connection = self._source.connect(self)
        return self._connection

    async def end(self) -> None:
        """End the connection, and wait for that."""
        await in_thread(self._end)

    def end_later(self, delay_s: float) -> None:
        """End the connection after a time, unless it is used again."""

        def due() -> None:
            if not self.holders:
                self._end_task = asyncio.ensure_future(self._end())

        def begin() -> None:
            if self._ending is not None:
                self._ending.cancel()
            self._ending = asyncio.get_running_loop().call_later(delay_s, due)

        THREAD.loop().call_soon_threadsafe(begin)

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
