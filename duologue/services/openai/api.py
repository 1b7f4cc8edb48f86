"""`OpenAIAPI`: OpenAI's SDK for requests over HTTP, to OpenAI or to any server that is compatible with it.

Requests are made by the SDK's `post`: its typed methods walk through all messages of a request, which takes 200 ms of
the event loop for 400 messages (openai 3.57), and its typed stream makes objects of each token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread

from ...errors import (
    BadInput,
    ConfigurationError,
    DuologueError,
    MissingExtra,
    check_installed,
    public_address,
    without_credentials,
)
from ..remote.errors import ConnectionLost, asked_pause_s, fatal, final_tls, named_wait_s
from ..remote.llm import ContextTooLong
from ..remote.outside_http import crossing
from ..remote.sse import MAX_EVENT_BYTES, EventSplitter
from ..remote.tls import client_ssl_context

if TYPE_CHECKING:  # an optional dependency
    import httpx2
    from openai import APIStatusError, AsyncOpenAI

log = logging.getLogger("duologue")

KEEP_ALIVE_S = 240.0
"""Seconds for which an idle connection is kept: a caller thinks longer than the 5 s of the SDK's default."""
IDLE_S = 30.0
"""Seconds without a request after which a speech service opens a connection anew when the caller begins to speak."""
DRAIN_S = 1.0
"""Seconds to wait for the end of a body after its last event. Then its connection is closed, and not used again."""
MAX_MESSAGE = 300
"""The most characters of a vendor's message in an error."""


class OpenAIAPI:
    """The SDK's client of one service. Raises MissingExtra without the SDK.

    The key is `api_key`. OPENAI_API_KEY of the environment is sent to OpenAI and to the address in OPENAI_BASE_URL, but
    not to another `base_url`: a server of one's own gets no key that is not its own.
    """

    def __init__(self, api_key: str = "", base_url: str = "") -> None:
        check_installed("openai", "openai")
        self._api_key, self._base_url = api_key, base_url
        self._client: AsyncOpenAI | None = None
        self._making = anyio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self._used_at = 0.0  # loop time of the latest request of `begin` or `warm`

    @property
    def address(self) -> str:
        """The address of the server, without credentials."""
        given = self._base_url or os.environ.get("OPENAI_BASE_URL", "")
        return public_address(given) if given else "https://api.openai.com/v1"

    @property
    def key(self) -> str:
        """The key, "" for a server that gets none."""
        return self._api_key or (os.environ.get("OPENAI_API_KEY", "") if self.is_openai else "")

    @property
    def is_openai(self) -> bool:
        """True for OpenAI's own address, False for that of another server."""
        host = urlsplit(self._base_url).hostname or ""
        return not self._base_url or host == "openai.com" or host.endswith(".openai.com")

    def check(self) -> None:
        """Raise ConfigurationError for a missing or malformed key, or an address with an unknown scheme."""
        if self._base_url and not self._base_url.startswith(("http://", "https://")):
            address = public_address(self._base_url)
            raise ConfigurationError(f"base_url is {address!r}: it begins with http:// or https://")
        key = self.key
        if not key and self.is_openai and not os.environ.get("OPENAI_BASE_URL"):
            raise ConfigurationError("OpenAI needs an API key: set OPENAI_API_KEY or give api_key")
        if not key.isascii() or not (key or "-").isprintable() or " " in key:
            raise ConfigurationError("the API key has characters that keys do not have (a space, a line's end?)")

    async def open(self) -> AsyncOpenAI:
        """Return the SDK's client, made at the first use. Raises ConfigurationError as `check` does, ConnectionLost."""
        self.check()
        async with self._making:
            if self._client is None:
                try:  # in a thread, because loading the SDK and the certificates would block other calls
                    self._client = await anyio.to_thread.run_sync(self._make_client)
                except ConfigurationError:
                    raise
                except Exception as error:  # the SDK cannot use the address or the proxy
                    raise ConnectionLost(f"no connection to {self.address}: {error}", fatal=True) from error
        return self._client

    def _make_client(self) -> AsyncOpenAI:
        try:
            import httpx2
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient
        except ImportError as error:
            raise MissingExtra("openai", "openai", str(error)) from error

        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=KEEP_ALIVE_S)
        http = crossing(httpx2, DefaultAsyncHttpxClient)(verify=client_ssl_context(), limits=limits, timeout=None)
        key = self.key or "none"  # the SDK wants one: `headers` leaves it out
        base_url = self._base_url or None
        return AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=None, http_client=http)

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of every request: without a key they leave the SDK's own out."""
        if self.key:
            return {}
        from openai import Omit

        return {"Authorization": Omit()}

    async def stream(self, path: str, body: dict[str, Any], model: str) -> Streamed:
        """Send a request for a stream of events. Returns it as soon as its head has come. Raises as `begin` does."""
        return self.events(await self.begin(path, body, model))

    def events(self, response: httpx2.Response) -> Streamed:
        """Return the events of an answer to `begin`."""
        return Streamed(response, self._draining)

    async def begin(
        self,
        path: str,
        body: dict[str, Any],
        model: str,
        *,
        file: tuple[str, bytes, str] | None = None,
        accept: str = "",
    ) -> httpx2.Response:
        """Send a request. Returns the answer as soon as its head has come; its body is to be read, and closed.

        A `file` (its name, its content, its type) goes beside the body as a form. Raises ConnectionLost for an error of
        the network, and for a refusal, whose message names the key or `model` if it is about these; ContextTooLong for
        a request that is too long.
        """
        self._used_at = asyncio.get_running_loop().time()
        client = await self.open()
        from openai import APIConnectionError, APIStatusError, AsyncStream, OpenAIError

        headers = self.headers | ({"Accept": accept} if accept else {})
        if file is not None:
            headers["Content-Type"] = "multipart/form-data"
        try:
            stream: AsyncStream[object] = await client.post(
                path,
                cast_to=object,
                body=body,
                files=None if file is None else {"file": file},
                options={"headers": headers},
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIStatusError as error:
            raise self.refused(error, model) from error
        except APIConnectionError as error:
            cause = error.__cause__ or error
            text = f"no connection to {self.address}: {type(cause).__name__}: {cause}"
            raise ConnectionLost(text, fatal=final_tls(error)) from error
        except OpenAIError as error:
            raise ConnectionLost(f"no connection to {self.address}: {error}", fatal=True) from error
        return stream.response

    @property
    def is_idle(self) -> bool:
        """True if there was no request for `IDLE_S` seconds: the server may have closed the connections."""
        return asyncio.get_running_loop().time() - self._used_at > IDLE_S

    async def warm_again(self, model: str) -> None:
        """Open a connection for the next request, which reports any error."""
        try:
            await self.warm(model)
        except DuologueError as error:
            log.info("no connection to %s: %s", self.address, error)

    async def warm(self, model: str) -> None:
        """Open a connection for the next request, by a question about `model`.

        Raises ConnectionLost for a refused key or an unknown model. Other failures are left to the next request.
        """
        self._used_at = asyncio.get_running_loop().time()
        client = await self.open()
        from openai import APIStatusError, OpenAIError

        try:
            await client.get(f"/models/{quote(model, safe='')}", cast_to=object, options={"headers": self.headers})
        except APIStatusError as error:
            if error.status_code in (401, 403) or error.code == "model_not_found":
                raise self.refused(error, model) from error
        except OpenAIError as error:
            log.info("no connection to %s yet: %s", self.address, error)

    def refused(self, error: APIStatusError, model: str) -> ConnectionLost:
        """Return the ConnectionLost for a refusal. A refused key is not repeated, as the vendor's message does."""
        status, code = error.status_code, str(error.code or error.type or "")[:100]
        said = _message_of(error)
        text = f"{self.address} refuses the request: HTTP {status} {code}".rstrip()
        if status == 401:
            has = "is the API key right?" if self.key else "it needs an API key: give api_key"
            return ConnectionLost(f"{text}; {has}", code=status, fatal=True)
        if said:
            text += f": {said}"
        if status == 404:
            text += f"; is {model!r} a model of this server?"
        if status in (400, 413, 422) and _is_about_length(code, said):
            return ContextTooLong(text, code=status)
        pause_s = asked_pause_s(error.response.headers)
        if (exact := error.response.headers.get("retry-after-ms", "")).isdecimal():
            pause_s = int(exact[:9]) / 1000
        if pause_s is None:
            pause_s = named_wait_s(said) or None
        final = fatal(status=status, reason=code)
        return ConnectionLost(text, code=status, fatal=final, retry_after_s=None if final else pause_s)

    async def close(self) -> None:
        """Release the SDK's client. The next request makes another."""
        client, self._client = self._client, None
        for task in tuple(self._draining):
            task.cancel()
        if self._draining:
            await asyncio.wait(self._draining)
        if client is not None:
            await client.close()


class Streamed:
    """The events of one streamed answer, or one event with the whole of an answer that is not streamed."""

    def __init__(self, response: httpx2.Response, draining: set[asyncio.Task[None]]) -> None:
        self._response = response
        self._chunks = response.aiter_bytes()
        self._draining = draining
        self._events: deque[bytes] = deque()
        self._splitter: EventSplitter | None = EventSplitter()
        self._whole: list[bytes] | None = None
        if response.headers.get("Content-Type", "").startswith("application/json"):
            self._whole = []

    async def next(self) -> bytes | None:
        """Return the data of the next event, None at the end. Raises ConnectionLost if the stream breaks off."""
        while not self._events:
            if self._splitter is None:
                return None
            try:
                data = await anext(self._chunks, None)
            except Exception as error:
                raise ConnectionLost(f"the answer broke off: {type(error).__name__}: {error}") from error
            if self._whole is not None:
                self._collect(data)
            elif data is not None:
                self._events += self._splitter.feed(data)
            else:
                self._events += self._splitter.flush()
            if data is None:
                self._splitter = None
        return self._events.popleft()

    def _collect(self, data: bytes | None) -> None:
        assert self._whole is not None
        if data is None:
            self._events.append(b"".join(self._whole))
        else:
            self._whole.append(data)
            if sum(map(len, self._whole)) > MAX_EVENT_BYTES:
                raise BadInput(f"an answer is larger than {MAX_EVENT_BYTES} bytes")

    def release(self, *, complete: bool) -> None:
        """Close the stream, for which nobody waits. A complete one leaves its connection for the next request."""
        task = asyncio.ensure_future(self._close(complete))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _close(self, complete: bool) -> None:
        try:
            if complete:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(DRAIN_S):
                        async for _ in self._chunks:
                            pass
        finally:
            with contextlib.suppress(Exception):
                await self._response.aclose()


def _message_of(error: APIStatusError) -> str:
    """Return the vendor's message in a refusal."""
    body = error.body
    if isinstance(body, dict):
        told = body.get("message") or body.get("detail") or body.get("error") or ""
    else:
        told = body or ""
    text = told if isinstance(told, str) else str(told)
    return without_credentials(" ".join(text.split()))[:MAX_MESSAGE]


def _is_about_length(code: str, message: str) -> bool:
    said = message.lower()
    return code == "context_length_exceeded" or any(
        words in said
        for words in ("maximum context length", "context window", "context length", "context size", "too many tokens")
    )
