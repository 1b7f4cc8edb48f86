"""Checks the items that clients add to a Realtime session."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from .events import MAX_TEXT, ContentPart, ItemGiven, given
from .refusal import Refusal
from .response import ServerItem

_CONTENT = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "output_audio"),
}
_FIELDS = {"function_call": ("call_id", "name", "arguments"), "function_call_output": ("call_id", "output")}


def new_item(item: ItemGiven, new_id: str, call_ids: Container[str], where: str = "item") -> ServerItem:
    """Return the item in a client's data, under its own id if it has one, else under `new_id`.

    Raises Refusal for incomplete data, and for the result of a call that is not among `call_ids`. `where` is the
    item's place in the event.
    """
    wire = {"id": item.id or new_id, "object": "realtime.item", "type": item.type, "status": "completed"}
    if item.type == "message":
        return _new_message(wire, item.role or "", item.content or [], where)
    if item.type not in _FIELDS:
        raise Refusal("invalid_value", f"Invalid value for '{where}.type': {item.type!r}.", f"{where}.type")
    fields = {name: getattr(item, name) for name in _FIELDS[item.type]}
    for name, value in fields.items():
        if value is None or (name != "output" and name != "arguments" and not value):
            message = f"Missing required parameter: '{where}.{name}'."
            raise Refusal("missing_required_parameter", message, f"{where}.{name}")
    if item.type == "function_call_output" and fields["call_id"] not in call_ids:
        message = f"Tool call ID '{fields['call_id']}' not found in conversation."
        raise Refusal("invalid_tool_call_id", message, f"{where}.call_id")
    return ServerItem(wire | fields, text=fields.get("output") or "")


def _new_message(wire: dict[str, Any], role: str, content: list[ContentPart], where: str) -> ServerItem:
    if not role or not content:
        raise Refusal("invalid_value", "A message needs a role and content.", where)
    for place, part in enumerate(content):
        if part.type not in _CONTENT[role]:
            allowed = ", ".join(f"'{name}'" for name in _CONTENT[role])
            raise Refusal(
                "invalid_value", f"Content of a {role} message is {allowed}.", f"{where}.content[{place}].type"
            )
    text = " ".join(filter(None, (part.text or part.transcript for part in content)))
    if len(text) > MAX_TEXT:
        raise Refusal(
            "string_above_max_length", f"An item has at most {MAX_TEXT} characters of text.", f"{where}.content"
        )
    shown = [{name: value for name, value in given(part).items() if name != "audio"} for part in content]
    return ServerItem(wire | {"role": role, "content": shown}, text=text)
