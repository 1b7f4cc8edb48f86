"""`OpenAILLM`: language models over Chat Completions, of OpenAI or any server that is compatible with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ConfigurationError
from ..context import Request, ToolRequest
from ..remote.errors import ConnectionLost
from ..remote.ids import Recent
from ..remote.llm import Answer
from ..remote.pace import AnswerLimits, AnswerPace
from .api import Streamed
from .chat_answer import ChatAnswer
from .chat_messages import chat_body, notes_of_user
from .chat_options import DEFAULT_TEXT_MODEL, UNTHINKING, OpenAIChatOptions, overridden
from .text_llm import TextLLM

MAX_KEPT = 1_000
"""The latest tool calls whose extra fields are kept."""


class OpenAILLM(TextLLM):
    """A model behind `/chat/completions`. Needs the extra `openai`.

    `base_url` is by default OPENAI_BASE_URL or OpenAI's own; with it any compatible server works (vLLM, Ollama,
    llama.cpp, LiteLLM, and most vendors). `api_key` is by default OPENAI_API_KEY for OpenAI's own address; a server of
    one's own gets the key that is given, or none. `Configure.options` are fields of `OpenAIChatOptions`.

    A model's thoughts are not spoken: neither those that the server has in fields of their own, nor those in the text.
    A refusal is spoken. `limits` are the time limits of an answer; a cancelled answer closes its request at once.

    Raises MissingExtra without the SDK, and ConfigurationError for an option that is out of its range.
    """

    def __init__(
        self,
        model: str = DEFAULT_TEXT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        options: OpenAIChatOptions | None = None,
        limits: AnswerLimits | None = None,
    ) -> None:
        super().__init__(api_key, base_url, limits)
        if not model:
            raise ConfigurationError("OpenAILLM needs the name of a model")
        self.model = model
        self.options = overridden(options or OpenAIChatOptions(), {}, "OpenAI")
        self._asks_usage = True  # False for a server that has refused the wish
        self._tells_notes = True  # False for a server that has refused system messages behind the first one
        self._given_with = Recent[dict[str, Any]](MAX_KEPT)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the API does not have, or a value out of its range."""
        overridden(self.options, options, "OpenAI")

    async def answer(self, request: Request) -> Answer:
        """Yield the pieces of the model's answer."""
        options = overridden(self.options, request.options, "OpenAI")
        pace = AnswerPace(self.limits, thinks_unseen=options.reasoning_effort not in UNTHINKING)
        model = request.model or self.model
        stream = await pace.wait(self._begin(chat_body(model, request, options, self._given_with)))
        answer, complete = ChatAnswer(), False
        try:
            while not complete and (event := await pace.wait(stream.next())) is not None:
                complete = event.strip() == b"[DONE]"
                if complete:
                    continue
                delta = answer.take(event)
                text = delta.text or delta.refusal or ""
                if text or delta.tool_calls:
                    pace.word()
                elif delta.thought:
                    pace.token()
                if text:
                    yield text
        finally:
            stream.release(complete=complete)
        if (usage := answer.usage(self.name, model)) is not None:
            yield usage
        answer.end(complete=complete, limit=options.max_completion_tokens or options.max_tokens)
        for call in self._made(answer):
            yield call
        for problem in answer.problems:
            self.tell(problem)

    async def _begin(self, body: dict[str, Any]) -> Streamed:
        """Send a request. A server that refuses a habit of OpenAI's is asked without it, from then on."""
        while True:
            wish = {"stream_options": {"include_usage": True}} if self._asks_usage else {}
            messages = body["messages"] if self._tells_notes else notes_of_user(body["messages"])
            try:
                return await self._api.stream(
                    "/chat/completions", {**wish, **body, "messages": messages}, body["model"]
                )
            except ConnectionLost as refused:
                reason = str(refused).lower() if refused.code in (400, 422, 500) else ""
                if self._asks_usage and "stream_options" in reason:
                    self._asks_usage = False
                elif self._tells_notes and "system" in reason and _has_notes(messages):
                    self._tells_notes = False
                else:
                    raise

    def _made(self, answer: ChatAnswer) -> list[ToolRequest]:
        """Return the tool calls of an answer, and keep what the server wants back with them."""
        made: list[ToolRequest] = []
        used: set[str] = set()
        beside = {answer.thoughts_in: answer.thoughts} if answer.thoughts else {}
        for call in answer.calls.calls:
            request = ToolRequest(call_id=self.unique_call_id(call.id, used), name=call.name, arguments=call.parsed())
            if call.extra or beside:
                self._given_with[request.call_id] = {"call": call.extra, "message": beside}
            made.append(request)
        return made


def _has_notes(messages: Sequence[dict[str, Any]]) -> bool:
    return any(message["role"] == "system" for message in messages[1:])
