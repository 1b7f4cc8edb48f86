"""The SDK's client of Gemini Live: it authenticates, dials and sets up, and the wire is the connection that it opens.

The SDK's typed messages are not used: 20 ms of audio take 77 µs with them (google-genai 3.4), and its `receive` raises
TypeError for a message of an unknown type and ends with every turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import ssl
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ...errors import IncompatiblePackage, MissingExtra
from ..remote.dialect import WireMessage
from ..remote.errors import ConnectionLost, asked_pause_s, fatal, final_tls
from ..remote.tls import client_ssl_context
from ..remote.websocket import MAX_RECEIVED_BYTES, WebSocketWire, check_websockets, create_connection, dialled

if TYPE_CHECKING:  # an optional dependency
    from google.genai import Client
    from google.genai.live import AsyncSession

    from ..remote.pushing import PushingConnection


def check_sdk() -> None:
    """Load the SDK. Raises MissingExtra without it, IncompatiblePackage if it lacks a function that is used here."""
    try:
        from google.genai import types
        from google.genai.live import AsyncLive, AsyncSession
    except ImportError as error:
        raise MissingExtra("Gemini Live", "google", str(error)) from error
    if "async_client_args" not in types.HttpOptions.model_fields:
        raise IncompatiblePackage("google-genai", "HttpOptions(async_client_args=…)", "google")
    if not {"model", "config"} <= inspect.signature(AsyncLive.connect).parameters.keys():
        raise IncompatiblePackage("google-genai", "aio.live.connect(model=…, config=…)", "google")
    if "setup_complete" not in inspect.signature(AsyncSession).parameters:
        raise IncompatiblePackage("google-genai", "AsyncSession.setup_complete", "google")
    check_websockets("google")


def make_client(api_key: str, base_url: str, api_version: str, ssl_context: ssl.SSLContext | None) -> Client:
    """Return the SDK's client. Raises MissingExtra without the SDK, IncompatiblePackage for an unsuitable version."""
    check_sdk()
    from google import genai
    from google.genai import types

    context = ssl_context or client_ssl_context()
    arguments: dict[str, Any] = {
        "open_timeout": None,  # the keeper limits the time of an attempt
        "compression": None,  # speech in base64 hardly compresses
        "max_size": MAX_RECEIVED_BYTES,
        "create_connection": create_connection,
        "ssl": context,
        "verify": context,
    }
    options = types.HttpOptions(
        base_url=base_url or None,
        api_version=api_version,
        client_args={"verify": context},
        async_client_args=arguments,
    )
    return genai.Client(api_key=api_key, vertexai=False, http_options=options)


class LiveAPI:
    """The SDK's client of one engine, made at its first use."""

    def __init__(self, base_url: str, api_version: str, ssl_context: ssl.SSLContext | None) -> None:
        self._base_url, self._api_version, self._ssl_context = base_url, api_version, ssl_context
        self._client: Client | None = None

    async def dial(self, key: str, model: str, config: dict[str, Any], *, resumed: bool, first: str) -> LiveWire:
        """Open a session. Raises as `make_client` and `open_wire` do."""
        if self._client is None:  # in a thread, because loading the SDK and the certificates would block other calls
            self._client = await anyio.to_thread.run_sync(
                make_client, key, self._base_url, self._api_version, self._ssl_context
            )
        return await open_wire(self._client, model, config, resumed=resumed, first=first)

    async def close(self) -> None:
        """Release the SDK's client. The next session makes another."""
        client, self._client = self._client, None
        if client is not None:
            await client.aio.aclose()
            client.close()


async def open_wire(client: Client, model: str, config: dict[str, Any], *, resumed: bool, first: str = "") -> LiveWire:
    """Connect, set the session up, and wait until the server has confirmed it.

    `first` is sent before the first message, unless that is of the same kind. A refused set-up is fatal, unless it
    resumes a session, because its handle may be the cause.

    Raises ConnectionLost. Cancelling this closes the connection.
    """
    context = client.aio.live.connect(model=model, config=config)  # type: ignore[arg-type]
    try:
        with dialled() as connections:
            session = await _enter(context)
    except Exception as error:
        raise lost(error, setting_up=True, resumed=resumed) from error
    problem: Exception | None = None
    if session.setup_complete is None:
        problem = ConnectionLost("the server's first message did not confirm the set-up")
    elif not connections:
        problem = IncompatiblePackage("google-genai", "async_client_args['create_connection']", "google")
    if problem is not None:
        await context.__aexit__(None, None, None)
        raise lost(problem)
    return LiveWire(context, connections[-1], session.session_id or "", first)


async def _enter(context: AbstractAsyncContextManager[AsyncSession]) -> AsyncSession:
    """Open the session in a task of its own, which a cancellation reaches only once.

    Until it is left, a cancel scope cancels every wait, and the SDK could not close the connection that it has opened.
    """
    task = asyncio.ensure_future(context.__aenter__())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is None:
                await context.__aexit__(None, None, None)
        raise


class LiveWire(WebSocketWire):
    """The connection of a session that is set up. Its first message is the server's confirmation, repeated."""

    def __init__(
        self,
        context: AbstractAsyncContextManager[AsyncSession],
        connection: PushingConnection,
        session_id: str,
        first: str = "",
    ) -> None:
        super().__init__(connection, lost, decode=False)
        self._context, self._first = context, first
        # The SDK has consumed this message, but the dialect needs it to open the session.
        self._confirmation: str | None = json.dumps({"setupComplete": {"sessionId": session_id}})

    def send(self, message: WireMessage) -> Awaitable[None]:
        """Send a message. Raises ConnectionLost."""
        return self._send_first(message) if self._first else super().send(message)

    async def _send_first(self, message: WireMessage) -> None:
        first, self._first = self._first, ""
        if not (isinstance(message, str) and first.partition(":")[0] == message.partition(":")[0]):
            await super().send(first)
        await super().send(message)

    async def receive(self) -> WireMessage:
        """Return the next message. Raises ConnectionLost."""
        if self._confirmation is not None:
            message, self._confirmation = self._confirmation, None
            return message
        return await super().receive()

    async def close(self) -> None:
        """End the connection. A far end that does not answer within a second is cut off."""
        await super().close()
        with contextlib.suppress(Exception):
            await self._context.__aexit__(None, None, None)


def lost(error: Exception, *, setting_up: bool = False, resumed: bool = False) -> ConnectionLost:
    """Return the ConnectionLost for an error of the SDK or of `websockets`.

    While `setting_up`, errors of a session that is `resumed` are not fatal.
    """
    from google.genai.errors import APIError
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    if isinstance(error, ConnectionLost):
        return error
    if isinstance(error, IncompatiblePackage):
        return ConnectionLost(str(error), fatal=True)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        text = f"the server refuses the connection: HTTP {status}"
        pause_s = asked_pause_s(error.response.headers)
        return ConnectionLost(text, code=status, fatal=fatal(status=status), retry_after_s=pause_s)
    if isinstance(error, ConnectionClosed):
        code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
    elif isinstance(error, APIError):
        code, reason = error.code or 0, str(error.details or "")
    else:
        return ConnectionLost(f"{type(error).__name__}: {error}", fatal=final_tls(error))
    text = f"closed with {code}{': ' if reason else ''}{reason}"
    status = code if code < 1000 else 0  # an APIError has a status or a close code
    final = fatal(status=status, code=code, reason=reason, setting_up=setting_up) and not resumed
    return ConnectionLost(text, code=code, fatal=final)
