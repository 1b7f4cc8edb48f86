"""`/v1/chat/completions` of a scripted OpenAI: requests are checked, and answers are streamed in chunks.

Without `shows_thoughts` the model's thoughts are not on the wire, as with OpenAI; compatible servers have them in a
field of the delta, which `shows_thoughts` names.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...errors import MissingExtra
from ...services.context import Message, ToolRequest
from .http import HTTPRequest
from .openai_http import OpenAIServer, error, plain_fields, reject
from .server import Asked, CallTool
from .text_model import BYTES_PER_TOKEN, Answer, Reject, TextModel

try:
    from openai.types.chat import ChatCompletionChunk
except ImportError as problem:
    raise MissingExtra("a scripted OpenAI", "openai", str(problem)) from problem

CREATED = 1_790_000_000
"""The time of day of every chunk, in seconds since the epoch."""
_DATA_URI = re.compile(r"data:(image/[a-z+]+);base64,(.*)", re.DOTALL)


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _ImageURL(_Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class TextPart(_Strict, tag="text"):
    """A text in a message."""

    text: str


class ImagePart(_Strict, tag="image_url"):
    """An image in a message."""

    image_url: _ImageURL


class _Called(_Strict):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    arguments: str


class _Call(_Strict):
    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"]
    function: _Called
    extra_content: Any = None


class SystemMessage(_Strict, tag_field="role", tag="system"):
    """An instruction."""

    content: str | list[TextPart]


class UserMessage(_Strict, tag_field="role", tag="user"):
    """The caller's words and images."""

    content: Annotated[str, Meta(min_length=1)] | Annotated[list[TextPart | ImagePart], Meta(min_length=1)]


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    """The agent's words and calls."""

    content: str | None = None
    tool_calls: Annotated[list[_Call], Meta(min_length=1)] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(_Strict, tag_field="role", tag="tool"):
    """The result of a call."""

    content: str
    tool_call_id: str


class _Function(_Strict):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool | None = None


class _ToolParam(_Strict):
    type: Literal["function"]
    function: _Function


class _Chosen(_Strict):
    name: str


class _Choice(_Strict):
    type: Literal["function"]
    function: _Chosen


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = True


class ChatBody(_Strict):
    """The body of a request, as far as it is for streams of text."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[SystemMessage | UserMessage | AssistantMessage | ToolMessage], Meta(min_length=1)]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_ToolParam], Meta(min_length=1)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logit_bias: dict[str, int] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None


class ChatRoutes:
    """The route, and its behaviour, which may be changed at any time."""

    def __init__(self, server: OpenAIServer, model: TextModel) -> None:
        self._server, self._model = server, model
        self.shows_thoughts = ""
        """The field of a delta with the model's thoughts, "" to show none."""
        self.system_first = False
        """True: only the first message may be a system message, as in the templates of many open models."""
        self.extra: frozenset[str] = frozenset()
        """Fields that a request to this server may have besides OpenAI's own."""
        server.route("POST", "/v1/chat/completions", self.complete)

    async def complete(self, request: HTTPRequest) -> None:
        """Answer a request with a stream of chunks."""
        try:
            plain = request.json
            body = msgspec.convert({k: v for k, v in plain.items() if k not in self.extra}, ChatBody)
        except (ValueError, TypeError, AttributeError) as problem:
            await error(request, 400, f"Invalid request: {problem}", "invalid_request_error", "invalid_value")
            return
        if not await self._server.check(request, plain):
            return
        if self.system_first and any(isinstance(message, SystemMessage) for message in body.messages[1:]):
            await error(request, 400, "System message must be at the beginning.", "BadRequestError")
            return
        if message := refusal(body):
            await error(request, 400, message, "invalid_request_error")
            return
        prompt = prompt_of(plain)
        request.notes["prompt"] = prompt
        tokens, cached = self._model.cache.count(prompt)
        answer = ChatAnswer(request, self._model, body, (tokens, cached), self.shows_thoughts)
        await self._model.perform(asked_of(request, body), answer)


def refusal(body: ChatBody) -> str:
    """Return the reason for which the provider refuses a well-formed request, "" if it takes it."""
    if not body.stream:
        return "This server streams: set stream to true."
    if body.stream_options is not None and not body.stream:
        return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if body.tools is None and (body.tool_choice not in (None, "none") or body.parallel_tool_calls is not None):
        return "'tool_choice' is only allowed when 'tools' are specified."
    if body.max_tokens is not None and re.match(r"o\d|gpt-[5-9]", body.model):
        return "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    names = [tool.function.name for tool in body.tools or ()]
    if isinstance(body.tool_choice, _Choice) and body.tool_choice.function.name not in names:
        return f"Tool choice '{body.tool_choice.function.name}' not found in 'tools' parameter."
    owed: list[str] = []
    for message in body.messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in owed:
                return "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            owed.remove(message.tool_call_id)
            continue
        if owed:
            break
        if isinstance(message, AssistantMessage):
            if not message.content and not message.tool_calls:
                return "Invalid assistant message: content or tool_calls must be set."
            owed = [call.id for call in message.tool_calls or ()]
    if owed:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(owed)}"
        )
    return ""


def prompt_of(body: dict[str, Any]) -> bytes:
    """Return the text that the model reads: tools first, then the messages in order."""
    parts = [json.dumps(tool) for tool in body.get("tools") or ()]
    parts += [json.dumps(message) for message in body["messages"]]
    return "\n".join(parts).encode()


def asked_of(request: HTTPRequest, body: ChatBody) -> Asked:
    """Return what a request asks of the model."""
    history = tuple(_as_message(message) for message in body.messages)
    instructions = ""
    if history and history[0].role == "system":
        instructions, history = history[0].text, history[1:]
    tools = tuple(msgspec.to_builtins(tool.function) for tool in body.tools or ())
    last = history[-1] if history else None
    return Asked(
        connection=request.connection,
        instructions=instructions,
        voice="",
        tools=tools,
        history=history,
        said=last.text if last is not None and last.role == "user" else "",
    )


def _as_message(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> Message:
    match message:
        case SystemMessage():
            return Message(role="system", text=_text_of(message.content))
        case UserMessage():
            return _as_words(message)
        case AssistantMessage():
            calls = tuple(
                ToolRequest(call_id=call.id, name=call.function.name, arguments=json.loads(call.function.arguments))
                for call in message.tool_calls or ()
            )
            return Message(role="assistant", text=message.content or "", calls=calls)
        case ToolMessage():
            return Message(role="tool", text=message.content, call_id=message.tool_call_id)


def _as_words(message: UserMessage) -> Message:
    image: dict[str, Any] = {}
    for part in message.content if isinstance(message.content, list) else ():
        if isinstance(part, ImagePart):
            data = _DATA_URI.fullmatch(part.image_url.url)
            if data is None:
                image = {"url": part.image_url.url}
            else:
                image = {"mime": data[1], "image": base64.b64decode(data[2], validate=True)}
    return Message(role="user", text=_text_of(message.content), **image)


def _text_of(content: str | Sequence[TextPart | ImagePart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


class ChatAnswer(Answer):
    """One streamed answer."""

    def __init__(
        self,
        request: HTTPRequest,
        model: TextModel,
        body: ChatBody,
        tokens: tuple[int, int],
        shows_thoughts: str,
    ) -> None:
        super().__init__(request)
        self._model, self._body, self._tokens = model, body, tokens
        self._shows_thoughts = shows_thoughts
        self._calls = 0
        self._usage = body.stream_options is not None and body.stream_options.include_usage

    def event(self, value: dict[str, Any] | str) -> bytes:
        """Return the event for a chunk."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"data: {text}\n\n".encode()

    def chunk(self, delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return a chunk with one choice, or without one if `delta` is None."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {
            "id": f"chatcmpl-{self.request.number:024d}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self._body.model,
            "service_tier": "default",
            "system_fingerprint": None,
            "choices": [] if delta is None else [choice],
            **({"usage": None} if self._usage else {}),
            **fields,
        }

    async def send(self, chunk: dict[str, Any]) -> None:
        """Check a chunk by the SDK's type, and send it."""
        plain_fields(chunk, ChatCompletionChunk)
        await self.message(chunk)

    async def opened(self) -> None:
        """Send the chunk with the role."""
        await self.send(self.chunk({"role": "assistant", "content": "", "refusal": None}))

    async def text(self, text: str) -> None:
        """Send a piece of text."""
        await self.begin()
        await self.send(self.chunk({"content": text}))

    async def think(self, text: str) -> None:
        """Send a thought if the server shows thoughts. OpenAI itself has no field for it."""
        if self._shows_thoughts:
            await self.begin()
            for word in re.findall(r"\S+\s*", text):
                await self.message(self.chunk({"content": None, self._shows_thoughts: word}))

    async def refuse(self, text: str) -> None:
        """Send a refusal, word by word."""
        await self.begin()
        for word in re.findall(r"\S+\s*", text):
            await self.send(self.chunk({"refusal": word}))

    async def call(self, act: CallTool) -> None:
        """Send a tool call: its name, then its arguments in pieces."""
        await self.begin()
        index, self._calls = self._calls, self._calls + 1
        arguments = json.dumps(act.arguments, ensure_ascii=False)
        self.said += len(arguments)
        function = {"name": act.name, "arguments": ""}
        first = {"index": index, "id": self._model.call_id(act), "type": "function", "function": function}
        await self.send(self.chunk({"tool_calls": [first]}))
        size = self._model.arguments_cut
        for start in range(0, len(arguments), size):
            piece = {"index": index, "function": {"arguments": arguments[start : start + size]}}
            await self.send(self.chunk({"tool_calls": [piece]}))

    async def stop(self, reason: str) -> None:
        """Send the reason of the end, the usage if it was asked for, and the mark of the end."""
        finish = "tool_calls" if self._calls and reason == "stop" else reason
        await self.send(self.chunk({}, finish))
        if self._usage:
            await self.send(self.chunk(None, usage=self._used()))
        await self.message("[DONE]")

    def _used(self) -> dict[str, Any]:
        prompt, cached = self._tokens
        thought = -(-self.thought // BYTES_PER_TOKEN)
        written = thought - (-self.said // BYTES_PER_TOKEN)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": thought,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    async def fail(self, code: str, message: str) -> None:
        """Send an error in the stream."""
        await self.begin()
        kind = "server_error"
        await self.message({"error": {"message": message, "type": kind, "param": None, "code": code}})

    async def reject(self, act: Reject) -> None:
        """Refuse the request."""
        await reject(self.request, act)
