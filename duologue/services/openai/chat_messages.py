"""A request in the form of `/chat/completions`.

The stable parts stand first, because providers cache the beginning of a prompt: the tools and the instructions, then
the conversation, which only grows at its end. The same request always has the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...agents.tool import ToolSpec
from ..context import Message, Request, ToolRequest
from .chat_options import OpenAIChatOptions
from .options import FunctionChoice

Kept = Mapping[str, dict[str, Any]]
"""Fields that a server gave with a tool call and wants back with it, by the id of the call: see `StreamedCalls`."""

_NOT_IN_BODY = ("extra_body", "tool_choice", "parallel_tool_calls")


def chat_body(model: str, request: Request, options: OpenAIChatOptions, kept: Kept) -> dict[str, Any]:
    """Return the body of a request for a stream, without the wish for usage."""
    settings = msgspec.to_builtins(options).items()
    body: dict[str, Any] = {"model": model, "stream": True}
    body |= {name: value for name, value in settings if value is not None and name not in _NOT_IN_BODY}
    if request.tools:
        body["tools"] = [chat_tool(tool) for tool in request.tools]
        choice = _chat_choice(request.tool_choice, options)
        if choice is not None:
            body["tool_choice"] = choice
        if options.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    body["messages"] = chat_messages(request, kept)
    return {**body, **options.extra_body}


def chat_tool(tool: ToolSpec) -> dict[str, Any]:
    """Return the specification of a tool."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": {**function, "parameters": tool.parameters}}


def _chat_choice(asked: str, options: OpenAIChatOptions) -> Any:
    """Return the choice of tools: that of the answer, else that of the options."""
    if asked in ("none", "required"):
        return asked
    choice = options.tool_choice
    name = asked or (choice.name if isinstance(choice, FunctionChoice) else "")
    return {"type": "function", "function": {"name": name}} if name else choice


def chat_messages(request: Request, kept: Kept) -> list[dict[str, Any]]:
    """Return the messages: the instructions, then the conversation."""
    out: list[dict[str, Any]] = []
    if request.instructions:
        out.append({"role": "system", "content": request.instructions})
    out += (_chat_message(message, kept) for message in request.messages)
    if not out:
        out.append({"role": "user", "content": "(silence)"})
    return out


def notes_of_user(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose only system message is the first. Later system messages become the user's, in brackets.

    The templates of many open models take no other. Texts of the user that follow each other are one message.
    """
    out: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "system" and out:
            message = {"role": "user", "content": f"[{message['content']}]"}
        if out and _is_user_text(message) and _is_user_text(out[-1]):
            out[-1]["content"] += f"\n{message['content']}"
        else:
            out.append(dict(message))
    return out


def _is_user_text(message: dict[str, Any]) -> bool:
    return message["role"] == "user" and isinstance(message["content"], str)


def _chat_message(message: Message, kept: Kept) -> dict[str, Any]:
    match message.role:
        case "tool":
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
        case "assistant" if message.calls:
            calls = [_chat_call(call, kept) for call in message.calls]
            beside = kept.get(message.calls[0].call_id, {}).get("message", {})
            return {"role": "assistant", "content": message.text or None, **beside, "tool_calls": calls}
        case "user" if message.image or message.url:
            return {"role": "user", "content": _chat_parts(message)}
    return {"role": message.role, "content": message.text}


def _chat_parts(message: Message) -> Sequence[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
    return [*parts, {"type": "image_url", "image_url": {"url": image_url(message)}}]


def image_url(message: Message) -> str:
    """Return the address of an image, or the image itself as one."""
    return message.url or f"data:{message.mime or 'image/jpeg'};base64,{base64.b64encode(message.image).decode()}"


def _chat_call(call: ToolRequest, kept: Kept) -> dict[str, Any]:
    function = {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()}
    return {"id": call.call_id, "type": "function", "function": function, **kept.get(call.call_id, {}).get("call", {})}
