"""The official SDK's side of OpenAI Realtime: its client, its connection as a `Wire`, and what their errors mean."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from ...errors import ConfigurationError, MissingExtra
from ..remote.errors import ConnectionLost
from ..remote.tls import client_ssl_context
from ..remote.wire import Wire
from .responses import FATAL

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.resources.realtime.realtime import AsyncRealtimeConnection
    from websockets.asyncio.client import ClientConnection

CLOSE_S = 1.0
"""So long the far end has to answer that a connection ends."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A connection that brings a longer message is given up."""

_TRY_AGAIN = frozenset((408, 409, 425, 429))  # of the HTTP statuses 400 to 499
_REFUSED = frozenset((3000, 3003))  # close codes: unauthorized, forbidden


class Client:
    """The SDK's client of one engine, made when it is first needed. Raises MissingExtra without the SDK."""

    def __init__(self, api_key: str, base_url: str) -> None:
        for module in ("openai", "websockets"):
            if importlib.util.find_spec(module) is None:
                raise MissingExtra(module, "openai")
        self._api_key, self._base_url = api_key, base_url
        self._client: AsyncOpenAI | None = None
        self._making = anyio.Lock()

    def check(self) -> None:
        """Raise ConfigurationError if there is no usable key or address."""
        key = self._key
        if not key:
            raise ConfigurationError("OpenAI needs an API key: set OPENAI_API_KEY or give api_key")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError("the OpenAI API key has characters that no key has (a space or a line's end?)")
        if self._base_url and not self._base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"base_url is {self._base_url!r}: it begins with http:// or https://")

    @property
    def _key(self) -> str:
        return self._api_key or os.environ.get("OPENAI_API_KEY", "")

    async def dial(self, model: str) -> Wire:
        """Open a connection, once. Raises ConnectionLost."""
        self.check()
        async with self._making:
            if self._client is None:
                try:  # in a thread: it reads the certificates and much code, and other calls must not wait for that
                    self._client = await anyio.to_thread.run_sync(self._made)
                except Exception as error:  # an address or a proxy that the SDK cannot use
                    raise ConnectionLost(f"no connection to OpenAI: {error}", fatal=True) from error
        from openai import OpenAIError
        from websockets.exceptions import WebSocketException

        options: dict[str, Any] = {"max_size": MAX_MESSAGE_BYTES, "compression": None}
        if self._client.base_url.scheme == "https":
            options["ssl"] = client_ssl_context()
        try:
            connecting = self._client.realtime.connect(model=model, websocket_connection_options=options)  # type: ignore[arg-type]
            return _SdkWire(await connecting.enter())
        except (WebSocketException, OpenAIError, OSError, EOFError, ImportError) as error:
            raise lost(error) from error

    def _made(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(verify=client_ssl_context())
        client = AsyncOpenAI(api_key=self._key, base_url=self._base_url or None, max_retries=0, http_client=http)
        _ = client.realtime  # loads its code
        return client

    async def close(self) -> None:
        """Release what the client holds. It is made again if it is needed again."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class _SdkWire:
    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        from websockets.exceptions import WebSocketException

        self._connection = connection
        self._socket: ClientConnection = connection._connection  # the SDK has no ping and no abort of its own
        self._errors = (WebSocketException, OSError)

    @property
    def ready(self) -> bool:
        return self._socket.transport.get_write_buffer_size() == 0

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send_raw(message)
        except self._errors as error:
            raise lost(error) from error

    async def receive(self) -> bytes:
        try:
            return await self._connection.recv_bytes()
        except self._errors as error:
            raise lost(error) from error

    async def ping(self) -> None:
        try:
            await (await self._socket.ping())
        except self._errors as error:
            raise lost(error) from error

    async def close(self) -> None:
        with anyio.move_on_after(CLOSE_S, shield=True):
            try:
                await self._connection.close()
                return
            except self._errors:
                pass
        self._socket.transport.abort()
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._socket.wait_closed()


def lost(error: Exception) -> ConnectionLost:
    """What an error of the SDK's or of its WebSocket library means. A refusal that stands is fatal."""
    from openai import OpenAIError
    from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, InvalidURI

    if isinstance(error, ConnectionClosed):
        return _closed(error.rcvd.code, error.rcvd.reason) if error.rcvd is not None else _broken(error)
    if isinstance(error, InvalidStatus):
        return _rejected(error.response.status_code, bytes(error.response.body or b""))
    # ImportError: a proxy in the environment is of a kind that takes another package.
    fatal = isinstance(error, InvalidURI | InvalidProxy | OpenAIError | ImportError)
    return ConnectionLost(f"no connection to OpenAI: {error or type(error).__name__}", fatal=fatal)


def _closed(code: int, reason: str) -> ConnectionLost:
    """By the far end. Its reasons for a refusal are like `invalid_request_error.invalid_api_key`."""
    refused = code in _REFUSED or reason.startswith("invalid_request_error") or any(name in reason for name in FATAL)
    fatal = refused and "session_expired" not in reason
    return ConnectionLost(f"OpenAI closed the connection: {code} {reason}".rstrip(), code=code, fatal=fatal)


def _broken(error: Exception) -> ConnectionLost:
    return ConnectionLost(f"the connection to OpenAI broke: {error}")


def _rejected(status: int, body: bytes) -> ConnectionLost:
    """At the door. The provider's own words are left out: they have a part of the key in them."""
    code = _error_code(body)
    fatal = (400 <= status < 500 and status not in _TRY_AGAIN) or code in FATAL
    what = f"OpenAI refused the connection: HTTP {status} {code}".rstrip()
    hint = "; is the API key right?" if status == 401 else ""
    return ConnectionLost(what + hint, fatal=fatal)


def _error_code(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error.get("code") or error.get("type") or "")[:100]
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError, AttributeError, IndexError):
        return ""
