"""The requests to a server, each with its answer as a model or an application takes it.

All run in the thread of `thread.py`, and raise ToolError, which names the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio

from ..errors import ToolError
from .connection import MAX_PAGES, MAX_TOOLS, ServerConnection
from .lines import LoggedLines, one_line
from .package import Client
from .results import prompt_text, resource_text, tool_result

log = logging.getLogger("duologue.mcp")


async def call_tool(
    connection: ServerConnection,
    name: str,
    arguments: dict[str, Any],
    timeout_s: float,
    progress: Callable[[str], None] | None,
) -> Any:
    """Call a tool, and return its result. `progress` receives the server's words on its progress."""
    steps = LoggedLines(log, f"MCP server {connection.name!r}: {name!r}", logging.DEBUG)

    async def tell(done: float, total: float | None, message: str | None) -> None:
        text = one_line(message or f"{done:g}{f' of {total:g}' if total else ''}")
        steps.add(text)
        if progress is not None:
            progress(text)

    async def send(client: Client) -> Any:
        # The package names the first argument, and passes it by its place.
        return tool_result(await client.call_tool(name, arguments, progress_callback=tell))  # type: ignore[arg-type]

    return await connection.request(send, timeout_s)


async def read_prompt(connection: ServerConnection, name: str, arguments: dict[str, str], timeout_s: float) -> str:
    """Return a prompt as text."""
    return prompt_text(await connection.request(lambda client: client.get_prompt(name, arguments), timeout_s))


async def read_resource(connection: ServerConnection, uri: str, timeout_s: float) -> str:
    """Return a resource as text."""
    return resource_text((await connection.request(lambda client: client.read_resource(uri), timeout_s)).contents)


async def list_prompts(connection: ServerConnection, timeout_s: float) -> dict[str, str]:
    """Return the names of the prompts with their descriptions."""

    def named(page: Any) -> Iterable[tuple[str, str]]:
        return ((each.name, one_line(each.description or each.title or "")) for each in page.prompts)

    return await _pages(connection, Client.list_prompts, named, timeout_s)


async def list_resources(connection: ServerConnection, timeout_s: float) -> dict[str, str]:
    """Return the URIs of the resources with their names."""

    def named(page: Any) -> Iterable[tuple[str, str]]:
        return ((str(each.uri), one_line(each.title or each.name)) for each in page.resources)

    return await _pages(connection, Client.list_resources, named, timeout_s)


async def _pages(
    connection: ServerConnection,
    ask: Callable[..., Any],
    named: Callable[[Any], Iterable[tuple[str, str]]],
    timeout_s: float,
) -> dict[str, str]:
    found: dict[str, str] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await connection.request(partial(ask, cursor=cursor), timeout_s)
        found.update(named(page))
        cursor = page.next_cursor
        if not cursor or len(found) > MAX_TOOLS:
            break
    return found


async def server_instructions(connection: ServerConnection, timeout_s: float) -> str:
    """Return the server's instructions for its use, "" if it has none."""
    with anyio.move_on_after(timeout_s):
        return (await connection.connected()).instructions or ""
    raise ToolError(f"the server {connection.name!r} is not connected within {timeout_s:g} s")
