"""`duologue mcp-login`: a person signs in to an MCP server, and the tokens are kept in a file for the calls."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigurationError, ServiceError, check_installed


def run_login(url: str, tokens: Path, port: int, *, browser: bool) -> int:
    """Sign in and write the file. Returns 0, the exit code.

    Raises ConfigurationError for an address that is none, MissingExtra without the package, and ServiceError if the
    server cannot be reached, or nobody signs in.
    """
    check_installed("mcp", "mcp")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"the address of an MCP server begins with http:// or https://, not {url[:50]!r}")
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"the port is {port}: it lies between 0, for any, and 65535")

    def show(address: str) -> None:
        print(f"Sign in at\n{address}", flush=True)
        if browser:
            webbrowser.open(address)

    count = asyncio.run(_sign_in(url, tokens, show, port))
    print(f"Signed in: the server has {count} tools. Its tokens are in {tokens}.")
    return 0


async def _sign_in(url: str, tokens: Path, show: Callable[[str], None], port: int) -> int:
    from ..mcp.connection import ServerConnection
    from ..mcp.http import Endpoint
    from ..mcp.oauth import SIGN_IN_S, signing_in

    async with signing_in(url, tokens, show, port=port) as auth:
        limit_s = SIGN_IN_S + 30.0
        connection = ServerConnection(
            "server", Endpoint(url, auth=auth), start_s=limit_s, changed=lambda: None, failed=lambda why: None
        )
        try:
            if why := await connection.ready(limit_s):
                raise ServiceError(f"the sign-in has failed: {why}")
            return len(connection.tools)
        finally:
            await connection.close()
