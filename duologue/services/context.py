"""The conversation as a language model takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..agents.tool import ToolSpec
from ..session.conversation import Conversation, Item
from ..session.ledger import Ledger

SAY = "Say exactly this, word for word, and nothing else: "
"""How a model that speaks by itself is asked to say a text of the application's."""


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A model asks for a tool."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a request. `calls` are the tools an assistant's message asked for, `call_id` what is answered."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolRequest, ...] = ()
    call_id: str = ""
    name: str = ""
    image: bytes = b""
    mime: str = ""
    url: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked: its instructions, the conversation so far, and the tools it may use."""

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)


def messages(conversation: Conversation, ledger: Ledger, *, open_calls: bool = True) -> tuple[Message, ...]:
    """The conversation as a language model takes it: what one side says in several items is one message.

    What an agent says counts as heard, except for a response that is still being said: that counts as it was
    generated, and is corrected if the caller cuts it. A tool call that has no result yet is answered "pending", for
    every call must have its result; without `open_calls` it is left out.
    """
    results = {item.call_id: item for item in conversation if item.kind == "tool_result"}
    out: list[Message] = []
    asked: list[Item] = []
    for item in conversation:
        if item.kind == "tool_call":
            if open_calls or item.call_id in results:
                asked.append(item)
            continue
        _add_calls(out, asked, results)
        if item.kind in ("handoff", "note") and item.text:
            out.append(Message(role="system", text=item.text))
        elif item.role == "agent":
            if text := item.text or ledger.text_of(item.id):
                _add(out, Message(role="assistant", text=text))
        elif item.role == "caller" and (item.text or item.name == "image"):  # else its transcript is still to come
            _add(out, _from_caller(item))
    _add_calls(out, asked, results)
    return tuple(out)


def _add(out: list[Message], message: Message) -> None:
    """Append a message, or join it to the one before if that is of the same role: models expect them to alternate."""
    last = out[-1] if out else None
    if last is None or last.role != message.role or (_has_image(last) and _has_image(message)):
        out.append(message)
        return
    source = message if _has_image(message) else last
    between = "\n" if message.role == "user" else " "
    text = between.join(part for part in (last.text.rstrip(), message.text) if part)
    out[-1] = msgspec.structs.replace(source, text=text)


def _has_image(message: Message) -> bool:
    return bool(message.image or message.url)


def _add_calls(out: list[Message], asked: list[Item], results: dict[str, Item]) -> None:
    """The calls of one response, with what was said before them, and then their results."""
    if not asked:
        return
    calls = tuple(ToolRequest(call_id=item.call_id, name=item.name, arguments=item.data) for item in asked)
    _add(out, Message(role="assistant"))
    out[-1] = msgspec.structs.replace(out[-1], calls=calls)
    for item in asked:
        result = results.get(item.call_id)
        text = result.text if result is not None else '{"status": "pending"}'
        out.append(Message(role="tool", text=text, call_id=item.call_id, name=item.name))
    asked.clear()


def _from_caller(item: Item) -> Message:
    if item.name == "image":
        return Message(role="user", mime=item.data["mime"], url=item.data["url"], image=item.data["image"])
    return Message(role="user", text=f"[{item.author}] {item.text}" if item.author else item.text)


def recent(told: Sequence[Message], limit: int) -> tuple[Message, ...]:
    """The last `limit` messages of caller and agent, with the results and notes that stand among them."""
    spoken = [place for place, message in enumerate(told) if message.role in ("user", "assistant")]
    return tuple(told[spoken[-limit] :]) if len(spoken) > limit else tuple(told)
