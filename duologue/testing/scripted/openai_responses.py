"""`/v1/responses` of a scripted OpenAI: requests are checked, answers are streamed as events, and kept if asked."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import msgspec

from ...errors import ConfigurationError, MissingExtra
from .http import HTTPRequest
from .openai_chat import CREATED
from .openai_http import OpenAIServer, error, plain_fields, reject
from .openai_responses_body import ITEMS, ResponsesBody, asked_of, prompt_of, refusal
from .server import CallTool
from .text_model import BYTES_PER_TOKEN, Answer, Reject, TextModel

try:
    from openai.types import responses as types
except ImportError as problem:
    raise MissingExtra("a scripted OpenAI", "openai", str(problem)) from problem

_EVENTS: dict[str, Any] = {
    "response.created": types.ResponseCreatedEvent,
    "response.in_progress": types.ResponseInProgressEvent,
    "response.output_item.added": types.ResponseOutputItemAddedEvent,
    "response.output_item.done": types.ResponseOutputItemDoneEvent,
    "response.content_part.added": types.ResponseContentPartAddedEvent,
    "response.content_part.done": types.ResponseContentPartDoneEvent,
    "response.output_text.delta": types.ResponseTextDeltaEvent,
    "response.output_text.done": types.ResponseTextDoneEvent,
    "response.refusal.delta": types.ResponseRefusalDeltaEvent,
    "response.refusal.done": types.ResponseRefusalDoneEvent,
    "response.reasoning_summary_text.delta": types.ResponseReasoningSummaryTextDeltaEvent,
    "response.function_call_arguments.delta": types.ResponseFunctionCallArgumentsDeltaEvent,
    "response.function_call_arguments.done": types.ResponseFunctionCallArgumentsDoneEvent,
    "response.completed": types.ResponseCompletedEvent,
    "response.incomplete": types.ResponseIncompleteEvent,
    "response.failed": types.ResponseFailedEvent,
}


class ResponsesRoutes:
    """The route, and its behaviour, which may be changed at any time."""

    def __init__(self, server: OpenAIServer, model: TextModel) -> None:
        self._server, self._model = server, model
        self.kept: dict[str, list[dict[str, Any]]] = {}
        """The conversation up to each kept answer, the answer included."""
        self.shows_thoughts = False
        """True: a summary of the model's thoughts is sent."""
        server.route("POST", "/v1/responses", self.respond)

    async def respond(self, request: HTTPRequest) -> None:
        """Answer a request with a stream of events."""
        try:
            plain = request.json
            body = msgspec.convert(plain, ResponsesBody)
            for item in body.input:
                msgspec.convert(item, ITEMS[item.get("type", "message")])
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            await error(request, 400, f"Invalid request: {problem}", "invalid_request_error", "invalid_value")
            return
        if not await self._server.check(request, plain):
            return
        before = self.kept.get(body.previous_response_id or "")
        if body.previous_response_id and before is None:
            message = f"Previous response with id '{body.previous_response_id}' not found."
            await error(
                request, 400, message, "invalid_request_error", "previous_response_not_found", "previous_response_id"
            )
            return
        items = [*(before or ()), *body.input]
        if message := refusal(body, items):
            await error(request, 400, message, "invalid_request_error", None, "input")
            return
        prompt = prompt_of(plain, items)
        request.notes["prompt"] = prompt
        answer = ResponsesAnswer(request, self, body, items, self._model.cache.count(prompt))
        await self._model.perform(asked_of(request, body, items), answer)

    @property
    def model(self) -> TextModel:
        """The script."""
        return self._model


class ResponsesAnswer(Answer):
    """One streamed answer."""

    def __init__(
        self,
        request: HTTPRequest,
        routes: ResponsesRoutes,
        body: ResponsesBody,
        items: list[dict[str, Any]],
        tokens: tuple[int, int],
    ) -> None:
        super().__init__(request)
        self._routes, self._body, self._items, self._tokens = routes, body, items, tokens
        self._id = f"resp_{request.number:032d}"
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the message or refusal in progress
        self._words = ""

    def event(self, value: dict[str, Any] | str) -> bytes:
        """Return an event with its name."""
        if isinstance(value, str):
            return f"data: {value}\n\n".encode()
        return f"event: {value.get('type')}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()

    async def send(self, kind: str, **fields: Any) -> None:
        """Check an event by the SDK's type, and send it."""
        message = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        if kind not in _EVENTS:
            raise ConfigurationError(f"{kind} is not an event that this server sends")
        plain_fields(message, _EVENTS[kind])
        await self.message(message)

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:
        body = self._body
        return {
            "id": self._id,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": body.model,
            "output": self._output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "temperature": body.temperature,
            "tool_choice": msgspec.to_builtins(body.tool_choice) or "auto",
            "tools": msgspec.to_builtins(body.tools) or [],
            "top_p": body.top_p,
            "metadata": body.metadata or {},
            "usage": None,
            **fields,
        }

    async def opened(self) -> None:
        """Send the events with which every answer begins."""
        await self.send("response.created", response=self._response("in_progress"))
        await self.send("response.in_progress", response=self._response("in_progress"))

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.request.number}_{len(self._output)}", "output_index": len(self._output)}

    async def _begin_part(self, part: dict[str, Any]) -> None:
        await self.begin()
        if self._open is not None and self._open["type"] == part["type"]:
            return
        await self._end_message()
        self._open, self._words = part, ""
        item = {"id": self._place["item_id"], "type": "message", "status": "in_progress", "role": "assistant"}
        item["content"] = []
        await self.send("response.output_item.added", output_index=len(self._output), item=item)
        await self.send("response.content_part.added", **self._place, content_index=0, part=part)

    async def _end_message(self, status: str = "completed") -> None:
        part = self._open
        if part is None:
            return
        self._open = None
        if part["type"] == "output_text":
            part = {**part, "text": self._words}
            await self.send("response.output_text.done", **self._place, content_index=0, text=self._words, logprobs=[])
        else:
            part = {**part, "refusal": self._words}
            await self.send("response.refusal.done", **self._place, content_index=0, refusal=self._words)
        await self.send("response.content_part.done", **self._place, content_index=0, part=part)
        item = {"id": self._place["item_id"], "type": "message", "status": status, "role": "assistant"}
        await self._done({**item, "content": [part]})

    async def _done(self, item: dict[str, Any]) -> None:
        await self.send("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)

    async def text(self, text: str) -> None:
        """Send a piece of text."""
        await self._begin_part({"type": "output_text", "text": "", "annotations": []})
        self._words += text
        await self.send("response.output_text.delta", **self._place, content_index=0, delta=text, logprobs=[])

    async def refuse(self, text: str) -> None:
        """Send a refusal, word by word."""
        await self._begin_part({"type": "refusal", "refusal": ""})
        for word in re.findall(r"\S+\s*", text):
            self._words += word
            await self.send("response.refusal.delta", **self._place, content_index=0, delta=word)

    async def think(self, text: str) -> None:
        """Send an item of reasoning: its content is encrypted, if it was asked for, and has a summary at most."""
        await self.begin()
        await self._end_message()
        item: dict[str, Any] = {
            "id": f"rs_{self.request.number}_{len(self._output)}",
            "type": "reasoning",
            "summary": [],
        }
        await self.send("response.output_item.added", output_index=len(self._output), item=item)
        if self._routes.shows_thoughts:
            place = {"item_id": item["id"], "output_index": len(self._output), "summary_index": 0}
            for word in re.findall(r"\S+\s*", text):
                await self.send("response.reasoning_summary_text.delta", **place, delta=word)
            item = {**item, "summary": [{"type": "summary_text", "text": text}]}
        if self._body.include:
            item = {**item, "encrypted_content": base64.b64encode(text.encode()).decode()}
        await self._done(item)

    async def call(self, act: CallTool) -> None:
        """Send a tool call: its name, then its arguments in pieces."""
        await self.begin()
        await self._end_message()
        arguments = json.dumps(act.arguments, ensure_ascii=False)
        self.said += len(arguments)
        place = {"item_id": f"fc_{self.request.number}_{len(self._output)}", "output_index": len(self._output)}
        item: dict[str, Any] = {"id": place["item_id"], "type": "function_call", "status": "in_progress"}
        item |= {"call_id": self._routes.model.call_id(act), "name": act.name, "arguments": ""}
        await self.send("response.output_item.added", output_index=place["output_index"], item=item)
        size = self._routes.model.arguments_cut
        for start in range(0, len(arguments), size):
            piece = arguments[start : start + size]
            await self.send("response.function_call_arguments.delta", **place, delta=piece)
        await self.send("response.function_call_arguments.done", **place, arguments=arguments)
        await self._done({**item, "status": "completed", "arguments": arguments})

    async def stop(self, reason: str) -> None:
        """Send the end, and keep the answer."""
        status = "completed" if reason == "stop" else "incomplete"
        await self._end_message(status)
        fields: dict[str, Any] = {"usage": self._used()}
        if status == "incomplete":
            fields["incomplete_details"] = {"reason": "max_output_tokens" if reason == "length" else reason}
        if self._body.store:
            self._routes.kept[self._id] = [*self._items, *map(_as_input, self._output)]
        await self.send(f"response.{status}", response=self._response(status, **fields))

    def _used(self) -> dict[str, Any]:
        prompt, cached = self._tokens
        thought = -(-self.thought // BYTES_PER_TOKEN)
        written = thought - (-self.said // BYTES_PER_TOKEN)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": prompt + written,
        }

    async def fail(self, code: str, message: str) -> None:
        """Fail in the middle of the answer."""
        await self.begin()
        codes = types.ResponseError.model_fields["code"].annotation
        known = getattr(codes, "__args__", ())
        problem = {"code": code if code in known else "server_error", "message": message}
        await self.send("response.failed", response=self._response("failed", error=problem))

    async def reject(self, act: Reject) -> None:
        """Refuse the request."""
        await reject(self.request, act)


def _as_input(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item of an answer as the model reads it later."""
    if item["type"] == "message":
        part = item["content"][0]
        return {"role": "assistant", "content": part.get("text") or part.get("refusal") or ""}
    if item["type"] == "function_call":
        return {name: item[name] for name in ("type", "call_id", "name", "arguments")}
    return {"type": "reasoning", "id": item["id"], "summary": item["summary"]}
