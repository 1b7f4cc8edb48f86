"""A request in the form of `/responses`, and `Chain`: the part of the conversation that the provider keeps.

The stable parts stand first, because providers cache the beginning of a prompt: the tools and the instructions, then
the conversation, which only grows at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...agents.tool import ToolSpec
from ..context import Message, Request
from .chat_messages import image_url
from .options import FunctionChoice
from .responses_options import OpenAIResponsesOptions

Item = dict[str, Any]
Reasoning = Mapping[str, Sequence[Item]]
"""The encrypted reasoning before a tool call, by the id of the call."""

_NOT_IN_BODY = ("extra_body", "tool_choice", "parallel_tool_calls", "reasoning_effort", "verbosity")


def responses_body(model: str, request: Request, options: OpenAIResponsesOptions) -> dict[str, Any]:
    """Return the body of a request for a stream, without its input."""
    settings = msgspec.to_builtins(options).items()
    body: dict[str, Any] = {"model": model, "stream": True}
    body |= {name: value for name, value in settings if value is not None and name not in _NOT_IN_BODY}
    if options.reasoning_effort is not None:
        body["reasoning"] = {"effort": options.reasoning_effort}
    if not options.store:
        body["include"] = ["reasoning.encrypted_content"]
    if options.verbosity is not None:
        body["text"] = {"verbosity": options.verbosity}
    if request.tools:
        body["tools"] = [responses_tool(tool) for tool in request.tools]
        if (choice := _responses_choice(request.tool_choice, options)) is not None:
            body["tool_choice"] = choice
        if options.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    if request.instructions:
        body["instructions"] = request.instructions
    return {**body, **options.extra_body}


def responses_tool(tool: ToolSpec) -> dict[str, Any]:
    """Return the specification of a tool."""
    described = {"description": tool.description} if tool.description else {}
    return {"type": "function", "name": tool.name, **described, "parameters": tool.parameters, "strict": False}


def _responses_choice(asked: str, options: OpenAIResponsesOptions) -> Any:
    """Return the choice of tools: that of the answer, else that of the options."""
    if asked in ("none", "required"):
        return asked
    choice = options.tool_choice
    name = asked or (choice.name if isinstance(choice, FunctionChoice) else "")
    return {"type": "function", "name": name} if name else choice


def input_items(messages: Sequence[Message], reasoning: Reasoning) -> list[Item]:
    """Return the conversation as items."""
    out: list[Item] = []
    for message in messages:
        if message.role == "tool":
            out.append({"type": "function_call_output", "call_id": message.call_id, "output": message.text})
        elif message.role == "user" and (message.image or message.url):
            parts: list[Item] = [{"type": "input_text", "text": message.text}] if message.text else []
            parts.append({"type": "input_image", "image_url": image_url(message), "detail": "auto"})
            out.append({"role": "user", "content": parts})
        elif message.text:
            out.append({"role": message.role, "content": message.text})
        for call in message.calls:
            out += reasoning.get(call.call_id, ())
            arguments = msgspec.json.encode(call.arguments).decode()
            out.append({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": arguments})
    return out or [{"role": "user", "content": "(silence)"}]


class Chain:
    """The answer that the provider keeps, and the conversation up to it.

    It stands for the beginning of a request only if this is the same, item by item. After an interruption it is not:
    the provider keeps what was said, and the log what was heard.
    """

    def __init__(self) -> None:
        self._id = ""
        self._items: list[Item] = []

    def rest(self, items: Sequence[Item]) -> tuple[str, Sequence[Item]]:
        """Return the id of the kept answer, and the items behind it. The id is "" if all items must be sent."""
        known = len(self._items)
        if not self._id or len(items) <= known:
            return "", items
        if any(not _says_same(one, kept) for one, kept in zip(items, self._items, strict=False)):
            return "", items
        return self._id, items[known:]

    def keep(self, response_id: str, items: Sequence[Item], answer: Sequence[Item]) -> None:
        """Note the answer to `items`, which the provider keeps."""
        self._id, self._items = response_id, [*items, *answer]

    def forget(self) -> None:
        """Send everything the next time."""
        self._id, self._items = "", []


def _says_same(one: Item, kept: Item) -> bool:
    """Return True if two items say the same. The spaces of a text do not count."""
    return one == kept or (
        one.get("role") == kept.get("role") == "assistant" and one["content"].split() == kept["content"].split()
    )
