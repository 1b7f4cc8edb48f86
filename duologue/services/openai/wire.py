"""The SDK's client of OpenAI Realtime: it authenticates and dials, and the wire is the connection that it opens."""

from __future__ import annotations

import binascii
import inspect
import os
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from ...errors import ConfigurationError, IncompatiblePackage, MissingExtra, check_installed, public_address
from ...frames.text import from_json
from ..remote.dialect import Wire
from ..remote.errors import ConnectionLost, asked_pause_s, fatal
from ..remote.tls import client_ssl_context
from ..remote.websocket import (
    MAX_RECEIVED_BYTES,
    WebSocketWire,
    check_websockets,
    create_connection,
    dialled,
    websocket_lost,
)

if TYPE_CHECKING:  # an optional dependency
    from openai import AsyncOpenAI

    from ..remote.pushing import PushingConnection


def append_audio(pcm: bytes) -> str:
    """Return the message that appends audio to the input buffer. `pcm` is mono s16le at 24 kHz."""
    audio = binascii.b2a_base64(pcm, newline=False).decode("ascii")
    return f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}'


def check_sdk() -> None:
    """Load the SDK. Raises MissingExtra without it, IncompatiblePackage if it lacks a function that is used here."""
    try:
        from openai.resources.realtime import AsyncRealtime
    except ImportError as error:
        raise MissingExtra("openai", "openai", str(error)) from error
    if "websocket_connection_options" not in inspect.signature(AsyncRealtime.connect).parameters:
        raise IncompatiblePackage("openai", "realtime.connect(websocket_connection_options=…)", "openai")
    check_websockets("openai")


class OpenAIClient:
    """The SDK's client of one engine, made at its first use. Raises MissingExtra without the SDK."""

    def __init__(self, api_key: str, base_url: str) -> None:
        check_installed("openai", "openai", "websockets")
        self._api_key, self._base_url = api_key, base_url
        self._client: AsyncOpenAI | None = None
        self._making = anyio.Lock()
        self._ahead_s: float | None = None  # the provider's clock minus `time.monotonic`

    def check(self) -> None:
        """Raise ConfigurationError for a missing or malformed key, or an address with an unknown scheme."""
        key = self._key
        if not key:
            raise ConfigurationError("OpenAI needs an API key: set OPENAI_API_KEY or give api_key")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError("the OpenAI API key has characters that keys do not have (a space, a line's end?)")
        if self._base_url and not self._base_url.startswith(("http://", "https://")):
            address = public_address(self._base_url)
            raise ConfigurationError(f"base_url is {address!r}: it begins with http:// or https://")

    @property
    def _key(self) -> str:
        return self._api_key or os.environ.get("OPENAI_API_KEY", "")

    async def dial(self, model: str = "", **query: str) -> Wire:
        """Open a connection for a model, with further fields of the `query`.

        Raises ConnectionLost, ConfigurationError without a key.
        """
        self.check()
        async with self._making:
            if self._client is None:
                try:  # in a thread, because loading the SDK and the certificates would block other calls
                    self._client = await anyio.to_thread.run_sync(self._make_client)
                except Exception as error:  # the SDK cannot use the address or the proxy
                    raise ConnectionLost(f"no connection to OpenAI: {error}", fatal=True) from error
        options: dict[str, Any] = {
            "max_size": MAX_RECEIVED_BYTES,
            "compression": None,
            "create_connection": create_connection,
        }
        if self._client.base_url.scheme == "https":
            options["ssl"] = client_ssl_context()
        wanted: dict[str, Any] = {"model": model} if model else {}
        wanted |= {"extra_query": query, "websocket_connection_options": options}
        connecting = self._client.realtime.connect(**wanted)
        try:
            with dialled() as connections:
                opened = await connecting.enter()
        except Exception as error:
            raise lost(error) from error
        if not connections:
            await opened.close()
            problem = IncompatiblePackage("openai", "websocket_connection_options['create_connection']", "openai")
            raise ConnectionLost(str(problem), fatal=True) from problem
        self._ahead_s = _clock_of(connections[-1])
        return WebSocketWire(connections[-1], lost, decode=False)

    def provider_now(self) -> float | None:
        """Return the provider's time in seconds since the epoch, None if its latest handshake had no time."""
        return None if self._ahead_s is None else time.monotonic() + self._ahead_s

    def _make_client(self) -> AsyncOpenAI:
        check_sdk()
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(verify=client_ssl_context())
        client = AsyncOpenAI(api_key=self._key, base_url=self._base_url or None, max_retries=0, http_client=http)
        _ = client.realtime  # loads its code
        return client

    async def close(self) -> None:
        """Release the SDK's client. The next `dial` makes another."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _clock_of(connection: PushingConnection) -> float | None:
    """Return the time in the headers of a handshake, minus `time.monotonic`. None without one."""
    try:
        told = connection.response.headers["Date"] if connection.response is not None else ""
        return parsedate_to_datetime(told).timestamp() - time.monotonic()
    except (KeyError, TypeError, ValueError, LookupError):
        return None


def lost(error: Exception) -> ConnectionLost:
    """Return the ConnectionLost for an error of the SDK or of `websockets`."""
    from openai import OpenAIError
    from websockets.exceptions import InvalidStatus

    if isinstance(error, InvalidStatus):
        refused = _refusal_lost(error.response.status_code, bytes(error.response.body or b""))
        refused.retry_after_s = asked_pause_s(error.response.headers)
        return refused
    if isinstance(error, OpenAIError):
        return ConnectionLost(f"no connection to OpenAI: {error}", fatal=True)
    return websocket_lost(error)


def _refusal_lost(status: int, body: bytes) -> ConnectionLost:
    """Return the ConnectionLost for a refusal, without the provider's message, which repeats a part of the key."""
    reason = _error_code(body)
    text = f"OpenAI refused the connection: HTTP {status} {reason}".rstrip()
    hint = "; is the API key right?" if status == 401 else ""
    return ConnectionLost(text + hint, code=status, fatal=fatal(status=status, reason=reason))


def _error_code(body: bytes) -> str:
    try:
        error = from_json(body)["error"]
        return str(error.get("code") or error.get("type") or "")[:100]
    except (msgspec.DecodeError, TypeError, KeyError, AttributeError, IndexError):
        return ""
