"""`OpenAIResponsesLLM`: OpenAI's language models over the Responses API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import ConfigurationError
from ..context import Request, ToolRequest
from ..remote.errors import ConnectionLost
from ..remote.ids import Recent
from ..remote.llm import Answer
from ..remote.pace import AnswerLimits, AnswerPace
from .api import Streamed
from .chat_options import DEFAULT_TEXT_MODEL, UNTHINKING, overridden
from .responses_answer import ResponsesAnswer
from .responses_items import Chain, Item, input_items, responses_body
from .responses_options import OpenAIResponsesOptions
from .text_llm import TextLLM

MAX_REASONING = 200
"""The latest tool calls whose encrypted reasoning is kept."""


class OpenAIResponsesLLM(TextLLM):
    """A model behind `/responses`. Needs the extra `openai`.

    `api_key` and `base_url` are those of `OpenAILLM`. `Configure.options` are fields of `OpenAIResponsesOptions`. While
    the provider keeps the answers (`store`) and nothing else was heard than was said, a request names the latest answer
    and has only what is new (`previous_response_id`).

    Raises MissingExtra without the SDK, and ConfigurationError for an option that is out of its range.
    """

    def __init__(
        self,
        model: str = DEFAULT_TEXT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        options: OpenAIResponsesOptions | None = None,
        limits: AnswerLimits | None = None,
    ) -> None:
        super().__init__(api_key, base_url, limits)
        if not model:
            raise ConfigurationError("OpenAIResponsesLLM needs the name of a model")
        self.model = model
        self.options = overridden(options or OpenAIResponsesOptions(), {}, "OpenAI")
        self._chain = Chain()
        self._chains = True  # False once the provider has refused to go on from an answer
        self._reasoning = Recent[Sequence[Item]](MAX_REASONING)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the API does not have, or a value out of its range."""
        overridden(self.options, options, "OpenAI")

    async def answer(self, request: Request) -> Answer:
        """Yield the pieces of the model's answer."""
        options = overridden(self.options, request.options, "OpenAI")
        pace = AnswerPace(self.limits, thinks_unseen=options.reasoning_effort not in UNTHINKING)
        items = input_items(request.messages, self._reasoning)
        model = request.model or self.model
        stream = await pace.wait(self._begin(responses_body(model, request, options), items, options.store))
        answer = ResponsesAnswer()
        try:
            while not answer.over and (event := await pace.wait(stream.next())) is not None:
                if event.strip() == b"[DONE]":
                    break
                news = answer.take(event)
                if news.text or news.calls:
                    pace.word()
                elif news.thought:
                    pace.token()
                if news.text:
                    yield news.text
        finally:
            stream.release(complete=answer.over)
        if (usage := answer.usage(self.name, model)) is not None:
            yield usage
        answer.end(options.max_output_tokens)
        made = self._made(answer)
        renamed = any(call.id != one.call_id for call, one in zip(answer.calls.values(), made, strict=True))
        if options.store and answer.id and not renamed:
            self._chain.keep(answer.id, items, _as_items(answer.text, made))
        for call in made:
            yield call
        for problem in answer.problems:
            self.tell(problem)

    async def _begin(self, body: dict[str, Any], items: Sequence[Item], store: bool) -> Streamed:
        """Send a request, with the items that the provider does not know. If it refuses that, send all of them."""
        previous, rest = self._chain.rest(items) if store and self._chains else ("", items)
        if previous:
            try:
                return await self._api.stream(
                    "/responses", {**body, "previous_response_id": previous, "input": rest}, body["model"]
                )
            except ConnectionLost as refused:
                if not (refused.code in (400, 404) and "previous" in str(refused)):
                    raise
            self._chains = False
            self._chain.forget()
        return await self._api.stream("/responses", {**body, "input": items}, body["model"])

    def _made(self, answer: ResponsesAnswer) -> list[ToolRequest]:
        """Return the tool calls of an answer, and keep the reasoning that goes back with them."""
        made: list[ToolRequest] = []
        used: set[str] = set()
        for call in answer.calls.values():
            call_id = self.unique_call_id(call.id, used)
            if answer.reasoning and not made:
                self._reasoning[call_id] = answer.reasoning
            made.append(ToolRequest(call_id=call_id, name=call.name, arguments=call.parsed()))
        return made


def _as_items(text: str, calls: Sequence[ToolRequest]) -> list[Item]:
    """Return an answer as items of the next request."""
    out: list[Item] = [{"role": "assistant", "content": text}] if text.strip() else []
    for call in calls:
        arguments = msgspec.json.encode(call.arguments).decode()
        out.append({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": arguments})
    return out
