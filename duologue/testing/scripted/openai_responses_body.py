"""Requests to `/v1/responses` of a scripted OpenAI: their form, the check of it, and the conversation in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...services.context import Message, ToolRequest
from .http import HTTPRequest
from .server import Asked

_DATA_URI = re.compile(r"data:(image/[a-z+]+);base64,(.*)", re.DOTALL)


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Text(_Strict, tag="input_text"):
    text: str


class _Image(_Strict, tag="input_image"):
    image_url: str
    detail: Literal["auto", "low", "high", "original"]


class _Function(_Strict):
    type: Literal["function"]
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    parameters: dict[str, Any] | None
    strict: bool | None
    description: str | None = None


class _Choice(_Strict):
    type: Literal["function"]
    name: str


class _Reasoning(_Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _TextSettings(_Strict):
    verbosity: Literal["low", "medium", "high"] | None = None


class _ItemMessage(_Strict):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[_Text | _Image], Meta(min_length=1)]
    type: Literal["message"] = "message"


class _ItemCall(_Strict):
    type: Literal["function_call"]
    call_id: Annotated[str, Meta(min_length=1)]
    name: str
    arguments: str


class _ItemOutput(_Strict):
    type: Literal["function_call_output"]
    call_id: Annotated[str, Meta(min_length=1)]
    output: str


class _ItemReasoning(_Strict):
    type: Literal["reasoning"]
    id: str
    summary: list[dict[str, Any]]
    encrypted_content: str | None = None


ITEMS: dict[str, Any] = {
    "message": _ItemMessage,
    "function_call": _ItemCall,
    "function_call_output": _ItemOutput,
    "reasoning": _ItemReasoning,
}


class ResponsesBody(_Strict):
    """The body of a request, as far as it is for streams of text."""

    model: Annotated[str, Meta(min_length=1)]
    input: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    stream: Literal[True]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool = True
    include: list[Literal["reasoning.encrypted_content"]] = []
    tools: Annotated[list[_Function], Meta(min_length=1)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_tool_calls: int | None = None
    reasoning: _Reasoning | None = None
    text: _TextSettings | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None


def refusal(body: ResponsesBody, items: Sequence[dict[str, Any]]) -> str:
    """Return the reason for which the provider refuses a well-formed request, "" if it takes it."""
    names = [tool.name for tool in body.tools or ()]
    if isinstance(body.tool_choice, _Choice) and body.tool_choice.name not in names:
        return f"Tool choice '{body.tool_choice.name}' not found in 'tools' parameter."
    if body.tools is None and body.tool_choice not in (None, "none", "auto"):
        return "Tool choice must be 'none' or 'auto' without tools."
    called = [item["call_id"] for item in items if item.get("type") == "function_call"]
    answered = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for call_id in called:
        if call_id not in answered:
            return f"No tool output found for function call {call_id}."
    for call_id in answered:
        if call_id not in called:
            return f"No tool call found for function call output with call_id {call_id}."
    return ""


def prompt_of(body: dict[str, Any], items: Sequence[dict[str, Any]]) -> bytes:
    """Return the text that the model reads: tools, instructions, then the items in order."""
    parts = [*(json.dumps(tool) for tool in body.get("tools") or ()), body.get("instructions") or ""]
    return "\n".join([*parts, *(json.dumps(item) for item in items)]).encode()


def asked_of(request: HTTPRequest, body: ResponsesBody, items: Sequence[dict[str, Any]]) -> Asked:
    """Return what a request asks of the model."""
    history: list[Message] = []
    for item in items:
        _add(history, item)
    last = history[-1]
    return Asked(
        connection=request.connection,
        instructions=body.instructions or "",
        voice="",
        tools=tuple(msgspec.to_builtins(tool) for tool in body.tools or ()),
        history=tuple(history),
        said=last.text if last.role == "user" else "",
    )


def _add(history: list[Message], item: dict[str, Any]) -> None:
    role: Any
    match item.get("type", "message"):
        case "message":
            role = "system" if item["role"] == "developer" else item["role"]
            history.append(Message(role=role, **_content(item["content"])))
        case "function_call":
            call = ToolRequest(call_id=item["call_id"], name=item["name"], arguments=json.loads(item["arguments"]))
            if not history or history[-1].role != "assistant":
                history.append(Message(role="assistant"))
            history[-1] = msgspec.structs.replace(history[-1], calls=(*history[-1].calls, call))
        case "function_call_output":
            history.append(Message(role="tool", call_id=item["call_id"], text=item["output"]))


def _content(content: Any) -> dict[str, Any]:
    if isinstance(content, str):
        return {"text": content}
    found: dict[str, Any] = {"text": "".join(part.get("text", "") for part in content)}
    for part in content:
        if part["type"] == "input_image":
            data = _DATA_URI.fullmatch(part["image_url"])
            if data is None:
                found["url"] = part["image_url"]
            else:
                found |= {"mime": data[1], "image": base64.b64decode(data[2], validate=True)}
    return found
