"""`Rules`: a rule-based dialogue, from the caller's words to the agent's words and tool calls, without a network.

    rules = Rules(
        [
            Rule("(hello|hi) [there]", "Hello! How can I help you?"),
            Rule(
                "* weather [in {city:paris|london|berlin}]",
                ask={"city": "In which city?"},
                call="get_weather",
                args={"city": "{city}"},
                then="It is {result[temperature]} degrees in {city}.",
            ),
        ],
        fallback="I did not catch that.",
    )
    rules.reply([Message(role="user", text="What's the weather?")], tools=["get_weather"]).text  # "In which city?"

Like a language model, it keeps no state between requests: each reply follows from the messages alone, through which the
dialogue runs again. Equal messages give equal replies, also after an interruption or a hand-off. Functions in rules
therefore run repeatedly, and must depend on their arguments only.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from ...errors import ConfigurationError, ToolError
from ..context import Message, ToolRequest
from ._calls import error_in, is_pending, last_calls, same_calls
from ._patterns import Slot, words_in
from ._rules import RESERVED, CompiledRule, Memory, Rule, ToolUse, Wording, check_placeholders, names_of, say
from ._templates import render_value

__all__ = ["Dialogue", "Memory", "Message", "Rule", "RuleBook", "Rules", "RulesReply", "ToolUse", "Wording"]

MAX_UTTERANCE_WORDS = 200
"""Words of an utterance that are matched. Later words are ignored."""
MAX_REPEATS = 2
"""Repetitions of a question after answers that were not understood."""

_CACHED_UTTERANCES = 1_024
_FALLBACK = -1
_HESITATIONS = frozenset({"um", "uh", "er", "erm", "hmm", "please"})
_LEAD_IN = re.compile(r"(my name is|i am|it is|this is|that is|in|at|on|to|for|from) (?=.)", re.IGNORECASE)
_IDENTITY_ROLE = re.compile(r"^--- Agent Identity ---\s*^Role:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class RulesReply:
    """The agent's words, its calls of tools, or both."""

    text: str
    calls: tuple[ToolRequest, ...] = ()


class Dialogue(Protocol):
    """The interface of `Rules` and `RuleBook`."""

    def reply(self, messages: Sequence[Message], tools: Collection[str]) -> RulesReply:
        """Return the agent's next move. `tools` are the names of the tools that it may call."""

    def expected_phrases(self) -> list[str]:
        """Return the caller's possible phrases, for a speech recogniser."""

    def stream(self, text: str) -> Iterator[str]:
        """Yield a text word by word, with its spaces."""


class Rules:
    """The rules of one agent. The first rule that fits is used. If none does, the agent says `fallback`.

    The agent says `greeting` before the caller's first words, and after a hand-off if no rule fits their last words;
    `unavailable` if a rule calls a `{tool}` that it does not have; `failed` if a `{tool}` returned an `{error}` (or was
    not `accepted`) and `then` is not a function; `waiting` if it must speak while a tool runs, whose result is
    `{"status": "pending"}`. `memory` has facts that are known from the start; a value of None declares a name, for
    example one that another agent of the same `RuleBook` fills.

    Raises ConfigurationError for malformed patterns and templates, and for names that are never known.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        fallback: Wording = "Sorry, I did not catch that.",
        greeting: Wording = "How can I help you?",
        memory: Mapping[str, Any] | None = None,
        unavailable: Wording = "I am afraid I cannot do that here.",
        failed: Wording = "Sorry, that did not work: {error}.",
        waiting: Wording = "One moment, please.",
    ) -> None:
        self._memory = dict(memory or {})
        self._fallback, self._greeting, self._waiting = fallback, greeting, waiting
        self._unavailable, self._failed = unavailable, failed
        self._rules = [CompiledRule(number, rule) for number, rule in enumerate(rules)]
        kinds: dict[str, Slot] = {}
        for rule in reversed(self._rules):
            kinds |= rule.slots
        for rule in self._rules:
            rule.asked = {name: slot or kinds.get(name, Slot(name)) for name, slot in rule.declared.items()}
        known = set(self._memory).union(*(rule.provides() for rule in self._rules))
        if taken := sorted(known & RESERVED):
            raise ConfigurationError(f"{', '.join(taken)}: this name has a meaning of its own, choose another")
        for rule in self._rules:
            rule.check(known)
        given = {name for name, value in self._memory.items() if value is not None}
        check_placeholders("fallback", names_of("fallback", fallback), given | {"utterance"})
        check_placeholders("greeting", names_of("greeting", greeting), given)
        check_placeholders("waiting", names_of("waiting", waiting), given | {"utterance"})
        check_placeholders("unavailable", names_of("unavailable", unavailable), given | {"utterance", "tool"})
        check_placeholders("failed", names_of("failed", failed), given | {"utterance", "tool", "error"})
        self._matching = functools.lru_cache(_CACHED_UTTERANCES)(self._match)

    def reply(self, messages: Sequence[Message], tools: Collection[str]) -> RulesReply:
        """Return the agent's next move: an answer to the caller's last words, or to the results of the last calls.

        Only tools in `tools` are called. Raises BadInput if some of several results are missing, and ToolError if a
        result lacks a field that `then` uses.
        """
        return self._reply(messages, tools, {})

    def expected_phrases(self) -> list[str]:
        """Return the caller's possible phrases with `[..]` and `(..|..)`, each once.

        Wildcards and open slots are left out; answers to questions are phrases of their own.
        """
        phrases = [pattern.phrase() for rule in self._rules for pattern in rule.patterns]
        answers = [slot.phrase() for rule in self._rules for slot in rule.asked.values()]
        return list(dict.fromkeys(filter(None, phrases + answers)))

    def stream(self, text: str) -> Iterator[str]:
        """Yield a text word by word, each with the spaces that follow it."""
        return _stream(text)

    def learned(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Return the facts that the messages have added to the memory."""
        memory = self._replay(messages, {}).memory
        return {
            name: value for name, value in memory.items() if name != "utterance" and value != self._memory.get(name)
        }

    def _reply(self, messages: Sequence[Message], tools: Collection[str], known: Memory) -> RulesReply:
        state = self._replay(messages, known)
        spoken = [message for message in messages if message.role != "system"]
        calls, results, said_since = last_calls(spoken)
        mine = state.calling if state.calling and same_calls(state.calling.calls, calls) else None
        if spoken and spoken[-1].role == "tool" and not mine:
            # Another agent's calls: this one takes over. To make the same call again would send the caller in circles.
            made = {call.name for call in calls}
            if not state.last or not state.last.rule or any(use.name in made for use in state.last.calls):
                return RulesReply(say(self._greeting, self._memory, 0))
        elif spoken and spoken[-1].role != "user" and mine:
            # The results are new, or came while the agent spoke.
            conclusion = self._conclusion(mine, calls, results)
            if not any(_begins_alike(text, conclusion) for text in said_since):
                return RulesReply(conclusion)
        if not state.last:
            return RulesReply(say(self._greeting, self._memory, 0))
        return self._answer(state.last, tools, sum(len(message.calls) for message in spoken))

    def _answer(self, decision: _Move, tools: Collection[str], calls_so_far: int) -> RulesReply:
        memory = decision.memory
        if not decision.rule:
            return RulesReply(say(self._fallback, memory, decision.count))
        if decision.asks:
            return RulesReply(decision.question)
        for use in decision.calls:
            if use.name not in tools:
                return RulesReply(say(self._unavailable, {**memory, "tool": use.name}, decision.count))
        origin = zlib.crc32(memory["utterance"].encode("utf-8", "replace"))
        calls = (
            ToolRequest(call_id=f"call_{number}_{origin:08x}", name=use.name, arguments=dict(use.args))
            for number, use in enumerate(decision.calls, calls_so_far + 1)
        )
        return RulesReply(say(decision.rule.rule.reply, memory, decision.count), tuple(calls))

    def _conclusion(self, decision: _Move, calls: Sequence[ToolRequest], results: Sequence[Any]) -> str:
        assert decision.rule
        then = decision.rule.rule.then
        if any(is_pending(result) for result in results):
            return say(self._waiting, decision.memory, decision.count)
        result = results[0] if len(results) == 1 else list(results)
        if callable(then):
            return then(result, MappingProxyType(decision.memory))
        for call, each in zip(calls, results, strict=True):
            if (error := error_in(each)) is not None:
                return say(self._failed, {**decision.memory, "tool": call.name, "error": error}, decision.count)
        try:
            return say(then, {**decision.memory, "result": result}, decision.count)
        except (LookupError, TypeError, ValueError) as problem:
            tools = ", ".join(call.name for call in calls)
            raise ToolError(
                f"{decision.rule.source}: the result of {tools} does not fit {then!r}: {problem}"
            ) from problem

    def _replay(self, messages: Sequence[Message], known: Memory) -> _DialogueState:
        state = _DialogueState({**self._memory, **known})
        for message in messages:
            if message.role == "user" and message.text.strip():
                state.last = self._decide(state, message.text)
            elif message.role == "assistant":
                if message.calls:
                    state.calling = state.last
                # The question was not asked if the agent said something else instead.
                if state.pending and not _begins_alike(message.text, state.pending.question):
                    state.pending = None
        return state

    def _decide(self, state: _DialogueState, utterance: str) -> _Move:
        asked, state.pending = state.pending, None
        state.memory["utterance"] = utterance.strip()
        words = words_in(utterance)[:MAX_UTTERANCE_WORDS]
        for rule, captured, answering in self._candidates(asked, words):
            if decision := self._use(state, rule, captured, answering):
                return decision
        if asked and asked.rule and asked.repeats < MAX_REPEATS:
            return self._ask(state, asked.rule, asked.asks, asked.repeats + 1)
        state.counts[_FALLBACK] += 1
        return _Move(None, dict(state.memory), state.counts[_FALLBACK] - 1)

    def _candidates(self, asked: _Move | None, words: tuple[str, ...]) -> Iterator[_Candidate]:
        """Yield the possible meanings, the most certain first: an answer to the question before other matches."""
        rules = self._matching(words)
        if asked and asked.rule:
            slot = asked.rule.asked[asked.asks]
            whole = _whole_answer(slot, words)
            if whole is not None and not slot.is_open:
                yield asked.rule, {slot.name: whole}, True
            yield from ((rule, captured, False) for rule, captured in rules if rule.is_specific)
            answer = whole if slot.is_open else _part_answer(slot, words)
            if answer is not None:
                yield asked.rule, {slot.name: answer}, True
        yield from ((rule, captured, False) for rule, captured in rules)

    def _match(self, words: tuple[str, ...]) -> tuple[tuple[CompiledRule, dict[str, Any]], ...]:
        clear = _without_hesitations(words)
        found = []
        for rule in self._rules:
            matches = (pattern.match(said) for said in dict.fromkeys((clear, words)) for pattern in rule.patterns)
            captured = next((match for match in matches if match is not None), None)
            if captured is not None:
                found.append((rule, captured))
        return tuple(found)

    def _use(self, state: _DialogueState, rule: CompiledRule, captured: Memory, answering: bool) -> _Move | None:
        captured = {**self._mentioned(state, rule, captured), **captured}
        memory = {**state.memory, **captured}
        if not answering and rule.rule.when and not rule.rule.when(MappingProxyType(memory)):
            return None
        missing = [name for name in rule.needs if memory.get(name) is None]
        if any(name not in rule.asked for name in missing):
            return None
        state.memory = memory
        if missing:
            return self._ask(state, rule, missing[0], 0)
        memory |= rule.rule.remember
        state.counts[rule.number] += 1
        calls = tuple(ToolUse(use.name, render_value(use.args, memory)) for use in rule.calls)
        return _Move(rule, dict(memory), state.counts[rule.number] - 1, calls)

    def _mentioned(self, state: _DialogueState, rule: CompiledRule, captured: Memory) -> dict[str, Any]:
        """Return the slots with questions that the utterance fills already, with their values."""
        words = words_in(state.memory["utterance"])[:MAX_UTTERANCE_WORDS]
        found = {name: _part_answer(slot, words) for name, slot in rule.asked.items() if slot.values}
        taken = captured.values()
        return {name: value for name, value in found.items() if value is not None and value not in taken}

    def _ask(self, state: _DialogueState, rule: CompiledRule, name: str, repeats: int) -> _Move:
        question = say(rule.questions[name], state.memory, repeats)
        state.pending = _Move(rule, dict(state.memory), 0, asks=name, question=question, repeats=repeats)
        return state.pending


class RuleBook:
    """The rules of several agents, chosen by the `Role:` line of the identity block in the system message.

    Case is ignored in roles. `default` (by default the first agent's rules) is used without that line, and for other
    roles. Facts that the caller told one agent are known to all.
    """

    def __init__(self, agents: Mapping[str, Rules], default: Rules | None = None) -> None:
        if not agents:
            raise ConfigurationError("a rule book needs the rules of at least one agent")
        self._agents = {role.strip().casefold(): rules for role, rules in agents.items()}
        self._default = default or next(iter(agents.values()))

    def rules_for(self, messages: Sequence[Message]) -> Rules:
        """Return the rules of the active agent."""
        roles = [
            role for message in messages if message.role == "system" for role in _IDENTITY_ROLE.findall(message.text)
        ]
        return self._agents.get(roles[-1].casefold(), self._default) if roles else self._default

    def reply(self, messages: Sequence[Message], tools: Collection[str]) -> RulesReply:
        """Return the active agent's next move, as `Rules.reply`."""
        active = self.rules_for(messages)
        known: dict[str, Any] = {}
        for rules in self._agents.values():
            if rules is not active:
                known |= rules.learned(messages)
        return active._reply(messages, tools, known)

    def expected_phrases(self) -> list[str]:
        """Return the caller's possible phrases with any of the agents, as `Rules.expected_phrases`."""
        everyone = [*self._agents.values(), self._default]
        return list(dict.fromkeys(phrase for rules in everyone for phrase in rules.expected_phrases()))

    def stream(self, text: str) -> Iterator[str]:
        """Yield a text word by word, each with the spaces that follow it."""
        return _stream(text)


_Candidate = tuple[CompiledRule, dict[str, Any], bool]
"""A rule, the slots that it fills, and True if they answer a question."""


@dataclass(frozen=True)
class _Move:
    """The consequence of an utterance: the use of a rule, or a question; without a rule it was not understood."""

    rule: CompiledRule | None
    memory: dict[str, Any]
    count: int  # earlier uses of the rule
    calls: tuple[ToolUse, ...] = ()
    asks: str = ""
    question: str = ""
    repeats: int = 0


@dataclass
class _DialogueState:
    """The state of the conversation after some messages."""

    memory: dict[str, Any]
    counts: Counter[int] = field(default_factory=Counter)
    last: _Move | None = None  # the move after the caller's last words
    calling: _Move | None = None  # the move that made the last tool calls
    pending: _Move | None = None  # the move whose question has no answer yet


def _stream(text: str) -> Iterator[str]:
    yield from re.findall(r"\s*\S+\s*", text)


def _without_hesitations(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word.casefold() not in _HESITATIONS)


def _whole_answer(slot: Slot, words: tuple[str, ...]) -> object | None:
    """Return the value if the words are only an answer: "in London please"."""
    clear = " ".join(_without_hesitations(words))
    said = tuple(_LEAD_IN.sub("", clear, count=1).split() if _LEAD_IN.match(clear) else clear.split())
    folded = tuple(word.casefold() for word in said)
    return next((value for end, value in slot.spans(said, folded, 0) if end == len(said)), None)


def _part_answer(slot: Slot, words: tuple[str, ...]) -> object | None:
    """Return the first value among the words: "we would be four, I think"."""
    folded = tuple(word.casefold() for word in words)
    return next((value for start in range(len(words)) for _, value in slot.spans(words, folded, start)), None)


def _begins_alike(heard: str, said: str) -> bool:
    """Return True if one of the two texts begins with the other."""
    heard, said = ("".join(filter(str.isalnum, text)).casefold() for text in (heard, said))
    return heard.startswith(said) or said.startswith(heard)
