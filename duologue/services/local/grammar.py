"""`Grammar`: the possible utterances for offline recognition, from JSGF or plain phrases, fully checked.

The decoder's own parser accepts undefined rules, left recursion and missing imports silently, and then recognises
nothing. Grammars are therefore parsed here, and passed on in a form that is always valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ...errors import BadInput, MissingExtra

MAX_CHARACTERS = 200_000
MAX_WORDS = 10_000
"""Words of a grammar, with each rule written out at every use."""
MAX_DEPTH = 32
"""Levels of nested brackets, and of rules in rules."""

_HEADER = re.compile(r"\ufeff?\s*#JSGF\s+V1\.0\b[^;\n]*;", re.IGNORECASE)
_JSGF_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<weight>/\s*\d+(?:\.\d*)?\s*/)
      | (?P<tag>\{[^{}]*\})
      | (?P<rule><[^<>\s]+>)
      | (?P<mark>[=|;()\[\]*+])
      | "(?P<quoted>[^"\n]+)"
      | (?P<word>[^\s=|;()\[\]*+<>{}"/]+)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]"}
_PUNCTUATION = ",?!:…"


@dataclass(frozen=True)
class Grammar:
    """The possible utterances. Immutable, compared by content, safe to share between threads and recognizers.

    `jsgf` is the checked grammar with one public rule; `pronunciations` are the phones of its words and of their
    variants ("the", "the(2)"). Limits: 200,000 characters, 10,000 words written out, 32 levels of brackets or rules.
    """

    jsgf: str
    pronunciations: Mapping[str, str] = field(compare=False, repr=False)

    @classmethod
    def from_jsgf(cls, text: str) -> Grammar:
        """Parse JSGF 1.0. All public rules are alternatives; case and tags are ignored.

        Raises BadInput that names the problem and its line: syntax, words that the dictionary lacks, rules that are
        undefined, defined twice or recursive (write `+` or `*`), imports, a missing public rule, an exceeded limit.
        Raises MissingExtra without pocketsphinx.
        """
        _check_size(text)
        header = _HEADER.match(text)
        if not header:
            raise BadInput("grammar, line 1: a grammar begins with '#JSGF V1.0;'")
        # Spaces in place of the header keep the numbers of the lines.
        return _Document(re.sub(r"\S", " ", header[0]) + text[header.end() :]).grammar()

    @classmethod
    def from_phrases(cls, phrases: Iterable[str]) -> Grammar:
        """Return the grammar of these phrases. In "I want [a|the] (billing|sales)" `[..]` is optional, `|` is either.

        Case and the punctuation of a sentence are ignored. Raises BadInput that names a phrase which is empty or all
        optional, or has unbalanced brackets or words that the dictionary lacks. Raises MissingExtra without
        pocketsphinx.
        """
        if isinstance(phrases, str):
            raise BadInput("phrases are a list of phrases, not one string")
        texts = list(dict.fromkeys(phrases))
        if not texts:
            raise BadInput("a grammar needs at least one phrase")
        _check_size("".join(texts))
        read = [_Phrase(text) for text in texts]
        if (count := sum(phrase.word_count for phrase in read)) > MAX_WORDS:
            raise BadInput(f"the phrases have {count} words, the limit is {MAX_WORDS}")
        words: dict[str, str] = {}
        for phrase in read:
            words.update((word, where) for word, where in phrase.words.items() if word not in words)
        return _grammar([phrase.text for phrase in read], {}, words)


class _Lexeme(NamedTuple):
    kind: str
    text: str
    line: int


class _RulePart(NamedTuple):
    """A part of a rule as checked JSGF. A `silent` part matches without a word; rules in it count as words."""

    text: str
    silent: bool


class _GrammarReader:
    """Parses the right side of rules, and notes the words and the rules in them."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._tokens = list(self._split(text))
        self._at = 0
        self._depth = 0
        self.words: dict[str, str] = {}
        self.word_count = 0
        self.rules: list[str] = []

    def where(self, line: int) -> str:
        """Return the place of an error, for its message."""
        return self._name

    def _split(self, text: str) -> Iterator[_Lexeme]:
        position, line = 0, 1
        while position < len(text):
            found = _JSGF_TOKEN.match(text, position)
            if not found:
                raise BadInput(f"{self.where(line)}: unexpected {text[position]!r}")
            kind = found.lastgroup or ""
            if kind == "quoted":
                yield from (_Lexeme("word", word, line) for word in found["quoted"].split())
            elif kind not in ("space", "tag"):
                yield _Lexeme(kind, found[0], line)
            line += found[0].count("\n")
            position = found.end()
        yield _Lexeme("end", "", line)

    @property
    def token(self) -> _Lexeme:
        return self._tokens[self._at]

    def take(self, text: str) -> bool:
        """Step over the next token if it is `text`. Returns True if it was."""
        if self.token.text != text:
            return False
        self._at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.unexpected(repr(text))

    def unexpected(self, wanted: str) -> BadInput:
        return self.error(f"expected {wanted}, found {repr(self.token.text) if self.token.text else 'the end'}")

    def error(self, problem: str) -> BadInput:
        return BadInput(f"{self.where(self.token.line)}: {problem}")

    def alternatives(self) -> _RulePart:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.error(f"brackets are nested deeper than {MAX_DEPTH}")
        parts, weighted = [], 0
        while True:
            weight = ""
            if self.token.kind == "weight":
                weight = self.token.text + " "
                weighted += 1
                self._at += 1
            text, silent = self._sequence()
            parts.append(_RulePart(weight + text, silent))
            if not self.take("|"):
                break
        if 0 < weighted < len(parts):
            raise self.error("either all alternatives have a weight or none has")
        self._depth -= 1
        return _RulePart(" | ".join(part.text for part in parts), any(part.silent for part in parts))

    def _sequence(self) -> _RulePart:
        parts = []
        while self.token.kind in ("word", "rule") or self.token.text in _CLOSING:
            text, silent = self._item()
            while self.token.text in ("*", "+"):
                text, silent = f"({text}){self.token.text}", silent or self.token.text == "*"
                self._at += 1
            parts.append(_RulePart(text, silent))
        if not parts:
            raise self.unexpected("a word")
        return _RulePart(" ".join(part.text for part in parts), all(part.silent for part in parts))

    def _item(self) -> _RulePart:
        token = self.token
        self._at += 1
        if token.kind == "word":
            word = token.text.lower()
            self.words.setdefault(word, self.where(token.line))
            self.word_count += 1
            return _RulePart(word, False)
        if token.kind == "rule":
            self.rules.append(token.text)
            return _RulePart(token.text, False)
        text, silent = self.alternatives()
        self.expect(_CLOSING[token.text])
        return _RulePart(f"{token.text}{text}{_CLOSING[token.text]}", silent or token.text == "[")


class _Phrase(_GrammarReader):
    """One phrase: words, brackets and bars only."""

    def __init__(self, text: str) -> None:
        super().__init__(text, f"phrase {text!r}")
        self.text, silent = self.alternatives()
        if self.token.kind != "end":
            raise self.unexpected("a word")
        if silent:
            raise self.error("all of it is optional: silence would match")

    def _split(self, text: str) -> Iterator[_Lexeme]:
        for token in super()._split(text):
            if token.kind in ("rule", "weight") or token.text in ("=", ";", "*", "+"):
                raise BadInput(f"{self.where(1)}: unexpected {token.text!r}")
            word = token.text.strip(_PUNCTUATION)
            # A full stop belongs to the words "a.m." and "p.m.", and ends all others.
            if word.count(".") == 1:
                word = word.rstrip(".")
            if word or token.kind == "end":
                yield token._replace(text=word)


class _GrammarRule(NamedTuple):
    text: str
    line: int
    rules: list[str]
    word_count: int


class _Document(_GrammarReader):
    """A whole grammar after its header."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "grammar")
        self._defined: dict[str, _GrammarRule] = {}
        self._public: list[str] = []
        self._sizes: dict[str, int] = {"<NULL>": 0}

    def where(self, line: int) -> str:
        return f"grammar, line {line}"

    def grammar(self) -> Grammar:
        self.expect("grammar")
        if self.token.kind != "word":
            raise self.unexpected("the grammar's name")
        self._at += 1
        self.expect(";")
        while self.token.kind != "end":
            self._rule()
        if not self._public:
            raise BadInput("grammar: it has no public rule")
        if not self.words:
            raise BadInput("grammar: it has no words")
        for name in self._defined:
            self._size(name, ())
        if (count := sum(self._sizes[name] for name in self._public)) > MAX_WORDS:
            raise BadInput(f"grammar: it has {count} words when its rules are written out, the limit is {MAX_WORDS}")
        return _grammar(self._public, {name: rule.text for name, rule in self._defined.items()}, self.words)

    def _rule(self) -> None:
        if self.token.text == "import":
            raise self.error("imports are not supported: write the rule into the grammar")
        public = self.take("public")
        name, line = self.token.text, self.token.line
        if self.token.kind != "rule":
            raise self.unexpected("a rule such as <greeting>")
        if name in self._defined:
            raise self.error(f"{name} is defined twice, first on line {self._defined[name].line}")
        self._at += 1
        self.expect("=")
        self.rules, self.word_count = [], 0
        text = self.alternatives().text
        self.expect(";")
        self._defined[name] = _GrammarRule(text, line, self.rules, self.word_count)
        if public:
            self._public.append(name)

    def _size(self, name: str, users: tuple[str, ...]) -> int:
        """Return the number of a rule's words with all rules in it written out."""
        if name not in self._sizes:
            line = self._defined[users[-1] if users else name].line
            if name not in self._defined:
                raise BadInput(f"{self.where(line)}: {name} is not defined")
            if name in users:
                raise BadInput(f"{self.where(line)}: {name} refers to itself; for repetition write * or +")
            if len(users) >= MAX_DEPTH:
                raise BadInput(f"{self.where(line)}: rules are nested deeper than {MAX_DEPTH}")
            rule = self._defined[name]
            self._sizes[name] = rule.word_count + sum(self._size(inner, (*users, name)) for inner in rule.rules)
        return self._sizes[name]


def _grammar(public: list[str], rules: Mapping[str, str], words: Mapping[str, str]) -> Grammar:
    """Return the grammar of the expansions `public`. `words` maps each word to its place in the source."""
    pronunciations = _pronunciations(frozenset(words))
    if unknown := [f"{word!r} ({where})" for word, where in words.items() if word not in pronunciations]:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise BadInput(f"no pronunciation is known for {', '.join(unknown[:10])}{more}")
    # Names without a dot: for the decoder's parser a dot follows the name of another grammar.
    names = {name: f"<r{number}>" for number, name in enumerate(rules)} | {"<NULL>": "<NULL>"}
    lines = ["#JSGF V1.0;", "grammar duologue;", f"public <main> = {' | '.join(f'({part})' for part in public)};"]
    lines += [f"{name} = {text};" for name, text in rules.items()]
    return Grammar(re.sub(r"<(?!main>)[^<>]+>", lambda name: names[name[0]], "\n".join(lines)), pronunciations)


@lru_cache(maxsize=64)
def _pronunciations(words: frozenset[str]) -> Mapping[str, str]:
    """Return the words' entries in the dictionary of the wheel (135,000 lines: 25 ms)."""
    wanted = {entry.encode() for word in words for entry in (word, *(f"{word}({number})" for number in range(2, 10)))}
    with model_path("en-us/cmudict-en-us.dict").open("rb") as dictionary:
        entries = (line.split(None, 1) for line in dictionary)
        found = {entry[0].decode(): entry[1].decode().strip() for entry in entries if entry and entry[0] in wanted}
    return MappingProxyType(found)


def model_path(name: str) -> Path:
    """Return a file of pocketsphinx's English model. Raises MissingExtra without pocketsphinx."""
    try:
        from pocketsphinx import get_model_path
    except ImportError as error:
        raise MissingExtra("offline speech recognition", "local", str(error)) from error
    return Path(get_model_path(name))


def _check_size(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"the grammar has {len(text)} characters, the limit is {MAX_CHARACTERS}")
