"""The pattern language of the rule-based dialogue: its parser, its matcher, and patterns as phrases.

    what is the weather [like] in {city:paris|london|new york}

`[..]` is optional, `(a|b)` is a choice, `*` is any number of words or none. `{name}` takes one or more words,
`{name:a|b}` one of the given phrases, `{name:number}` a whole number in digits or words. Case and punctuation are
ignored, and common contractions equal their long forms ("what's", "what is").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import ConfigurationError
from ._numbers import MAX_NUMBER_WORDS, TEENS, TENS, UNITS, parse_number

_CONTRACTIONS = tuple(
    (re.compile(short, re.IGNORECASE), long)
    for short, long in (
        (r"\b(can't|cannot)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'m\b", " am"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
        (r"\b(what|it|that|where|who|how|when|there|here)'s\b", r"\1 is"),
    )
)
_WORD = re.compile(r"\w+(?:[.,:/@'&]\w+)*")
_PATTERN_TOKEN = re.compile(r"\{[^{}]*\}|[\[\]()|*{}]|[^\s\[\](){}|*]+")
_SLOT_NAME = re.compile(r"[A-Za-z]\w*")


def words_in(text: str) -> tuple[str, ...]:
    """Return the words of an utterance, without punctuation, with contractions in their long forms."""
    text = text.replace("’", "'")
    for short, long in _CONTRACTIONS:
        text = short.sub(long, text)
    return tuple(_WORD.findall(text))


@dataclass(frozen=True)
class Slot:
    """A named place in a pattern. With `values` it takes one of them, with `number` an int, else any words."""

    name: str
    values: tuple[str, ...] = ()
    number: bool = False

    @staticmethod
    def parse(written: str, source: str) -> Slot:
        """Return the slot of "name", "name:number" or "name:a|b". `source` names the place in errors."""
        name, colon, kind = (part.strip() for part in written.partition(":"))
        if not _SLOT_NAME.fullmatch(name):
            raise ConfigurationError(f"{source}: {name!r} is not a name for a slot")
        if not colon:
            return Slot(name)
        if kind == "number":
            return Slot(name, number=True)
        values = tuple(" ".join(value.split()) for value in kind.split("|"))
        if not all(words_in(value) for value in values):
            raise ConfigurationError(f"{source}: slot {name!r} has an empty choice")
        return Slot(name, values)

    @property
    def is_open(self) -> bool:
        """True for a slot that takes any words."""
        return not (self.values or self.number)

    def spans(self, words: Sequence[str], folded: Sequence[str], start: int) -> Iterator[tuple[int, object]]:
        """Yield the ends of the slot from `start` on, and its value with each, best first."""
        if self.number:
            for end in range(min(len(words), start + MAX_NUMBER_WORDS), start, -1):
                if (number := parse_number(folded[start:end])) is not None:
                    yield end, number
        elif self.values:
            for value in self.values:
                wanted = tuple(word.casefold() for word in words_in(value))
                if folded[start : start + len(wanted)] == wanted:
                    yield start + len(wanted), value
        else:
            for end in range(start + 1, len(words) + 1):
                yield end, " ".join(words[start:end])

    def phrase(self) -> str:
        """Return the slot's values as a phrase: numbers from 0 to 99, up to six digits; "" for an open slot."""
        if self.number:
            digit = f"({'|'.join(UNITS)})"
            digits = f"{digit} [{digit} [{digit} [{digit} [{digit} [{digit}]]]]]"
            return f"({digits}|{'|'.join(TEENS)}|({'|'.join(TENS)}) [({'|'.join(UNITS[1:])})])"
        return _either(" ".join(words_in(value)).casefold() for value in self.values)


@dataclass(frozen=True)
class _Literal:
    word: str
    written: str  # in a phrase: the whole contraction for its first word, "" for the others


@dataclass(frozen=True)
class _Wildcard:
    pass


@dataclass(frozen=True)
class _Choice:
    options: tuple[_PatternNodes, ...]
    optional: bool


@dataclass(frozen=True)
class _Branch:
    targets: list[int]


_PatternNode = _Literal | _Wildcard | Slot | _Choice
_PatternNodes = tuple[_PatternNode, ...]
_Step = _Literal | _Wildcard | Slot | _Branch
_Captured = tuple[tuple[str, object], ...]
_Match = tuple[int, _Captured]  # the number of the pattern's own words, and the slots


class Pattern:
    """A parsed pattern. Raises ConfigurationError that quotes the pattern and names the problem."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = _Parser(text).parse()
        self._program: list[_Step] = []
        self._compile((self._root,))
        # The words that are in every match, for a quick test.
        self._required = frozenset(
            step.word
            for step in (self._root.options[0] if len(self._root.options) == 1 else ())
            if isinstance(step, _Literal)
        )
        self.slots = {step.name: step for step in self._program if isinstance(step, Slot)}

    @property
    def is_specific(self) -> bool:
        """True if a word, a choice of phrases or a number limits the matches."""
        return any(
            isinstance(step, _Literal) or (isinstance(step, Slot) and not step.is_open) for step in self._program
        )

    def match(self, words: Sequence[str]) -> dict[str, object] | None:
        """Return the values of the slots if the pattern matches all the words, else None.

        Of several matches the one with most of the pattern's own words wins; then the first option before the next,
        presence before absence, and the fewest words for wildcards and open slots.
        """
        words = tuple(words)
        folded = tuple(word.casefold() for word in words)
        if not self._required.issubset(folded):
            return None
        known: dict[tuple[int, int], _Match | None] = {}

        def best(at: int, place: int) -> _Match | None:
            if at == len(self._program):
                return (0, ()) if place == len(words) else None
            if (at, place) not in known:
                found: _Match | None = None
                for next_at, next_place, own, captured in self._moves(at, place, words, folded):
                    rest = best(next_at, next_place)
                    if rest and (not found or own + rest[0] > found[0]):
                        found = own + rest[0], captured + rest[1]
                known[at, place] = found
            return known[at, place]

        found = best(0, 0)
        return dict(found[1]) if found else None

    def _moves(
        self, at: int, place: int, words: tuple[str, ...], folded: tuple[str, ...]
    ) -> Iterator[tuple[int, int, int, _Captured]]:
        """Yield the moves from a step and a place, best first: next step, next place, own words, slots."""
        step = self._program[at]
        if isinstance(step, _Branch):
            for target in step.targets:
                yield target, place, 0, ()
        elif isinstance(step, _Wildcard):
            yield at + 1, place, 0, ()
            if place < len(words):
                yield at, place + 1, 0, ()
        elif isinstance(step, Slot):
            for end, value in step.spans(words, folded, place):
                yield at + 1, end, 0 if step.is_open else end - place, ((step.name, value),)
        elif place < len(words) and folded[place] == step.word:
            yield at + 1, place + 1, 1, ()

    def phrase(self) -> str:
        """Return the words, `[..]` and `(..|..)`, without wildcards and open slots. May be empty."""
        return _written_phrase((self._root,))

    def _compile(self, nodes: _PatternNodes) -> None:
        for node in nodes:
            if not isinstance(node, _Choice):
                self._program.append(node)
                continue
            starts = _Branch([])
            self._program.append(starts)
            ends: list[_Branch] = []
            for option in node.options:
                starts.targets.append(len(self._program))
                self._compile(option)
                ends.append(_Branch([]))
                self._program.append(ends[-1])
            if node.optional:
                starts.targets.append(len(self._program))
            for end in ends:
                end.targets.append(len(self._program))


class _Parser:
    """Recursive descent over the tokens of a pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _PATTERN_TOKEN.findall(text)
        self._at = 0

    def parse(self) -> _Choice:
        return self._choice(closing="", optional=False)

    def _choice(self, closing: str, *, optional: bool) -> _Choice:
        options: list[_PatternNodes] = []
        nodes: list[_PatternNode] = []
        while True:
            token = self._tokens[self._at] if self._at < len(self._tokens) else ""
            self._at += 1
            if token in ("|", closing):
                if not nodes:
                    raise self._error("an option is empty" if options or token else "it is empty")
                options.append(tuple(nodes))
                nodes = []
                if token == closing:
                    return _Choice(tuple(options), optional)
            elif token in ("", ")", "]", "{", "}"):
                raise self._error(f"{closing!r} is missing" if not token else f"{token!r} closes nothing")
            elif token == "(":
                nodes.append(self._choice(")", optional=False))
            elif token == "[":
                nodes.append(self._choice("]", optional=True))
            elif token == "*":
                nodes.append(_Wildcard())
            elif token.startswith("{"):
                nodes.append(Slot.parse(token[1:-1], f"pattern {self._text!r}"))
            else:
                nodes.extend(_literals(token))

    def _error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"pattern {self._text!r}: {problem}")


def _literals(token: str) -> Iterator[_Literal]:
    words, written = words_in(token), _WORD.findall(token.replace("’", "'"))
    if len(words) != len(written):
        written = [" ".join(written), *[""] * (len(words) - 1)]
    for word, as_written in zip(words, written, strict=True):
        yield _Literal(word.casefold(), as_written.casefold())


def _written_phrase(nodes: _PatternNodes) -> str:
    parts = []
    for node in nodes:
        if isinstance(node, _Literal):
            parts.append(node.written)
        elif isinstance(node, Slot):
            parts.append(node.phrase())
        elif isinstance(node, _Choice):
            options = [_written_phrase(option) for option in node.options]
            optional = node.optional or not all(options)
            chosen = _either(filter(None, options))
            parts.append(f"[{chosen}]" if optional and chosen else chosen)
    return " ".join(filter(None, parts))


def _either(options: Iterator[str] | filter[str]) -> str:
    """Return the options, each once, in parentheses if there are several."""
    distinct = list(dict.fromkeys(options))
    return f"({'|'.join(distinct)})" if len(distinct) > 1 else "".join(distinct)
