"""`GeminiLLM`: Gemini's text models."""

from __future__ import annotations

import base64
import os
import re
import ssl
from contextlib import aclosing
from typing import Any

from ...errors import ConfigurationError, check_installed
from ...images.limits import ImageLimits
from ..context import Request, ToolRequest
from ..remote.ids import Recent
from ..remote.llm import Answer, RemoteLLM
from ..remote.pace import AnswerLimits, AnswerPace
from .contents import request_body
from .realtime import KEY_VARIABLES
from .text_api import GeminiAnswer, GeminiAPI
from .text_options import DEFAULT_TEXT_MODEL, GeminiOptions, text_options

MAX_SIGNATURES = 1_000
"""The latest tool calls whose signatures are kept."""
_SIGNS = re.compile(r"(models/)?gemini-([3-9]|\d\d)")


class GeminiLLM(RemoteLLM):
    """A text model of Gemini. Needs the extra `google`.

    The key is `api_key`, by default GOOGLE_API_KEY or GEMINI_API_KEY of the environment. `base_url` is a custom
    endpoint. `Configure.options` are fields of `GeminiOptions`. `limits` are the time limits of an answer; a cancelled
    answer closes its request at once.

    The model's thoughts are not asked for. The signatures of its tool calls go back with these.

    Raises MissingExtra without the SDK, and ConfigurationError for an option that is out of its range.
    """

    images = ImageLimits(types=frozenset({"image/jpeg", "image/png", "image/webp"}), max_side=3_072)

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
        model = request.model or self.model
        body = request_body(request, options, self._signatures, signs=_SIGNS.match(model) is not None)
        answer = GeminiAnswer()
        async with aclosing(self._api.stream(self._key, model, body)) as pieces:
            while (piece := await pace.wait(anext(pieces, None))) is not None:
                text, calls, thought = answer.take(piece)
                if text or calls:
                    pace.word()
                elif thought:
                    pace.token()
                if text:
                    yield text
        if (usage := answer.usage(self.name, model)) is not None:
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
