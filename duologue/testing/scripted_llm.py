"""`ScriptedLLM`: a language model for tests that answers by rules of plain text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ..agents.flow import TOOL_NAME
from ..errors import ConfigurationError, ServiceError
from ..services.llm import Request, ToolRequest
from .mocks import MockLLM, MockReply

ScriptedStep: TypeAlias = MockReply | tuple[MockReply, ...] | Callable[[Request], str]
"""One answer of the model: words, a call, a tuple of both, or a function of the request that returns words."""
ScriptedRules: TypeAlias = Mapping[str | re.Pattern[str], ScriptedStep | Sequence[ScriptedStep]]


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
    the following to the results of the tools that it calls. An answer without a rule or a step is `otherwise`; without
    that it fails, and the error has the words and the rules. The same words have the same answer each time. A result
    that comes late has the next step of its rule, else that of a rule for the note by which the model learns of it.
    `requests` are the requests that it has answered.
    """

    def __init__(
        self, rules: ScriptedRules, *, otherwise: ScriptedStep | None = None, first_token_s: float = 0.05
    ) -> None:
        super().__init__(self._reply, first_token_s=first_token_s, token_s=0.0)
        self._rules = dict(rules)
        for rule, given in self._rules.items():
            _check(rule, _steps(given))
        self._otherwise = otherwise

    def _reply(self, request: Request) -> MockReply | Iterable[MockReply]:
        step = self._step(request)
        return step(request) if callable(step) else step

    def _step(self, request: Request) -> ScriptedStep:
        said, done, note = _asked(request)
        exhausted = next((rule for rule in self._rules if _occurs(rule, said)), None)
        if exhausted is not None and done < len(steps := _steps(self._rules[exhausted])):
            return steps[done]
        for rule, given in self._rules.items():
            if note and rule != exhausted and _occurs(rule, note):
                return _steps(given)[0]
        if self._otherwise is not None:
            return self._otherwise
        there = ", ".join(map(_shown, self._rules)) or "none"
        if exhausted is not None:
            raise ServiceError(f"the rule {_shown(exhausted)} has no step {done + 1}, after the tools' results")
        raise ServiceError(f"no rule fits {said!r}; there are: {there}")


def _asked(request: Request) -> tuple[str, int, str]:
    """Return the caller's latest words, the number of answers to them up to now, and the note at the end, if any.

    An answer with calls is followed by their results. A note, such as a late result, follows a finished answer.
    """
    messages = request.messages
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    since = messages[last + 1 :]
    done = sum(bool(message.calls) for message in since)
    note = since[-1].text if since and since[-1].role == "system" else ""
    if note:
        done += sum(message.role == "assistant" and not message.calls for message in since)
    if last < 0:  # a model that knows the call from its hand-off on
        return next((message.text for message in messages if message.role == "system"), ""), done, note
    return messages[last].text, done, note


def _check(rule: object, steps: Sequence[object]) -> None:
    if not isinstance(rule, str | re.Pattern):
        raise ConfigurationError(f"{rule!r} is not the text of a rule, or a compiled pattern")
    for step in steps:
        parts = step if isinstance(step, tuple) else (step,)
        if not callable(step) and not all(isinstance(part, str | ToolRequest) for part in parts):
            raise ConfigurationError(
                f"rule {_shown(rule)}: {step!r} is not a text, a call, a tuple of them or a function"
            )
    if not steps:
        raise ConfigurationError(f"rule {_shown(rule)} has no steps")


def _steps(given: ScriptedStep | Sequence[ScriptedStep]) -> Sequence[ScriptedStep]:
    return given if isinstance(given, list) else [given]  # type: ignore[list-item]


def _occurs(rule: str | re.Pattern[str], text: str) -> bool:
    if isinstance(rule, re.Pattern):
        return rule.search(text) is not None
    return " ".join(rule.casefold().split()) in " ".join(text.casefold().split())


def _shown(rule: str | re.Pattern[str]) -> str:
    return repr(rule if isinstance(rule, str) else rule.pattern)
