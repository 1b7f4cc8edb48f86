"""`ResponsesAnswer`: reads the events of one answer of `/responses`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ...errors import BadInput, DuologueError, ServiceError
from ...frames import Usage
from ..remote.errors import ConnectionLost, fatal, named_wait_s
from ..remote.lenient import message_reader
from ..remote.llm import MAX_BAD_EVENTS
from .chat_calls import MAX_STREAMED_CALLS, StreamedCall

_Count = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class _EventFields(msgspec.Struct, frozen=True, gc=False):
    pass


class _OutputPart(_EventFields, frozen=True):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class _OutputItem(_EventFields, frozen=True):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    content: list[_OutputPart] | None = None
    encrypted_content: str | None = None
    summary: list[dict[str, Any]] | None = None


class _Cached(_EventFields, frozen=True):
    cached_tokens: _Count | None = None


class _Written(_EventFields, frozen=True):
    reasoning_tokens: _Count | None = None


class _TokenCounts(_EventFields, frozen=True):
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _Cached | None = None
    output_tokens_details: _Written | None = None


class _Failure(_EventFields, frozen=True):
    code: str | None = None
    type: str | None = None
    message: str | None = None


class _Incomplete(_EventFields, frozen=True):
    reason: str | None = None


class _WholeResponse(_EventFields, frozen=True):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: _Failure | None = None
    incomplete_details: _Incomplete | None = None
    output: list[_OutputItem] | None = None
    usage: _TokenCounts | None = None


class ResponseEvent(_EventFields, frozen=True):
    """One event. Every field may be null or absent."""

    type: str | None = None
    delta: str | None = None
    item_id: str | None = None
    item: _OutputItem | None = None
    response: _WholeResponse | None = None
    code: str | None = None
    message: str | None = None
    error: _Failure | None = None


read_response_event = message_reader(ResponseEvent, "the model server")

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_THOUGHT = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta", "response.reasoning.delta")
_CALL = ("response.function_call_arguments.delta",)
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.done")


class News(msgspec.Struct, frozen=True):
    """The news of an event: a text to speak, a piece of a tool call, or a thought."""

    text: str = ""
    calls: bool = False
    thought: bool = False


NOTHING = News()


class ResponsesAnswer:
    """The state of one answer."""

    def __init__(self) -> None:
        self.calls: dict[str, StreamedCall] = {}
        """The tool calls by the id of their item."""
        self.reasoning: list[dict[str, Any]] = []
        """The encrypted reasoning of the answer, as items to send back."""
        self.problems: list[DuologueError] = []
        """Problems that do not end the answer."""
        self.text = ""
        self.over = False
        self._response = _WholeResponse()

    @property
    def id(self) -> str:
        """The id of the answer, "" if it did not come to its end."""
        return (self._response.id or "") if self._response.status in (None, "completed") and self.over else ""

    def take(self, data: bytes) -> News:
        """Take an event, and return its news.

        Raises ConnectionLost for an error in the stream, and BadInput for the last of many malformed events.
        """
        try:
            event = read_response_event(data)
        except BadInput as problem:
            self.problems.append(problem)
            if len(self.problems) > MAX_BAD_EVENTS:
                raise
            return NOTHING
        kind = event.type or ""
        if kind in _TEXT:
            self.text += event.delta or ""
            return News(text=event.delta or "")
        if kind in _THOUGHT:
            return News(thought=True)
        if kind in _CALL:
            return News(calls=True)
        if kind in ("response.output_item.added", "response.output_item.done") and event.item is not None:
            return self._item(event.item, done=kind.endswith("done"))
        if kind == "error" or event.error is not None:
            raise _response_failed(event.error or _Failure(code=event.code, message=event.message))
        if kind in _ENDS and event.response is not None:
            return self._end(event.response)
        return NOTHING

    def _item(self, item: _OutputItem, *, done: bool) -> News:
        if item.type == "function_call":
            key = item.id or item.call_id or item.name or ""
            if key not in self.calls and len(self.calls) >= MAX_STREAMED_CALLS:
                raise ServiceError(f"the model makes more than {MAX_STREAMED_CALLS} tool calls at once")
            call = self.calls.setdefault(key, StreamedCall(None, ""))
            call.id = item.call_id or call.id
            call.name = item.name or call.name
            if isinstance(item.arguments, dict):
                call.arguments = msgspec.json.encode(item.arguments).decode()
            else:
                call.arguments = item.arguments or call.arguments
            return News(calls=True)
        if item.type == "reasoning" and done and item.encrypted_content and item.id:
            kept = {"type": "reasoning", "id": item.id, "summary": item.summary or []}
            self.reasoning.append({**kept, "encrypted_content": item.encrypted_content})
        return NOTHING

    def _end(self, response: _WholeResponse) -> News:
        """Take the end of the answer, with everything that no event has brought."""
        self.over, self._response = True, response
        said = ""
        for item in response.output or ():
            if item.type == "message" and not self.text:
                said += "".join(part.text or part.refusal or "" for part in item.content or ())
            elif item.type == "function_call":
                self._item(item, done=True)
        self.text += said
        return News(text=said)

    def end(self, limit: int | None) -> None:
        """End the answer. Problems of a part of it are added to `problems`. `limit` is the option for its tokens.

        Raises ConnectionLost for a stream that has broken off and for an answer that has failed, and ServiceError for
        an answer without a use.
        """
        if not self.over:
            raise ConnectionLost("the answer broke off: its stream has no end")
        if self._response.error is not None or self._response.status == "failed":
            raise _response_failed(self._response.error or _Failure())
        if self.problems and self.calls:
            raise ServiceError(f"a piece of a tool call may be lost: {self.problems[0]}")
        reason = (self._response.incomplete_details or _Incomplete()).reason or ""
        if reason == "content_filter":
            self._cut("the vendor's content filter blocked the answer", "the vendor's content filter cut the answer")
        elif reason or self._response.status == "incomplete":
            tokens = "tokens" if limit is None else f"{limit} tokens"
            self._cut(
                f"the model used all its {tokens} before its first word", f"an answer was cut at its limit of {tokens}"
            )

    def _cut(self, without_words: str, with_words: str) -> None:
        self.calls.clear()
        if not self.text:
            raise ServiceError(without_words)
        self.problems.append(ServiceError(with_words))

    def usage(self, service: str, model: str) -> Usage | None:
        """Return the tokens, None if the server has not reported them."""
        used = self._response.usage
        if used is None:
            return None
        return Usage(
            service=service,
            model=self._response.model or model,
            input_tokens=int(used.input_tokens or 0),
            output_tokens=int(used.output_tokens or 0),
            cached_tokens=int((used.input_tokens_details or _Cached()).cached_tokens or 0),
            thought_tokens=int((used.output_tokens_details or _Written()).reasoning_tokens or 0),
        )


def _response_failed(error: _Failure) -> ConnectionLost:
    """Return the ConnectionLost for an answer that has failed."""
    code, message = error.code or error.type or "", error.message or ""
    text = ": ".join(part for part in (code, message) if part) or "no reason"
    final = fatal(reason=code)
    return ConnectionLost(
        f"the answer failed: {text}", fatal=final, retry_after_s=None if final else named_wait_s(message) or None
    )
