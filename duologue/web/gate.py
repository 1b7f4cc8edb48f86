"""`Gate`: the checks that every request passes before a door sees it, against pages of other origins."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..errors import ConfigurationError
from .refusals import ClientRefused, deny

ANY = "*"
"""As an allowed origin or host: all of them."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. A page of any origin may send them, and cannot read the answer."""
GONE_S = 0.5
"""Seconds to wait for the end of a connection that was refused."""


class Admission:
    """The origins and hosts that are admitted.

    A browser names the origin of the page that makes a request. It is admitted if it is that of the request's own host,
    or one of `allowed_origins` ("https://shop.example", or "*" for all). Programs other than browsers name none.

    `allowed_hosts` are the names under which clients may reach the server, without the port ("*" for all). IP
    addresses, localhost and names without a dot are always admitted: a hostile page can make a name of its own lead to
    this server, but not these. By default other names are admitted if the clients authenticate themselves.

    Raises ConfigurationError for an origin or a host that is malformed.
    """

    def __init__(
        self,
        allowed_origins: Collection[str] = (),
        allowed_hosts: Collection[str] | None = None,
        *,
        keyed: bool = False,
    ) -> None:
        for name, values in (("allowed_origins", allowed_origins), ("allowed_hosts", allowed_hosts or ())):
            if isinstance(values, str):
                raise ConfigurationError(f"{name} is the text {values!r}: give a list")
        self._origins = frozenset(map(_checked_origin, allowed_origins))
        if allowed_hosts is None:
            self._hosts = frozenset({ANY} if keyed else ())
        else:
            self._hosts = frozenset(map(_checked_host, allowed_hosts))

    def check(self, scope: Scope) -> None:
        """Raise ClientRefused for a request from elsewhere: 421 for its host, 403 for its origin, 415 for its type."""
        headers = Headers(scope=scope)
        authority = headers.get("host", "")
        if not self._admits_host(_host_of(authority)):
            raise ClientRefused(421, "host_not_allowed", f"the host {authority[:80]!r} is not in allowed_hosts")
        if scope["type"] == "http" and scope["method"] in READING:
            return
        origin = headers.get("origin")
        if origin is not None and not self._admits_origin(origin, authority):
            raise ClientRefused(403, "origin_not_allowed", f"the origin {origin[:80]!r} is not in allowed_origins")
        if scope["type"] == "http" and _has_body(headers) and not _is_json(headers):
            raise ClientRefused(415, "not_json", "the request's Content-Type is not application/json")

    def _admits_host(self, host: str | None) -> bool:
        return host is not None and (
            ANY in self._hosts
            or host in self._hosts
            or "." not in host
            or host.endswith(".localhost")
            or _is_address(host)
        )

    def _admits_origin(self, origin: str, authority: str) -> bool:
        origin = origin.lower()
        return (
            ANY in self._origins
            or origin in self._origins
            or (bool(authority) and origin.partition("://")[2] == authority.lower())
        )


class Gate:
    """ASGI middleware: admits or refuses each request, and takes tokens out of the addresses that servers log."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        denied = False

        async def sent(message: Message) -> None:
            nonlocal denied
            take_token(scope)  # servers log the address with the first message
            denied = denied or message["type"] == "websocket.http.response.body"
            await send(message)

        try:
            self._admission.check(scope)
        except ClientRefused as refused:
            if scope["type"] == "http":
                await refused.response()(scope, receive, sent)
            else:
                await deny(WebSocket(scope, receive, sent), refused.response())
        else:
            await self._app(scope, receive, sent)
        if denied:
            await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the server has closed the connection: uvicorn logs an error for a refusal that returns earlier."""
    with anyio.move_on_after(GONE_S):
        for _ in range(2):  # it announces the end when it is asked for, and when it comes
            while (await receive())["type"] != "websocket.disconnect":
                pass


def take_token(scope: MutableMapping[str, Any]) -> str:
    """Remove the parameter `token` from a request's address. Returns it, "" without one."""
    query = scope.get("query_string", b"")
    if b"token" not in query:
        return ""
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    others = [(name, value) for name, value in parameters if name != "token"]
    if len(others) < len(parameters):
        scope["query_string"] = urlencode(others).encode()
    return next((value for name, value in parameters if name == "token"), "")


def _checked_origin(origin: str) -> str:
    parts = urlsplit(origin)
    if origin != ANY and (not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment):
        raise ConfigurationError(f"{origin!r} is not an origin: it has the form https://name or https://name:port")
    return origin.lower()


def _checked_host(host: str) -> str:
    name = host.lower()
    if host != ANY and (not name or name != _host_of(name)):
        raise ConfigurationError(f"{host!r} is not the name of a host: give it without a scheme and a port")
    return name


def _host_of(authority: str) -> str | None:
    """Return the host of an authority such as "name:8000" or "[::1]:8000", in lower case; None if it is malformed."""
    if not authority.isprintable() or not authority.isascii() or any(mark in authority for mark in " @/?#\\,"):
        return None
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
