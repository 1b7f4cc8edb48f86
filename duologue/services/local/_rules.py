"""`Rule`: a rule of the dialogue, and its checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ...errors import ConfigurationError
from ._patterns import Pattern, Slot
from ._templates import names_in, render

Memory = Mapping[str, Any]
"""The known facts of the conversation: slots by name, and `utterance`, the caller's last words. Read only."""
Wording = str | Sequence[str] | Callable[[Memory], str]
"""A template ("Hello {name}"), several to alternate, or a function of the memory."""
RESERVED = frozenset({"utterance", "result", "error", "tool"})


@dataclass(frozen=True)
class ToolUse:
    """A tool to call and its arguments. Strings in them are templates; "{count}" alone keeps the value's type."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """The agent's answer to utterances that match `pattern` (one or several, see `_patterns`).

    The agent says `reply`. `call` is a tool to call with `args`, or several `ToolUse` to call at once. After the
    results the agent says `then`: a template in which `{result}` is the result (a list for several calls), several
    templates to alternate, or a function of the result and the memory, which also receives failures.

    `ask` has a question for each slot that the rule requires, by name ("city", with its kind from the patterns) or in
    full ("guests:number"). The agent asks it if the slot is not known, and the caller's next words may answer it. A
    slot with a list of values ("size:small|large") is also found anywhere in the utterance.

    A rule is skipped if it uses a slot that is neither known nor asked for, or if `when`, a function of the memory,
    returns False. `remember` is added to the memory after the rule was used.
    """

    pattern: str | Sequence[str]
    reply: Wording = ""
    call: str | Sequence[ToolUse] = ()
    args: Mapping[str, Any] = field(default_factory=dict)
    then: str | Sequence[str] | Callable[[Any, Memory], str] = ""
    ask: Mapping[str, Wording] = field(default_factory=dict)
    when: Callable[[Memory], bool] | None = None
    remember: Mapping[str, Any] = field(default_factory=dict)


class CompiledRule:
    """A rule with its patterns parsed."""

    def __init__(self, number: int, rule: Rule) -> None:
        self.number = number
        self.rule = rule
        patterns = [rule.pattern] if isinstance(rule.pattern, str) else list(rule.pattern)
        self.source = f"rule {patterns[0]!r}" if patterns else f"rule {number + 1}"
        if not patterns:
            raise ConfigurationError(f"{self.source} has no pattern")
        self.patterns = [Pattern(pattern) for pattern in patterns]
        self.is_specific = all(pattern.is_specific for pattern in self.patterns)
        self.slots = {name: slot for pattern in self.patterns for name, slot in pattern.slots.items()}
        self.calls = (ToolUse(rule.call, rule.args),) if isinstance(rule.call, str) else tuple(rule.call)
        self._check_call()
        # The slots with a question: the kind of each, if the rule gives it, and the question.
        self.declared: dict[str, Slot | None] = {}
        self.questions: dict[str, Wording] = {}
        for written, question in rule.ask.items():
            slot = Slot.parse(written, f"{self.source}, ask")
            self.declared[slot.name] = slot if ":" in written else self.slots.get(slot.name)
            self.questions[slot.name] = question
        self.asked: dict[str, Slot] = {}
        self.needs = tuple(name for name in self._used() if name not in RESERVED)

    def provides(self) -> set[str]:
        """Return the names that this rule may put into the memory."""
        return {*self.slots, *self.declared, *self.rule.remember}

    def check(self, known: set[str]) -> None:
        """Raise ConfigurationError for a template with a name that is never known."""
        rule = self.rule
        reply = f"{self.source}, reply"
        check_placeholders(reply, names_of(reply, rule.reply), known | {"utterance"})
        for use in self.calls:
            source = f"{self.source}, args of {use.name}"
            check_placeholders(source, names_in(use.args, source), known | {"utterance"})
        for name, question in self.questions.items():
            source = f"{self.source}, ask {name}"
            check_placeholders(source, names_of(source, question), (known | {"utterance"}) - {name})
        source = f"{self.source}, then"
        check_placeholders(source, names_of(source, rule.then), known | {"utterance", "result"})

    def _check_call(self) -> None:
        rule = self.rule
        if not all(isinstance(use, ToolUse) and use.name for use in self.calls):
            raise ConfigurationError(f"{self.source}: call is the name of a tool or several ToolUse, not {rule.call!r}")
        if not isinstance(rule.call, str) and rule.args:
            raise ConfigurationError(f"{self.source}: args belong to a single call; several ToolUse have their own")
        if rule.then and not self.calls:
            raise ConfigurationError(f"{self.source}: `then` without a call")
        if not rule.reply and not self.calls:
            raise ConfigurationError(f"{self.source}: it has neither a reply nor a call")

    def _used(self) -> Iterable[str]:
        used: list[str] = []
        for name, question in self.questions.items():
            used += [*names_of(self.source, question), name]
        used += names_of(self.source, self.rule.reply)
        for use in self.calls:
            used += names_in(use.args, self.source)
        used += names_of(self.source, self.rule.then)
        return dict.fromkeys(used)


def say(text: Wording, values: Memory, count: int) -> str:
    """Return a text for these values. `count` chooses among templates that alternate."""
    if callable(text):
        return text(MappingProxyType(dict(values)))
    return render(text if isinstance(text, str) else text[count % len(text)], values)


def names_of(source: str, text: object) -> list[str]:
    """Return the names that a text's templates use.

    Raises ConfigurationError, beginning with `source`, for anything that is not a text.
    """
    if callable(text):
        return []
    if not isinstance(text, str) and not (isinstance(text, Sequence) and all(isinstance(each, str) for each in text)):
        raise ConfigurationError(f"{source}: {text!r} is neither a template, nor several, nor a function")
    return names_in(text, source)


def check_placeholders(source: str, names: Iterable[str], known: set[str]) -> None:
    """Raise ConfigurationError, beginning with `source`, for a name that is not known."""
    for name in names:
        if name not in known:
            near = f"; there are {', '.join(sorted(known))}" if known else ""
            raise ConfigurationError(f"{source}: nothing fills {{{name}}}{near}")
