"""OAuth for a server at an address: `TokenFile` keeps what a person has signed in for, and a call renews it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import BadInput, ConfigurationError, DeadlineExceeded, public_address
from .package import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthClientProvider,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)

MAX_FILE = 262_144
"""The most bytes of a file with tokens."""
MARGIN_S = 10.0
"""Seconds before its end at which a token is renewed: a request takes time."""
SIGN_IN_S = 300.0
"""The time that a person has to sign in, in seconds."""
MAX_REQUEST_LINE = 16_384
PAGE = b"<!doctype html><title>Duologue</title><p>This window can be closed.</p>"


class TokenFile:
    """The tokens of one server in a JSON file, which only its user may read.

    It has the client's registration and the addresses of the authorization server as well: a token that has expired
    while no program ran can be renewed. It is a `TokenStorage` of the package.
    """

    def __init__(self, path: str | os.PathLike[str], *, fresh: bool = False) -> None:
        self.path = Path(path)
        self._kept: dict[str, Any] | None = {} if fresh else None
        self.provider: OAuthClientProvider | None = None
        """The authentication that uses this file. Its context learns from the file when a token ends."""

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens, None without a file. Raises BadInput for a file that is not one of tokens."""
        kept = self._load()
        if not kept.get("tokens"):
            return None
        try:
            tokens = OAuthToken.model_validate(kept["tokens"])
            left_s = float(kept.get("ends_at", 0)) - time.time() - MARGIN_S if kept.get("ends_at") else None
            server, resource = kept.get("server"), kept.get("resource")
            if self.provider is not None:
                context = self.provider.context
                context.token_expiry_time = None if left_s is None else time.time() + left_s
                context.oauth_metadata = OAuthMetadata.model_validate(server) if server else None
                if resource:
                    context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(resource)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{self.path}: these are no tokens: {type(error).__name__}") from error
        return tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep new tokens."""
        kept = self._load()
        kept["tokens"] = tokens.model_dump(mode="json", exclude_none=True)
        kept["ends_at"] = time.time() + tokens.expires_in if tokens.expires_in is not None else None
        if self.provider is not None:
            context = self.provider.context
            for name, model in (("server", context.oauth_metadata), ("resource", context.protected_resource_metadata)):
                if model is not None:
                    kept[name] = model.model_dump(mode="json", exclude_none=True)
        self._save(kept)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registration of the client, None without one."""
        client = self._load().get("client")
        try:
            return OAuthClientInformationFull.model_validate(client) if client else None
        except ValueError as error:
            raise BadInput(f"{self.path}: this is no registration of a client: {type(error).__name__}") from error

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep the registration of the client."""
        self._save({**self._load(), "client": client_info.model_dump(mode="json", exclude_none=True)})

    def renew(self) -> bool:
        """Have the next request renew the token, which the server refuses. Returns False if it cannot be renewed."""
        if self.provider is None or not self.provider.context.can_refresh_token():
            return False
        self.provider.context.token_expiry_time = 1.0  # long ago
        return True

    def _load(self) -> dict[str, Any]:
        if self._kept is None:
            try:
                with self.path.open("rb") as file:
                    data = file.read(MAX_FILE + 1)
                kept = json.loads(data) if len(data) <= MAX_FILE else None
            except FileNotFoundError:
                kept = {}
            except (OSError, ValueError) as error:
                raise BadInput(f"{self.path} cannot be read: {type(error).__name__}") from error
            if not isinstance(kept, dict):
                raise BadInput(f"{self.path} is no file of tokens")
            self._kept = kept
        return self._kept

    def _save(self, kept: dict[str, Any]) -> None:
        """Replace the file at once: a process that is killed meanwhile leaves the old one."""
        self._kept = kept
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)  # with mode 0600
        try:
            with os.fdopen(number, "w") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def with_tokens(url: str, path: str | os.PathLike[str]) -> OAuthClientProvider:
    """Return the authentication of a program without a person: it has the tokens of a file, and renews them."""
    tokens = TokenFile(path)
    renewed_at = -60.0

    async def needed(_: str) -> None:
        nonlocal renewed_at
        if time.monotonic() - renewed_at > 60.0 and tokens.renew():
            renewed_at = time.monotonic()
            raise ConfigurationError("the server refuses the token; it is renewed")
        raise ConfigurationError(f"somebody has to sign in: duologue mcp-login {public_address(url)} --tokens {path!s}")

    async def never() -> AuthorizationCodeResult:
        raise ConfigurationError("nobody signs in here")

    return _provider(url, tokens, "http://127.0.0.1/callback", needed, never)


def _provider(url: str, tokens: TokenFile, redirect: str, show: Any, result: Any) -> OAuthClientProvider:
    about = OAuthClientMetadata.model_validate({"client_name": "Duologue", "redirect_uris": [redirect]})
    tokens.provider = OAuthClientProvider(url, about, tokens, show, result)
    return tokens.provider


@asynccontextmanager
async def signing_in(
    url: str, path: str | os.PathLike[str], show: Callable[[str], None], *, port: int = 0
) -> AsyncIterator[OAuthClientProvider]:
    """Give an authentication for which a person signs in, at the address that `show` gets.

    The browser comes back to a port of this machine. Raises DeadlineExceeded, at the first request, after 300 s, and
    ConfigurationError if the person refuses.
    """
    arrived: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(10):
                target = (await reader.readuntil(b"\r\n")).decode("latin-1").split(" ")[1]
                found = urlsplit(target)
                known = found.path == "/callback"
                status = b"200 OK" if known else b"404 Not Found"
                page = PAGE if known else b""
                head = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                writer.write(head % (status, len(page)) + page)
                await writer.drain()
                if known and not arrived.done():
                    arrived.set_result({name: values[0] for name, values in parse_qs(found.query).items()})
        writer.close()

    async def shown(address: str) -> None:
        show(address)

    async def result() -> AuthorizationCodeResult:
        done, _ = await asyncio.wait({arrived}, timeout=SIGN_IN_S)
        if not done:
            raise DeadlineExceeded(f"nobody has signed in within {SIGN_IN_S:g} s")
        values = arrived.result()
        if "code" not in values:
            why = values.get("error_description") or values.get("error") or "no code came back"
            raise ConfigurationError(f"the sign-in was refused: {why[:200]!r}")
        return AuthorizationCodeResult(code=values["code"], state=values.get("state"), iss=values.get("iss"))

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=MAX_REQUEST_LINE)
    try:
        here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
        yield _provider(url, TokenFile(path, fresh=True), here, shown, result)
    finally:
        server.close()
        await server.wait_closed()
