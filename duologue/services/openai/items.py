"""The messages that add items to the conversation of a session of OpenAI Realtime."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from ...frames.text import to_json
from ..context import Message


def create_item(fields: dict[str, Any]) -> str:
    """Return the message that appends an item to the conversation."""
    return to_json({"type": "conversation.item.create", "item": fields})


def create_message(role: str, content: list[dict[str, Any]]) -> str:
    """Return the message that appends a text or an image of one side."""
    return create_item({"type": "message", "role": role, "content": content})


def create_result(call_id: str, result: Any) -> str:
    """Return the message that appends a tool's result: a string unchanged, other values as JSON."""
    output = result if isinstance(result, str) else to_json(result)
    return create_item({"type": "function_call_output", "call_id": call_id, "output": output})


def image_content(data: bytes, mime: str, url: str) -> dict[str, Any]:
    """Return an image as content of a message: its url, or its bytes if it has none."""
    return {"type": "input_image", "image_url": url or f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def history_items(messages: Sequence[Message]) -> list[str]:
    """Return the messages that replay a conversation, without calls that lack a result and results of unknown calls."""
    asked = {call.call_id for message in messages for call in message.calls}
    answered = {message.call_id for message in messages if message.role == "tool"}
    out: list[str] = []
    for message in messages:
        if message.role == "tool":
            if message.call_id in asked:
                out.append(create_result(message.call_id, message.text))
            continue
        if content := _content(message):
            out.append(create_message(message.role, content))
        out.extend(
            create_item(
                {
                    "type": "function_call",
                    "call_id": call.call_id,
                    "name": call.name,
                    "arguments": to_json(call.arguments),
                }
            )
            for call in message.calls
            if call.call_id in answered
        )
    return out


def _content(message: Message) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if message.text:
        content.append({"type": "output_text" if message.role == "assistant" else "input_text", "text": message.text})
    if message.role == "user" and (message.image or message.url):
        content.append(image_content(message.image, message.mime or "image/jpeg", message.url))
    return content
