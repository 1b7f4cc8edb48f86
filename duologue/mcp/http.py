"""The endpoint of a server: streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from .lines import MAX_LINE
from .package import httpx2, streamable_http_client

CONNECT_S = 10.0
READ_S = 300.0
"""The longest silence of a response that a server holds open, in seconds."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server, with the headers and the authentication of every request."""

    url: str
    headers: Mapping[str, str] | None = None
    auth: httpx2.Auth | None = None


class _Bounded(httpx2.AsyncByteStream):
    """A response of which at most `MAX_LINE` bytes are read between two ends of lines."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for data in self._stream:
            end = data.rfind(b"\n")
            size = size + len(data) if end < 0 else len(data) - end
            if size > MAX_LINE:
                raise httpx2.StreamError(f"a message of more than {MAX_LINE} bytes")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(stream)


@asynccontextmanager
async def http_streams(endpoint: Endpoint, answered: Callable[[str], None]) -> AsyncIterator[Any]:
    """Give the streams of the messages with an endpoint.

    `answered` gets the status of each answer to a message, such as "HTTP 401 Unauthorized", "" if it is no error.
    """

    async def note(response: httpx2.Response) -> None:
        if response.request.method == "POST":
            answered(f"HTTP {response.status_code} {response.reason_phrase}".rstrip() if response.is_error else "")

    client = httpx2.AsyncClient(
        headers=dict(endpoint.headers or {}),
        auth=endpoint.auth,
        timeout=httpx2.Timeout(CONNECT_S, read=READ_S),
        event_hooks={"response": [_bound, note]},
    )
    async with (
        client,
        streamable_http_client(endpoint.url, http_client=client, max_sse_event_size=MAX_LINE) as streams,
    ):
        yield streams
