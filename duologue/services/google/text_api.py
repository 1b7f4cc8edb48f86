"""Google's SDK for requests to Gemini's text models: `GeminiAPI`, and `GeminiAnswer`, which reads one answer."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ...errors import DuologueError, IncompatiblePackage, MissingExtra, ServiceError, without_credentials
from ...frames import Usage
from ..remote.errors import ConnectionLost, asked_pause_s, fatal, final_tls, named_wait_s
from ..remote.llm import ContextTooLong
from ..remote.outside_http import crossing
from ..remote.tls import client_ssl_context

if TYPE_CHECKING:  # an optional dependency
    import httpx2
    from google.genai import Client
    from google.genai.errors import APIError
    from google.genai.types import FunctionCall, GenerateContentResponse

KEEP_ALIVE_S = 240.0
"""Seconds for which an idle connection is kept: a caller thinks longer than the 5 s of the SDK's default."""
MAX_WAITING = 10_000
"""The most pieces of an answer that have come and wait for the call."""
MAX_MESSAGE = 300
"""The most characters of the vendor's message in an error."""
MAX_STREAMED_CALLS = 128
"""The most calls of one answer."""
MALFORMED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE")
"""Reasons of an end after which the answer may be asked for again."""
ENDS = ("STOP", "FINISH_REASON_UNSPECIFIED")
BLOCKED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION"}
    | {"MODEL_ARMOR", "MISSING_THOUGHT_SIGNATURE", "PUP_LIMITED_DISABLED"}
)
"""Reasons of an end by which the vendor has cut the answer. After an unknown one, what has come is the answer."""


class GeminiAPI:
    """The SDK's client of one service, made at its first use."""

    def __init__(self, base_url: str, api_version: str, ssl_context: ssl.SSLContext | None) -> None:
        self._base_url, self._api_version, self._ssl_context = base_url, api_version, ssl_context
        self._client: Client | None = None
        self._http: httpx2.AsyncClient | None = None
        self._making = anyio.Lock()

    async def open(self, api_key: str) -> Client:
        """Return the SDK's client. Raises MissingExtra without the SDK, IncompatiblePackage for an unsuitable one."""
        async with self._making:
            if self._client is None:  # in a thread, because loading the SDK would block other calls
                self._client = await anyio.to_thread.run_sync(self._make_client, api_key)
        return self._client

    def _make_client(self, api_key: str) -> Client:
        try:
            import httpx2
            from google import genai
            from google.genai import types
        except ImportError as error:
            raise MissingExtra("Gemini", "google", str(error)) from error
        for name in ("httpx_async_client", "extra_body"):
            if name not in types.HttpOptions.model_fields:
                raise IncompatiblePackage("google-genai", f"HttpOptions({name}=…)", "google")
        context = self._ssl_context or client_ssl_context()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=KEEP_ALIVE_S)
        self._http = crossing(httpx2)(verify=context, limits=limits, timeout=None, follow_redirects=True)
        options = types.HttpOptions(
            base_url=self._base_url or None,
            api_version=self._api_version,
            client_args={"verify": context},
            httpx_async_client=self._http,
        )
        return genai.Client(api_key=api_key, vertexai=False, http_options=options)

    async def stream(
        self, api_key: str, model: str, body: dict[str, Any]
    ) -> AsyncGenerator[GenerateContentResponse, None]:
        """Yield the pieces of an answer. Raises ConnectionLost, ContextTooLong for a request that is too long.

        The SDK's stream is five asynchronous generators in each other, which close the connection in order only if they
        are cancelled while they wait for it: a task does nothing but wait.
        """
        client = await self.open(api_key)
        # The SDK takes the body as it is in the place of the contents that it demands.
        config: dict[str, Any] = {
            "http_options": {"extra_body": body},
            "automatic_function_calling": {"disable": True},
            "automatic_continuation": False,
        }
        came: asyncio.Queue[GenerateContentResponse | Exception | None] = asyncio.Queue()

        async def read() -> None:
            try:
                models: Any = client.aio.models
                async for piece in await models.generate_content_stream(model=model, contents=" ", config=config):
                    came.put_nowait(piece)
                    if came.qsize() > MAX_WAITING:
                        raise ConnectionLost(f"more than {MAX_WAITING} pieces of an answer wait")
                came.put_nowait(None)
            except Exception as error:
                came.put_nowait(error)

        reading = asyncio.ensure_future(read())
        try:
            while (piece := await came.get()) is not None:
                if isinstance(piece, Exception):
                    raise answer_lost(piece, model) from piece
                yield piece
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def warm(self, api_key: str, model: str) -> None:
        """Open a connection for the next request. Raises ConnectionLost if that fails."""
        client = await self.open(api_key)
        try:
            await client.aio.models.get(model=model)
        except Exception as error:
            raise answer_lost(error, model) from error

    async def close(self) -> None:
        """Release the SDK's client. The next request makes another."""
        client, self._client = self._client, None
        http, self._http = self._http, None
        if client is not None:
            await client.aio.aclose()
            client.close()
        if http is not None:
            await http.aclose()


class GeminiAnswer:
    """The state of one answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[FunctionCall, bytes | None]] = []
        """The tool calls, each with its signature."""
        self.problems: list[DuologueError] = []
        """Problems that do not end the answer."""
        self._said = False
        self._finish = ""
        self._last: GenerateContentResponse | None = None

    def take(self, piece: GenerateContentResponse) -> tuple[str, bool, bool]:
        """Take a piece. Returns its text, and True if it has calls, and if it has thoughts.

        Raises ServiceError for a request that is blocked.
        """
        if piece.usage_metadata is not None:
            self._last = piece
        feedback = piece.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            raise ServiceError(f"Gemini blocked the request: {_name(feedback.block_reason)}")
        if not piece.candidates:
            return "", False, False
        candidate = piece.candidates[0]
        if candidate.finish_reason is not None and self._finish in ("", *ENDS):
            self._finish = _name(candidate.finish_reason)
        text, called, thought = "", False, False
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            if part.thought:
                thought = True
                continue
            text += part.text or ""
            if part.function_call is not None and len(self.calls) < MAX_STREAMED_CALLS:
                self.calls.append((part.function_call, part.thought_signature))
                called = True
        self._said = self._said or bool(text)
        return text, called, thought

    def end(self, limit: int | None) -> None:
        """End the answer. Problems of a part of it are added to `problems`. `limit` is the option for its tokens.

        Raises ConnectionLost for a stream that has broken off, and ServiceError for an answer without a use.
        """
        if not self._finish:
            raise ConnectionLost("the answer broke off: its stream has no end")
        if self._finish in MALFORMED:
            raise ServiceError(f"Gemini ended the answer: {self._finish}")
        if self._finish == "MAX_TOKENS":
            tokens = "tokens" if limit is None else f"{limit} tokens"
            self._cut(
                f"the model used all its {tokens} before its first word", f"an answer was cut at its limit of {tokens}"
            )
        elif self._finish in BLOCKED or not (self._finish in ENDS or self._said or self.calls):
            self._cut(f"Gemini blocked the answer: {self._finish}", f"Gemini cut the answer: {self._finish}")

    def _cut(self, without_words: str, with_words: str) -> None:
        self.calls.clear()
        if not self._said:
            raise ServiceError(without_words)
        self.problems.append(ServiceError(with_words))

    def usage(self, service: str, model: str) -> Usage | None:
        """Return the tokens, None if the server has not reported them."""
        if self._last is None or self._last.usage_metadata is None:
            return None
        used = self._last.usage_metadata
        return Usage(
            service=service,
            model=self._last.model_version or model,
            input_tokens=(used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0),
            output_tokens=(used.candidates_token_count or 0) + (used.thoughts_token_count or 0),
            cached_tokens=used.cached_content_token_count or 0,
            thought_tokens=used.thoughts_token_count or 0,
        )


def answer_lost(error: Exception, model: str) -> ConnectionLost:
    """Return the ConnectionLost for an error of the SDK or of its HTTP client."""
    from google.genai.errors import APIError
    from pydantic import ValidationError

    if isinstance(error, ConnectionLost):
        return error
    if isinstance(error, APIError):
        return _request_refused(error, model)
    if isinstance(error, ValidationError | ValueError | RecursionError):
        return ConnectionLost(f"an answer of Gemini's is malformed: {error}")
    text = f"no answer from Gemini: {type(error).__name__}: {error}"
    return ConnectionLost(text, fatal=final_tls(error))


def _request_refused(error: APIError, model: str) -> ConnectionLost:
    """Return the ConnectionLost for a refusal, or for an error in the stream."""
    code, status = error.code or 0, error.status or ""
    said = without_credentials(" ".join(str(error.message or "").split()))[:MAX_MESSAGE]
    text = f"Gemini refuses the request: HTTP {code} {status}".rstrip() + (f": {said}" if said else "")
    if "API_KEY_INVALID" in str(error.details) or code in (401, 403):
        return ConnectionLost(f"{text}; is the API key right?", code=code, fatal=True)
    if code == 404:
        text += f"; is {model!r} a model of Gemini's?"
    if code == 400 and "token count" in said and "exceeds" in said:
        return ContextTooLong(text, code=code)
    headers = getattr(error.response, "headers", None) or {}
    pause_s = asked_pause_s(headers)
    if pause_s is None:
        pause_s = named_wait_s(json.dumps(error.details, default=str)[-1000:]) or None
    final = fatal(status=code, reason=status if code < 500 else "")
    return ConnectionLost(text, code=code, fatal=final, retry_after_s=None if final else pause_s)


def _name(reason: Any) -> str:
    """Return the name of a member of one of the SDK's enumerations, which may be new."""
    return str(getattr(reason, "value", reason))
