"""`ElevenLabsHTTP`: the SDK's client for requests over HTTP, and a check of each line that it reads.

The SDK passes over lines that are not JSON without a word.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from ...errors import BadInput, MissingExtra, check_installed
from ...frames.text import from_json
from ..remote import ConnectionLost, client_ssl_context
from ..remote.errors import asked_pause_s, final_tls
from ..remote.keyed import checked_key
from ..remote.outside_http import crossing
from .wire import checked_url, http_refusal

if TYPE_CHECKING:  # an optional dependency
    import httpx
    from elevenlabs import AsyncElevenLabs

KEEP_ALIVE_S = 240.0
"""Seconds for which an idle connection is kept: a caller thinks longer than the 5 s of the library's default."""
MAX_LINE_BYTES = 16 * 2**20
"""The longest line of an answer, in bytes."""


class ElevenLabsHTTP:
    """The SDK's client of one service, made at its first use.

    Raises MissingExtra without the SDK, ConfigurationError without a key. `tell` receives a BadInput for each line that
    is not JSON.
    """

    def __init__(
        self, api_key: str, base_url: str, ssl_context: ssl.SSLContext | None, tell: Callable[[BadInput], None]
    ) -> None:
        check_installed("elevenlabs", "elevenlabs")
        self._key, self._base_url = checked_key("ElevenLabs", api_key), checked_url(base_url)
        self._ssl_context = ssl_context
        self._tell = tell
        self._client: tuple[AsyncElevenLabs, httpx.AsyncClient] | None = None
        self._making = anyio.Lock()

    async def open(self) -> AsyncElevenLabs:
        """Return the SDK's client. Raises MissingExtra, ConnectionLost for an address or a proxy that it refuses."""
        async with self._making:
            if self._client is None:
                try:  # in a thread, because loading the SDK and the certificates would block other calls
                    self._client = await anyio.to_thread.run_sync(self._make_client)
                except MissingExtra:
                    raise
                except Exception as error:
                    raise ConnectionLost(f"no connection to ElevenLabs: {error}", fatal=True) from error
        return self._client[0]

    async def close(self) -> None:
        """Release the client and its connections. The next `open` makes another."""
        client, self._client = self._client, None
        if client is not None:
            await client[1].aclose()

    def _make_client(self) -> tuple[AsyncElevenLabs, httpx.AsyncClient]:
        try:
            import httpx
            from elevenlabs import AsyncElevenLabs
        except ImportError as error:
            raise MissingExtra("elevenlabs", "elevenlabs", str(error)) from error

        http = crossing(httpx)(
            verify=self._ssl_context or client_ssl_context(),
            timeout=None,  # the base of the service limits the time
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
            headers={"Accept-Encoding": "identity"},  # the lines are checked as they come
            event_hooks={"response": [self._check_lines]},
        )
        client = AsyncElevenLabs(api_key=self._key, base_url=self._base_url, httpx_client=http)
        _ = client.text_to_speech  # loads its code
        return client, http

    async def _check_lines(self, response: Any) -> None:
        """Check the lines of an answer while the SDK reads it."""
        if response.status_code < 300:
            response.stream = _checked_stream(response.stream, self._tell)


def _checked_stream(stream: Any, tell: Callable[[BadInput], None]) -> Any:
    """Return the stream of an answer, which reports each line that is not JSON, and fails at a line without an end."""
    from httpx import AsyncByteStream

    class CheckedStream(AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            line = b""
            async for data in stream:
                *complete, line = (line + data).split(b"\n")
                for one in complete:
                    if (bad := _problem(one)) is not None:
                        tell(bad)
                if len(line) > MAX_LINE_BYTES:
                    raise BadInput(f"a line of ElevenLabs' answer has more than {MAX_LINE_BYTES} bytes")
                yield data
            if _problem(line) is not None:
                raise BadInput("ElevenLabs' answer is cut: its last line has no end")

        async def aclose(self) -> None:
            await stream.aclose()

    return CheckedStream()


def _problem(line: bytes) -> BadInput | None:
    try:
        if line.strip():
            line.decode()
            from_json(line)
    except (msgspec.DecodeError, UnicodeError) as error:
        return BadInput(f"a line of ElevenLabs' answer is not JSON: {error}")
    return None


def elevenlabs_lost(error: Exception) -> Exception:
    """Return the error for one of the SDK's or of its HTTP library, unchanged if it is ours."""
    from elevenlabs.core.api_error import ApiError
    from httpx import HTTPError, StreamError

    if isinstance(error, ApiError):
        return http_refusal(error.status_code or 0, error.body, asked_pause_s(_capitalized(error.headers or {})))
    if isinstance(error, HTTPError | StreamError):
        text = f"the connection to ElevenLabs broke: {str(error) or type(error).__name__}"
        return ConnectionLost(text, fatal=final_tls(error))
    return error


def _capitalized(headers: dict[str, str]) -> dict[str, str]:
    return {name.title(): value for name, value in headers.items()}
