"""The SDK's client of Deepgram: it authenticates and makes the request, and the wire is the connection that results.

The SDK is not used to read messages: it returns None for a message of an unknown type, names a class by chance for two
types of one shape, and builds pydantic models, at 1.2 ms for a result of ten words (msgspec takes 20 µs).
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread
import msgspec

from ...errors import ConfigurationError, IncompatiblePackage, MissingExtra, check_installed, public_address
from ...frames.text import from_json
from ..remote.dialect import Wire, WireMessage
from ..remote.errors import ConnectionLost, fatal
from ..remote.keyed import checked_key
from ..remote.websocket import check_websockets, open_websocket

if TYPE_CHECKING:  # an optional dependency
    from deepgram import AsyncDeepgramClient

BASE_URL = "wss://api.deepgram.com"
DIALLER = "websockets_client_connect"
"""The name by which the SDK's modules know the function that opens a WebSocket. Its `transport_factory` replaces that
function, too, but for the whole process."""

Product = Literal["listen", "speak"]
Version = Literal["v1", "v2"]

HINTS = {
    401: "; is the API key right?",
    402: "; has the project credit?",
    403: "; may this key use the model?",
    404: "; is the address right?",
}


def check_sdk() -> None:
    """Load the SDK. Raises MissingExtra without it, IncompatiblePackage if it lacks a name that is used here."""
    try:
        from deepgram.environment import DeepgramClientEnvironment
        from deepgram.listen.v1 import client as nova
        from deepgram.listen.v2 import client as flux
        from deepgram.speak.v1 import client as aura
        from deepgram.speak.v2 import client as flux_speech
    except ImportError as error:
        raise MissingExtra("deepgram", "deepgram", str(error)) from error
    for resource in (nova.AsyncV1Client, flux.AsyncV2Client, aura.AsyncV1Client, flux_speech.AsyncV2Client):
        _with_dialler(resource.connect, None)
    if "production" not in inspect.signature(DeepgramClientEnvironment).parameters:
        raise IncompatiblePackage("deepgram-sdk", "DeepgramClientEnvironment(production=…)", "deepgram")
    check_websockets("deepgram")


def deepgram_message(kind: str, **fields: Any) -> str:
    """Return a message to Deepgram."""
    return msgspec.json.encode({"type": kind, **fields}).decode()


class DeepgramClient:
    """The SDK's client of one service, made at its first use.

    Raises MissingExtra without the SDK, ConfigurationError without a key and for an address with an unknown scheme.
    """

    def __init__(self, api_key: str, base_url: str, ssl_context: ssl.SSLContext | None) -> None:
        check_installed("deepgram", "deepgram", "websockets")
        key = checked_key("Deepgram", api_key)
        scheme, _, host = (base_url or BASE_URL).rstrip("/").partition("://")
        if scheme not in ("ws", "wss", "http", "https") or not host:
            raise ConfigurationError(f"base_url is {public_address(base_url)!r}: it begins with wss:// or https://")
        self._key = key
        self._secure, self._host, self._ssl_context = scheme in ("wss", "https"), host, ssl_context
        self._client: AsyncDeepgramClient | None = None
        self._making = anyio.Lock()

    async def dial(self, product: Product, version: Version, farewell: WireMessage, query: Mapping[str, Any]) -> Wire:
        """Open a connection. Raises ConnectionLost. `query` has the arguments of the SDK's `connect`.

        `farewell` is sent before this side closes the connection.
        """
        async with self._making:
            if self._client is None:
                try:  # in a thread, because loading the SDK takes half a second
                    self._client = await anyio.to_thread.run_sync(self._make_client)
                except TypeError as error:
                    raise ConnectionLost(f"no connection to Deepgram: {error}", fatal=True) from error
        resource = getattr(getattr(self._client, product), version)
        opened: list[Wire] = []

        @asynccontextmanager
        async def dialled(url: str, *, extra_headers: Mapping[str, str]) -> AsyncIterator[Wire]:
            wire = await open_websocket(
                url, headers=extra_headers, ssl_context=self._ssl_context, extra="deepgram", farewell=farewell
            )
            opened.append(wire)
            yield wire

        connect = _with_dialler(type(resource).connect, dialled)
        try:
            async with connect(resource, **query):
                return opened[0]
        except ConnectionLost as error:
            raise self._refusal(error) from error.__cause__
        except TypeError as error:  # an argument that this version of the SDK does not have
            raise ConnectionLost(f"no connection to Deepgram: {error}", fatal=True) from error

    def _make_client(self) -> AsyncDeepgramClient:
        check_sdk()
        from deepgram import AsyncDeepgramClient
        from deepgram.environment import DeepgramClientEnvironment

        web, sockets = (f"{scheme}{'s' if self._secure else ''}://{self._host}" for scheme in ("http", "ws"))
        environment = DeepgramClientEnvironment(base=web, production=sockets, agent=sockets, agent_rest=web)
        return AsyncDeepgramClient(api_key=self._key, environment=environment)

    def _refusal(self, error: ConnectionLost) -> ConnectionLost:
        """Return a refusal with Deepgram's reason, from the header `dg-error` or the body."""
        response = getattr(error.__cause__, "response", None)
        if response is None:
            return error
        status = response.status_code
        reason = _refusal_reason(bytes(response.body or b"")) or response.headers.get("dg-error", "")
        reason = reason.replace(self._key, "…")[:200]
        text = f"Deepgram refused the connection: HTTP {status} {reason}".rstrip() + HINTS.get(status, "")
        final = fatal(status=status, reason=reason)
        return ConnectionLost(text, code=status, fatal=final, retry_after_s=error.retry_after_s)


def _with_dialler(connect: Any, dialler: Any) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Return the SDK's `connect` with another function to open the WebSocket.

    The SDK's own is the legacy client of `websockets`: it makes a TLS context for each connection in the event loop,
    wakes two tasks for each message, sends pings of its own, and hides the reason of a refusal.
    """
    function = inspect.unwrap(connect)
    if not isinstance(function, FunctionType) or DIALLER not in function.__code__.co_names:
        raise IncompatiblePackage("deepgram-sdk", DIALLER, "deepgram")
    names = {**function.__globals__, DIALLER: dialler}
    bound = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    bound.__kwdefaults__ = function.__kwdefaults__
    return asynccontextmanager(bound)


def _refusal_reason(body: bytes) -> str:
    """Return the code and the message in the body of a refusal, "" without them."""
    try:
        told = from_json(body)
        code, message = told.get("err_code") or told.get("category"), told.get("err_msg") or told.get("message")
    except (msgspec.DecodeError, AttributeError):
        return ""
    return ": ".join(part for part in (code, message) if isinstance(part, str) and part)
