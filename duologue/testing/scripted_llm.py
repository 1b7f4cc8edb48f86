"""`ScriptedLLM`: a language model for tests that answers by rules of plain text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ..agents.agent import TOOL_NAME
from ..errors import ServiceError
from ..services.llm import Request, ToolRequest
from .mocks import MockLLM, MockReply

Step: TypeAlias = MockReply | tuple[MockReply, ...] | Callable[[Request], str]
"""One answer of the model: words, a call, a tuple of both, or a function of the request that returns words."""
ScriptedRules: TypeAlias = Mapping[str | re.Pattern[str], Step | Sequence[Step]]


def calls(tool: str, /, **arguments: Any) -> ToolRequest:
    """Return a model's request to call a tool with these arguments."""
    return ToolRequest(call_id="", name=tool, arguments=arguments)


def hands_off(target: str, reason: str = "The caller asks for it.", summary: str = "Nothing yet.") -> ToolRequest:
    """Return a model's request to hand the call over to another agent."""
    return calls(TOOL_NAME, target=target, reason=reason, summary=summary)


class ScriptedLLM(MockLLM):
    """Answers by the first rule whose text occurs in the caller's latest words, in any case of letters.

        llm = ScriptedLLM({
            "table for four": [calls("find_table", people=4), "There is one at eight."],
            "my bill": [hands_off("Billing"), "You owe 20 pounds."],
            "goodbye": "Goodbye!",
        })

    A rule's text may be a compiled pattern. Its steps are given one after the other: the first to the caller's words,
    the next ones to the results of the tools that it calls. An answer without a rule or a step is `otherwise`; without
    that it fails, and the error has the words and the rules. The same words have the same answer each time. `requests`
    are the requests that it has answered.
    """

    def __init__(self, rules: ScriptedRules, *, otherwise: Step | None = None, first_token_s: float = 0.05) -> None:
        super().__init__(self._reply, first_token_s=first_token_s, token_s=0.0)
        self._rules = dict(rules)
        self._otherwise = otherwise

    def _reply(self, request: Request) -> MockReply | Iterable[MockReply]:
        step = self._step(request)
        return step(request) if callable(step) else step

    def _step(self, request: Request) -> Step:
        messages = request.messages
        last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
        said = messages[last].text if last >= 0 else ""
        done = sum(bool(message.calls) for message in messages[last + 1 :])
        notes = [message.text for message in messages[last + 1 :] if message.role == "system"]
        for text in (said, *reversed(notes)):
            for rule, steps in self._rules.items():
                if _occurs(rule, text):
                    all_steps: Sequence[Step] = steps if isinstance(steps, list) else [steps]  # type: ignore[list-item]
                    if done < len(all_steps):
                        return all_steps[done]
                    if self._otherwise is None:
                        raise ServiceError(f"the rule {_shown(rule)} has no step {done + 1}, after the tools' results")
        if self._otherwise is None:
            there = ", ".join(map(_shown, self._rules)) or "none"
            raise ServiceError(f"no rule fits {said!r}; there are: {there}")
        return self._otherwise


def _occurs(rule: str | re.Pattern[str], text: str) -> bool:
    if isinstance(rule, re.Pattern):
        return rule.search(text) is not None
    return " ".join(rule.casefold().split()) in " ".join(text.casefold().split())


def _shown(rule: str | re.Pattern[str]) -> str:
    return repr(rule if isinstance(rule, str) else rule.pattern)
