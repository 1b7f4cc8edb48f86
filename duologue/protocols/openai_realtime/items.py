"""Checks the items that clients add to a Realtime session."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from .config import Refusal
from .response import ServerItem

_CONTENT = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "output_audio"),
}
_TEXTS = ("text", "transcript", "audio", "image_url")
_FIELDS = {"function_call": ("call_id", "name", "arguments"), "function_call_output": ("call_id", "output")}


def new_item(given: Any, new_id: str, call_ids: Container[str]) -> ServerItem:
    """Return the item in a client's data, under its own id if it has one, else under `new_id`.

    Raises Refusal for malformed data, and for the result of a call that is not among `call_ids`.
    """
    if not isinstance(given, dict):
        raise Refusal("missing_required_parameter", "Missing required parameter: 'item'.", "item")
    item_id, kind = given.get("id") or new_id, given.get("type")
    if not isinstance(item_id, str):
        raise Refusal("invalid_type", "Invalid type for 'item.id': expected a string.", "item.id")
    wire = {"id": item_id, "object": "realtime.item", "type": kind, "status": "completed"}
    if kind == "message":
        return _new_message(wire, given.get("role"), given.get("content"))
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise Refusal("invalid_value", f"Invalid value for 'item.type': {kind!r}.", "item.type")
    fields = {name: given.get(name) for name in _FIELDS[kind]}
    for name, value in fields.items():
        if not isinstance(value, str):
            message = f"Missing required parameter: 'item.{name}'."
            raise Refusal("missing_required_parameter", message, f"item.{name}")
    if kind == "function_call_output" and fields["call_id"] not in call_ids:
        message = f"Tool call ID '{fields['call_id']}' not found in conversation."
        raise Refusal("invalid_tool_call_id", message, "item.call_id")
    return ServerItem(wire | fields, text=fields.get("output") or "")


def _new_message(wire: dict[str, Any], role: Any, content: Any) -> ServerItem:
    if not isinstance(role, str) or role not in _CONTENT or not isinstance(content, list) or not content:
        raise Refusal("invalid_value", "A message needs a role and content.", "item")
    texts: list[str] = []
    shown: list[dict[str, Any]] = []
    for place, part in enumerate(content):
        where = f"item.content[{place}]"
        if not isinstance(part, dict) or part.get("type") not in _CONTENT[role]:
            allowed = ", ".join(f"'{name}'" for name in _CONTENT[role])
            raise Refusal("invalid_value", f"Content of a {role} message is {allowed}.", f"{where}.type")
        if any(not isinstance(part.get(name) or "", str) for name in _TEXTS):
            raise Refusal("invalid_type", f"Invalid type in '{where}': expected strings.", where)
        texts.append(part.get("text") or part.get("transcript") or "")
        shown.append({key: value for key, value in part.items() if key != "audio"})
    return ServerItem(wire | {"role": role, "content": shown}, text=" ".join(filter(None, texts)))
