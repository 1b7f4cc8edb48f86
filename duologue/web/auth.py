"""`Auth`: the identity of a client, by a token or by an application's own function; and the brake on wrong keys."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from starlette.requests import HTTPConnection

from ..errors import ConfigurationError
from ..transports.pace import Allowance
from .refusals import ClientRefused

log = logging.getLogger("duologue")

Auth = Callable[[HTTPConnection], Any]
"""Returns the identity of a client (`transport.identity`); a falsy value refuses the client with status 401.

May be an `async def`, and may raise `ClientRefused`."""
KEY_PROTOCOL = "openai-insecure-api-key."
"""The prefix of the subprotocol with a key: browsers cannot send headers with a WebSocket."""
ANYBODY = "client"
"""The identity of the clients that have sent a token, which many may share."""
AUTH_S = 10.0
"""Seconds within which an `Auth` must answer."""
WRONG_KEYS = 10
"""Wrong keys of an address that are refused at once, and then one each second. Further keys wait for their refusal."""
WRONG_KEY_S = 1.0
"""Seconds that the refusal of a further wrong key takes."""
MAX_WAITING = 100
"""Wrong keys that wait for their refusal. Beyond that they are refused at once, with status 429."""
MAX_ADDRESSES = 1_000
"""Addresses whose wrong keys are counted. Beyond that the oldest is forgotten."""


def token_auth(token: str) -> Auth:
    """Return an `Auth` that accepts clients with this token: as bearer, as `?token=`, or in OpenAI's subprotocol.

    Raises ConfigurationError for a token that is empty or blank, which would accept every client.
    """
    expected = checked_token(token, "the token").encode()

    def check(connection: HTTPConnection) -> str:
        return ANYBODY if hmac.compare_digest(sent_token(connection).encode(), expected) else ""

    return check


def checked_token(token: str, what: str) -> str:
    """Return a token. Raises ConfigurationError, with `what` as its name, if it is empty, blank, or not a text."""
    if not isinstance(token, str) or not token.strip():
        raise ConfigurationError(f"{what} is empty, and would accept every client: leave it out to ask for none")
    return token


def sent_token(connection: HTTPConnection) -> str:
    """Return the token that a client sends, "" without one."""
    sent = connection.headers.get("authorization", "").removeprefix("Bearer ")
    for protocol in connection.scope.get("subprotocols", ()):
        if not sent and protocol.startswith(KEY_PROTOCOL):
            sent = protocol.removeprefix(KEY_PROTOCOL)
    return sent or connection.query_params.get("token", "")


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the address of the client of a request, "" if the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class Doorkeeper:
    """Asks an `Auth` about clients, and counts wrong keys. A right key never waits."""

    def __init__(self, auth: Auth | None) -> None:
        self.wrong_keys = 0
        """Number of clients that were refused because of their key."""
        self._auth = auth
        self._guesses: dict[str, Allowance] = {}
        self._waiting = 0
        self.closed = False
        """True while the server stops."""
        self._asking: set[anyio.CancelScope] = set()

    async def identify(self, connection: HTTPConnection) -> Any:
        """Return the identity of a client, None without an `Auth`.

        Raises ClientRefused: 401 for a client that the `Auth` refuses, 429 if too many are refused, 503 if the `Auth`
        does not answer within `AUTH_S` seconds, 500 if it fails.
        """
        if self._auth is None:
            return None
        identity: Any = None
        with anyio.move_on_after(AUTH_S) as asking:
            self._asking.add(asking)
            try:
                identity = self._auth(connection)
                if inspect.isawaitable(identity):
                    identity = await identity
            except ClientRefused:
                raise
            except Exception as error:
                log.error("a client could not be authenticated: %s", type(error).__name__)
                raise ClientRefused(500, "internal_error", "the client could not be authenticated") from error
            finally:
                self._asking.discard(asking)
        if asking.cancelled_caught:
            if not self.closed:
                log.error("a client could not be authenticated: the Auth gave no answer within %g s", AUTH_S)
            raise ClientRefused(503, "auth_timeout", "the client could not be authenticated in time")
        if not identity:
            await self._refuse(address_of(connection.scope))
        return identity

    def close(self) -> None:
        """Refuse the clients about whom the `Auth` has not decided: the server stops."""
        self.closed = True
        for asking in tuple(self._asking):
            asking.cancel()

    async def _refuse(self, address: str) -> None:
        self.wrong_keys += 1
        log.warning("a client at %s was refused: its token is missing or wrong", address or "an unknown address")
        if not self._take(address):
            if self._waiting >= MAX_WAITING:
                raise ClientRefused(429, "too_many_wrong_keys", "too many wrong tokens were sent")
            self._waiting += 1
            try:
                await asyncio.sleep(WRONG_KEY_S)
            finally:
                self._waiting -= 1
        raise ClientRefused(401, "unauthorized", "the token is missing or wrong")

    def _take(self, address: str) -> bool:
        allowance = self._guesses.pop(address, None) or Allowance(1.0, WRONG_KEYS)
        self._guesses[address] = allowance  # the latest is last
        while len(self._guesses) > MAX_ADDRESSES:
            del self._guesses[next(iter(self._guesses))]
        return allowance.take(1, asyncio.get_running_loop().time())
