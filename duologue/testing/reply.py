"""`Reply`: the words and deeds of agents, with assertions that show the conversation when they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..agents.flow import TOOL_NAME
from ..services.llm import LLM
from ..session.item import Item
from ..session.session import Session
from .judge import verdict

JUDGE_S = 60.0
"""Seconds that a judge may take by default."""


@dataclass(frozen=True, slots=True)
class ReplyCall:
    """A tool that the agent has called."""

    name: str
    arguments: dict[str, Any]
    agent: str = ""
    result: Any = None
    """The result as the model has received it; None while there is none."""
    error: str = ""
    """The error that the model has received, "" for none."""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class ReplyHandoff:
    """A hand-off that has taken place."""

    source: str
    target: str
    reason: str = ""
    summary: str = ""


class Reply:
    """The answer of the agents to a line of the caller: their words and deeds until they owed nothing more.

    `said` is the caller's line as the log has it. `text` is what the agents have said, `lines` the same as pairs of an
    agent and its words, `agent` the name of the agent that has the call afterwards. `calls` are the tools called, in
    order, `tools` their names, `handoffs` the hand-offs, `handoff` the name of the agent that the last one went to, ""
    without one. `errors` are the messages of the errors raised meanwhile. `ended` is True if the call is over.
    """

    def __init__(self, session: Session, items: Iterable[Item], errors: Sequence[str], *, ended: bool = False) -> None:
        items = list(items)
        self.agent = session.agent.name if session.agent is not None else ""
        self.said = " ".join(item.text for item in items if _is_message(item, "caller"))
        self.lines = [(item.agent or self.agent, item.text) for item in items if _is_message(item, "agent")]
        self.text = " ".join(text.strip() for _, text in self.lines)
        self.calls = [call for call in _calls(items) if not (call.name == TOOL_NAME and not call.error)]
        self.handoffs = [ReplyHandoff(**_texts(item.data)) for item in items if _is_handoff(item)]
        self.errors = list(errors)
        self.ended = ended
        self.conversation = "\n".join(transcript(session.conversation))
        """The whole conversation up to now, one line for each thing said or done."""

    def __repr__(self) -> str:
        did = [f"called {call}" for call in self.calls] + [f"handed over to {each.target}" for each in self.handoffs]
        return f"<Reply {'; '.join([f'{self.agent}: {self.text!r}', *did])}>"

    @property
    def tools(self) -> list[str]:
        """The names of the tools called, in order."""
        return [call.name for call in self.calls]

    @property
    def handoff(self) -> str:
        """The name of the agent that the last hand-off went to, "" without one."""
        return self.handoffs[-1].target if self.handoffs else ""

    # -- assertions ------------------------------------------------------------------------------------------------

    def called(self, tool: str, /, **arguments: Any) -> ReplyCall:
        """Assert that a tool was called with these arguments, among others, and return the first call of this kind.

        An expected value is compared as JSON has it, so that a date equals its text. It may also be a compiled pattern,
        which is searched for, or a function that returns True for the values that fit.
        """
        __tracebackhide__ = True
        for call in self.calls:
            if call.name == tool and all(
                name in call.arguments and _fits(expected, call.arguments[name]) for name, expected in arguments.items()
            ):
                return call
        wanted = ReplyCall(tool, arguments)
        raise self._failed(f"{wanted} was not called; called were: {', '.join(map(str, self.calls)) or 'no tools'}")

    def did_not_call(self, *tools: str) -> None:
        """Assert that none of these tools was called; without names, that no tool was."""
        __tracebackhide__ = True
        found = [call for call in self.calls if not tools or call.name in tools]
        if found:
            raise self._failed(f"called were: {', '.join(map(str, found))}")

    def says(self, *parts: str) -> None:
        """Assert that each of these parts occurs in what the agents have said, in any case of letters."""
        __tracebackhide__ = True
        said = _plain(self.text)
        missing = [part for part in parts if _plain(part) not in said]
        if missing:
            raise self._failed(f"the agent does not say {', '.join(map(repr, missing))}: {self.text!r}")

    async def judge(self, criterion: str, *, llm: LLM, timeout_s: float = JUDGE_S) -> str:
        """Assert that a reply meets a criterion, for example "offers an alternative". Returns the model's reason.

        The model reads the conversation and answers yes or no with a reason, which a failure quotes. Raises
        ServiceError if it gives no verdict, DeadlineExceeded after `timeout_s` seconds.
        """
        __tracebackhide__ = True
        agrees, reason = await verdict(llm, criterion, self.conversation, self.text or "(nothing)", timeout_s)
        if not agrees:
            raise self._failed(f"{criterion!r}: no. {reason}\nThe reply: {self.text!r}")
        return reason

    def _failed(self, claim: str) -> AssertionError:
        told = f"\nErrors: {'; '.join(self.errors)}" if self.errors else ""
        return AssertionError(f"{claim}{told}\n\nThe conversation:\n{self.conversation}")


def transcript(items: Iterable[Item]) -> Iterator[str]:
    """Yield a line for each thing said or done in a conversation."""
    items = list(items)
    results = {item.call_id: item.text for item in items if item.kind == "tool_result"}
    for item in items:
        if item.kind == "tool_call" and item.name != TOOL_NAME:
            arguments = ", ".join(f"{name}={_brief(value)}" for name, value in (item.data or {}).items())
            result = results.get(item.call_id)
            yield f"  {item.name}({arguments})" + (f" -> {_cut(result)}" if result is not None else " …")
        elif item.kind == "tool_call" and '"accepted":false' in results.get(item.call_id, ""):
            yield f"  hand-off refused: {_cut(results[item.call_id])}"
        elif _is_handoff(item):
            yield f"  {item.data['source']} hands over to {item.data['target']}: {item.data['reason']}"
        elif item.kind == "message" and (item.text or item.status == "in_progress"):
            cut = " [cut off]" if item.status == "interrupted" else ""
            yield f"{item.agent or item.author or item.role}: {item.text}{cut}"
        elif item.kind == "note" and item.text:
            yield f"  note: {item.text}"


def _calls(items: Sequence[Item]) -> Iterator[ReplyCall]:
    results = {item.call_id: item.data for item in items if item.kind == "tool_result"}
    for item in items:
        if item.kind == "tool_call":
            result = results.get(item.call_id)
            yield ReplyCall(item.name, dict(item.data or {}), item.agent, result, _error_in(result))


def _error_in(result: Any) -> str:
    if not isinstance(result, dict):
        return ""
    if result.get("accepted") is False:
        return str(result.get("reason"))
    return str(result["error"]) if result.get("error") and len(result) == 1 else ""


def _is_message(item: Item, role: str) -> bool:
    return item.kind == "message" and item.role == role and bool(item.text)


def _is_handoff(item: Item) -> bool:
    return item.kind == "handoff" and item.data["source"] != item.data["target"]


def _texts(data: dict[str, Any]) -> dict[str, str]:
    return {name: data[name] for name in ("source", "target", "reason", "summary")}


def _fits(expected: Any, value: Any) -> bool:
    if isinstance(expected, re.Pattern):
        return isinstance(value, str) and expected.search(value) is not None
    if isinstance(expected, Callable) and not isinstance(expected, type):  # type: ignore[arg-type]
        return bool(expected(value))
    if expected == value:
        return True
    try:
        return bool(msgspec.to_builtins(expected) == value)
    except (TypeError, ValueError):
        return False


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _brief(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
