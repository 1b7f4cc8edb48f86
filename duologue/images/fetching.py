"""`fetch`: gets an image from the web, from public addresses only."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, MissingExtra, ServiceError, public_address
from ..processors.kernel.threads import Pool
from .addresses import is_public_ip
from .kinds import check_declared
from .limits import ImageRules

if TYPE_CHECKING:
    import httpx

ATTEMPT_S = 3.0
"""Seconds for a connection to one of a server's addresses, before the next one is tried."""
MAX_ADDRESSES = 4
"""Addresses of a server that are tried."""
HOSTS = Pool("image hosts", 16)
"""Threads for looking up hosts. A name server that does not answer keeps one for half a minute: those of the event
loop, which all other connections need, are not used for names that callers choose."""
MAX_URL = 8_192
"""Characters of an address."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def fetch(url: str, rules: ImageRules, context: ssl.SSLContext | None = None) -> tuple[bytes, str]:
    """Return the bytes behind an address, and the type that its server declares.

    Each host is resolved once, here: if one of its addresses is not public, it is refused, and the connection is made
    to an address that was checked. Redirects are followed in the same way. Proxies of the environment are not used.
    `context` has the certificates that are trusted, by default those of `certifi`.

    Raises BadInput for an address that is refused, an answer that is not an image, or one that is too long;
    ServiceError if the server cannot be reached; MissingExtra without httpx. It has no limit of
    time: `ready_image` has one.
    """
    try:
        import httpcore
        import httpx
    except ImportError as error:
        raise MissingExtra("httpx, which fetches images,", "vision") from error
    shown = public_address(url)[:200]
    try:
        return await _follow(url, rules, context)
    except (httpx.InvalidURL, UnicodeError, httpcore.UnsupportedProtocol) as error:
        raise BadInput(f"the image's address is malformed: {shown}") from error
    except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        what = str(error) or type(error).__name__
        raise ServiceError(f"the image at {shown} could not be fetched: {what[:200]}") from error


async def _follow(url: str, rules: ImageRules, context: ssl.SSLContext | None) -> tuple[bytes, str]:
    import httpx

    here = _web_address(httpx.URL(url) if len(url) <= MAX_URL else None)
    for _ in range(rules.max_redirects + 1):
        found = await _get(here, rules, context)
        if not isinstance(found, str):
            return found
        there = _web_address(here.join(found) if len(found) <= MAX_URL else None)
        if here.scheme == "https" and there.scheme != "https":
            raise BadInput(f"the image's address {_for_errors(here)} leads from https to http")
        here = there
    raise BadInput(f"the image's address leads to more than {rules.max_redirects} others: {public_address(url)[:200]}")


def _web_address(url: httpx.URL | None) -> httpx.URL:
    if url is None:
        raise BadInput(f"the image's address is longer than {MAX_URL} characters")
    if url.scheme not in ("http", "https") or not url.host:
        raise BadInput(f"the image's address is not a web address (http, https): {_for_errors(url)}")
    if url.port is not None and not 0 < url.port < 65_536:
        raise BadInput(f"the image's address has a port that does not exist: {_for_errors(url)}")
    if url.userinfo:
        raise BadInput(f"the image's address has a user name or a password: {_for_errors(url)}")
    return url


def _for_errors(url: httpx.URL) -> str:
    return public_address(str(url))[:200] or url.scheme


async def _get(url: httpx.URL, rules: ImageRules, context: ssl.SSLContext | None) -> tuple[bytes, str] | str:
    """Return what one request brings: the bytes and their declared type, or the address that it leads to."""
    import httpcore

    backend = checked_backend(rules.networks)
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc.decode(),
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "User-Agent": "duologue",
    }
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    pool = httpcore.AsyncConnectionPool(ssl_context=context, max_connections=1, network_backend=backend)
    async with pool, pool.stream("GET", target, headers=headers) as response:
        answer = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and "location" in answer:
            return answer["location"]
        if response.status != 200:
            raise BadInput(f"the image at {_for_errors(url)} is not there: its server answers {response.status}")
        if answer.get("content-encoding", "identity").lower() != "identity":
            raise BadInput(f"the image at {_for_errors(url)} is compressed, which was not asked for")
        what = f"the image at {_for_errors(url)}"
        declared = answer.get("content-type", "")
        check_declared(declared, what)
        length = answer.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > rules.max_bytes:
            raise too_long(int(length), rules, what)
        data = bytearray()
        async for piece in response.aiter_stream():
            data += piece
            if len(data) > rules.max_bytes:
                raise too_long(len(data), rules, what)
        return bytes(data), declared


def too_long(size: int, rules: ImageRules, what: str = "the image") -> BadInput:
    """Return the error for an image of `size` bytes or more."""
    return BadInput(f"{what} has {size / 1e6:.1f} MB: at most {rules.max_bytes / 1e6:.1f} MB are taken")


async def addresses_of(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host."""
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await HOSTS.run(look_up, label="look up")
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_backend(networks: tuple[str, ...]) -> Any:
    """Return a network for httpcore that connects to the addresses which it has checked, and to no others."""
    import httpcore

    class CheckedNetwork(httpcore.AnyIOBackend):
        """Resolves a host, checks its addresses, and connects to one of them."""

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            try:
                found = await addresses_of(host, port)
            except OSError as error:
                raise BadInput(f"the image's host {host[:200]!r} has no address") from error
            if not found or not all(is_public_ip(address, networks) for address in found):
                # The address itself is not told: the name may be one of an internal network.
                raise BadInput(f"no image is fetched from {host[:200]}: it is not a public address")
            problem: Exception | None = None
            for address in found[:MAX_ADDRESSES]:
                try:
                    return await super().connect_tcp(address, port, ATTEMPT_S, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    problem = error
            assert problem is not None
            raise problem

        async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
            raise BadInput("no image is fetched from a socket of this machine")

    return CheckedNetwork()
