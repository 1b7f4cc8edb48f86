"""The connection to Gemini Live that Google's SDK opens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio

from ...errors import MissingExtra
from ..remote.errors import ConnectionLost
from ..remote.tls import client_ssl_context

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.live import AsyncSession
    from websockets.asyncio.client import ClientConnection

CLOSE_TIMEOUT_S = 1.0
"""How long the far end may take to close the connection before it is cut."""
MAX_MESSAGE_BYTES = 16 * 2**20


def make_client(api_key: str, base_url: str, api_version: str, ssl_context: ssl.SSLContext | None) -> Client:
    """The SDK's client. Raises MissingExtra without the extra `google`."""
    try:
        from google import genai
        from google.genai import types
    except ImportError as error:
        raise MissingExtra("Gemini Live", "google", str(error)) from error
    arguments: dict[str, Any] = {
        "ping_interval": None,  # the engine has its own heartbeat
        "open_timeout": None,  # and its own deadline
        "close_timeout": CLOSE_TIMEOUT_S,
        "compression": None,  # base64 of speech does not compress
        "max_size": MAX_MESSAGE_BYTES,
    }
    arguments["ssl"] = arguments["verify"] = ssl_context or client_ssl_context()
    options = types.HttpOptions(
        base_url=base_url or None,
        api_version=api_version,
        client_args={"verify": arguments["verify"]},
        async_client_args=arguments,
    )
    return genai.Client(api_key=api_key, vertexai=False, http_options=options)


async def open_wire(client: Client, model: str, config: dict[str, Any], *, resumed: bool, first: str = "") -> LiveWire:
    """Connect, set the session up, and wait until the server has confirmed it.

    `first` is what must be sent before anything else, unless the first message is of the same kind.

    A set-up that the server refuses is fatal, unless a session was to be `resumed`: then its handle may be to blame.
    Raises ConnectionLost. Cancelling this closes the connection.
    """
    context = client.aio.live.connect(model=model, config=config)  # type: ignore[arg-type]
    try:
        session = await _enter(context)
    except Exception as error:
        raise _lost(error, resumed=resumed) from error
    try:
        if session.setup_complete is None:
            raise ConnectionLost("the server's first message did not confirm the set-up")
        return LiveWire(context, session, first)
    except ConnectionLost:
        await context.__aexit__(None, None, None)
        raise


async def _enter(context: AbstractAsyncContextManager[AsyncSession]) -> AsyncSession:
    """Open the session in a task of its own, which a cancellation reaches once.

    A cancel scope cancels every wait until it is left, and the SDK could not close the connection it has opened.
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


class LiveWire:
    """A session of the SDK, spoken to in JSON over its websocket.

    The SDK connects, authenticates and sets up. Its typed messages are not used: to send 20 ms of audio takes 77 µs
    with them, and its `receive` fails with TypeError at a message that it does not know, and ends with every turn.
    """

    def __init__(
        self, context: AbstractAsyncContextManager[AsyncSession], session: AsyncSession, first: str = ""
    ) -> None:
        self._context, self._first = context, first
        self._socket = _socket(session)
        # The SDK has taken this message, and it is the one that opens the session.
        self._set_up: str | None = json.dumps({"setupComplete": {"sessionId": session.session_id or ""}})

    @property
    def ready(self) -> bool:
        """Whether all that was sent before has gone out."""
        return self._socket.transport.get_write_buffer_size() == 0

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        first, self._first = self._first, ""
        try:
            if first and not (isinstance(message, str) and first.partition(":")[0] == message.partition(":")[0]):
                await self._socket.send(first)
            await self._socket.send(message)
        except Exception as error:
            raise _lost(error) from error

    async def receive(self) -> str | bytes:
        """The next message; the first one confirms the set-up."""
        if self._set_up is not None:
            message, self._set_up = self._set_up, None
            return message
        try:
            return await self._socket.recv()
        except Exception as error:
            raise _lost(error) from error

    async def ping(self) -> None:
        """Returns when the far end has answered a ping."""
        try:
            await (await self._socket.ping())
        except Exception as error:
            raise _lost(error) from error

    async def close(self) -> None:
        """End the connection; a far end that does not answer is cut off after a second."""
        try:
            with contextlib.suppress(Exception):
                await self._context.__aexit__(None, None, None)
        finally:
            self._socket.transport.abort()


def _socket(session: AsyncSession) -> ClientConnection:
    """The websocket of a session. It is private: this is the one place that relies on it."""
    socket: ClientConnection | None = getattr(session, "_ws", None)
    if socket is None:
        raise ConnectionLost("this version of google-genai does not give its websocket: install 3.4", fatal=True)
    return socket


def _lost(error: Exception, *, resumed: bool | None = None) -> ConnectionLost:
    """What an error of the SDK or of its websocket means. `resumed` is None for one after the set-up."""
    from google.genai.errors import APIError
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    if isinstance(error, ConnectionLost):
        return error
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        fatal = 400 <= status < 500 and status not in (408, 429)
        return ConnectionLost(f"the server refuses the connection: HTTP {status}", code=status, fatal=fatal)
    if isinstance(error, ConnectionClosed):
        code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
    elif isinstance(error, APIError):
        code, reason = error.code or 0, str(error.details or "")
    else:
        return ConnectionLost(f"{type(error).__name__}: {error}")
    return ConnectionLost(
        f"closed with {code}{': ' if reason else ''}{reason}", code=code, fatal=_is_fatal(code, reason, resumed)
    )


def _is_fatal(code: int, reason: str, resumed: bool | None) -> bool:
    """Whether the same would come of trying again. In mid-session only what no new session would mend is fatal."""
    if code in (401, 403) or (code in (1007, 1008) and "api key" in reason.lower()):
        return not resumed
    return code in (1007, 1008) and resumed is False
