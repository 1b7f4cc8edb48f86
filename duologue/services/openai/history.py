"""The client's messages of OpenAI Realtime that stand for what is in a conversation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from ..context import Message


def wire(message: Any) -> str:
    """As JSON."""
    return msgspec.json.encode(message).decode()


def item(fields: dict[str, Any]) -> str:
    """A new item at the end of the conversation."""
    return wire({"type": "conversation.item.create", "item": fields})


def message(role: str, content: list[dict[str, Any]]) -> str:
    """What someone said."""
    return item({"type": "message", "role": role, "content": content})


def result(call_id: str, value: Any) -> str:
    """The result of a tool call: text as it is, all else as JSON."""
    output = value if isinstance(value, str) else wire(value)
    return item({"type": "function_call_output", "call_id": call_id, "output": output})


def image(data: bytes, mime: str, url: str) -> dict[str, Any]:
    """An image as content of a message."""
    return {"type": "input_image", "image_url": url or f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def history(messages: Sequence[Message]) -> list[str]:
    """A conversation. A call without a result is left out, and so is a result without its call."""
    asked = {call.call_id for entry in messages for call in entry.calls}
    answered = {entry.call_id for entry in messages if entry.role == "tool"}
    out: list[str] = []
    for entry in messages:
        if entry.role == "tool":
            if entry.call_id in asked:
                out.append(result(entry.call_id, entry.text))
            continue
        if content := _content(entry):
            out.append(message(entry.role, content))
        out.extend(
            item(
                {
                    "type": "function_call",
                    "call_id": call.call_id,
                    "name": call.name,
                    "arguments": wire(call.arguments),
                }
            )
            for call in entry.calls
            if call.call_id in answered
        )
    return out


def _content(entry: Message) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if entry.text:
        content.append({"type": "output_text" if entry.role == "assistant" else "input_text", "text": entry.text})
    if entry.role == "user" and (entry.image or entry.url):
        content.append(image(entry.image, entry.mime or "image/jpeg", entry.url))
    return content
