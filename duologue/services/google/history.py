"""The conversation as Gemini's contents: turns of user and model, made of parts."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable
from typing import Any

import msgspec

from ..context import Message
from .models import GEMINI_IMAGE_TYPES


def turns_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as contents, in which user and model alternate."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        for part in _parts(message):
            if not turns or turns[-1]["role"] != role:
                turns.append({"role": role, "parts": []})
            parts = turns[-1]["parts"]
            if parts and "text" in part and "text" in parts[-1]:
                parts[-1] = {"text": f"{parts[-1]['text']}\n{part['text']}"}
            else:
                parts.append(part)
    return turns


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "system":
        return [{"text": bracketed(message.text)}]
    if message.role == "tool":
        return [{"text": bracketed(f"Result of {message.name}: {message.text}")}]
    parts: list[dict[str, Any]] = []
    if message.image and message.mime in GEMINI_IMAGE_TYPES:
        parts.append({"inline_data": blob(message.image, message.mime)})
    elif message.image or message.url:
        parts.append({"text": bracketed(f"An image: {message.url[:200] or message.mime}")})
    if message.text:
        parts.append({"text": message.text})
    parts.extend({"text": bracketed(f"Called {call.name} with {to_json(call.arguments)}")} for call in message.calls)
    return parts


def bracketed(text: str) -> str:
    """Return words that neither side has spoken, in brackets."""
    return f"[{text}]"


def turn(role: str, text: str) -> dict[str, Any]:
    """Return the words of one side."""
    return {"role": role, "parts": [{"text": text}]}


def blob(data: bytes, mime: str) -> dict[str, str]:
    """Return bytes as the wire takes them."""
    return {"data": b2a_base64(data, newline=False).decode("ascii"), "mime_type": mime}


def to_json(message: Any) -> str:
    """Return a message as JSON."""
    return msgspec.json.encode(message).decode()
