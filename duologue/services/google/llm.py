"""`GeminiLLM`: Gemini's text models."""

from __future__ import annotations

import base64
import os
import re
import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError, DuologueError, ServiceError, check_installed
from ...frames import Usage
from ..context import Request, ToolRequest
from ..remote.errors import ConnectionLost
from ..remote.ids import Recent
from ..remote.llm import Answer, RemoteLLM
from ..remote.pace import AnswerLimits, AnswerPace
from .contents import request_body
from .realtime import KEY_VARIABLES
from .text_api import GeminiAPI
from .text_options import DEFAULT_TEXT_MODEL, GeminiOptions, text_options

if TYPE_CHECKING:  # an optional dependency
    from google.genai.types import FunctionCall, GenerateContentResponse

MAX_SIGNATURES = 1_000
"""The latest tool calls whose signatures are kept."""
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
_SIGNS = re.compile(r"(models/)?gemini-([3-9]|\d\d)")


class GeminiLLM(RemoteLLM):
    """A text model of Gemini. Needs the extra `google`.

    The key is `api_key`, by default GOOGLE_API_KEY or GEMINI_API_KEY of the environment. `base_url` is a custom
    endpoint. `Configure.options` are fields of `GeminiOptions`. `limits` are the time limits of an answer; a cancelled
    answer closes its request at once.

    The model's thoughts are not asked for. The signatures of its tool calls go back with these.

    Raises MissingExtra without the SDK, and ConfigurationError for an option that is out of its range.
    """

    def __init__(
        self,
        model: str = DEFAULT_TEXT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        api_version: str = "v1beta",
        ssl_context: ssl.SSLContext | None = None,
        options: GeminiOptions | None = None,
        limits: AnswerLimits | None = None,
    ) -> None:
        check_installed("google", "google.genai")
        super().__init__(limits)
        if not model:
            raise ConfigurationError("GeminiLLM needs the name of a model")
        self.model = model
        self.options = text_options(options or GeminiOptions(), {})
        self._api_key = api_key
        self._api = GeminiAPI(base_url, api_version, ssl_context)
        self._signatures = Recent[str](MAX_SIGNATURES)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the API does not have, or a value out of its range."""
        text_options(self.options, options)

    @property
    def _key(self) -> str:
        key = self._api_key or next((value for name in KEY_VARIABLES if (value := os.environ.get(name))), "")
        if not key.strip():
            raise ConfigurationError(f"{self.model} needs a key: give api_key, or set {' or '.join(KEY_VARIABLES)}")
        return key

    async def open(self) -> None:
        """Make the SDK's client. Raises ConfigurationError without a key."""
        await super().open()
        await self._api.open(self._key)

    async def warm(self) -> None:
        """Open a connection for the next request, by a question about the model."""
        await self._api.warm(self._key, self.model)

    async def close(self) -> None:
        """Release the SDK's client, and its connections."""
        await super().close()
        await self._api.close()

    async def answer(self, request: Request) -> Answer:
        """Yield the pieces of the model's answer."""
        options = text_options(self.options, request.options)
        pace = AnswerPace(self.limits, thinks_unseen=options.thinks)
        body = request_body(request, options, self._signatures, signs=_SIGNS.match(self.model) is not None)
        answer = _GeminiAnswer()
        async with aclosing(self._api.stream(self._key, self.model, body)) as pieces:
            while (piece := await pace.wait(anext(pieces, None))) is not None:
                text, calls, thought = answer.take(piece)
                if text or calls:
                    pace.word()
                elif thought:
                    pace.token()
                if text:
                    yield text
        if (usage := answer.usage(self.name, self.model)) is not None:
            yield usage
        answer.end(options.max_output_tokens)
        used: set[str] = set()
        for call, signature in answer.calls:
            call_id = self.unique_call_id(call.id or "", used)
            if signature:
                self._signatures[call_id] = base64.b64encode(signature).decode()
            yield ToolRequest(call_id=call_id, name=call.name or "", arguments=call.args or {})
        for problem in answer.problems:
            self.tell(problem)


class _GeminiAnswer:
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
        """Return the tokens, None if the server has not told them."""
        if self._last is None or self._last.usage_metadata is None:
            return None
        used = self._last.usage_metadata
        return Usage(
            service=service,
            model=self._last.model_version or model,
            input_tokens=(used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0),
            output_tokens=(used.candidates_token_count or 0) + (used.thoughts_token_count or 0),
            cached_tokens=used.cached_content_token_count or 0,
        )


def _name(reason: Any) -> str:
    """Return the name of a member of one of the SDK's enumerations, which may be new."""
    return str(getattr(reason, "value", reason))
