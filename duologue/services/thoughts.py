"""`Thoughts`: takes a model's thoughts out of its text, which comes in pieces."""

from __future__ import annotations

import re

from ..frames.text import TextPieces

_NAMES = r"(?:seed:|ant)?think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|inner_monologue"
_TAG = re.compile(
    rf"<(?P<close>/?)\s*(?P<name>{_NAMES})(?:\s[^<>]*?)?(?P<empty>/?)>"
    r"|\[(?P<close_2>/?)(?P<name_2>think)\]"  # Magistral
    r"|◁(?P<close_3>/?)(?P<name_3>think)▷"  # Kimi
    r"|<\|(?P<edge>begin_of|end_of|start|end)_(?P<name_4>thought|thinking)\|>"  # OpenThinker, Command
    r"|<(?P<gemma>\|channel|channel\|)>"  # Gemma
    r"|<\|(?P<harmony>start|channel|constrain|message|end|return|call)\|>",  # gpt-oss
    re.IGNORECASE,
)
# The text from the last "<", "[" or "◁" on, if it may become a tag.
_BEGUN = re.compile(
    rf"(?:</?\s*(?:{_NAMES})?(?:\s[^<>]*)?/?|</?\s*[a-z_:]{{1,15}}|\[/?[a-z]{{0,5}}|◁/?[a-z]{{0,5}}|<\|?[a-z_]{{0,20}}\|?)\Z",
    re.IGNORECASE,
)
_STARTS = tuple(
    sign + name
    for name in (
        "think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "inner_monologue",
        "seed:think", "antthinking",
    )
    for sign in ("<", "</")
)  # fmt: skip
_MAX_BEGUN = 200
_THINKS_FIRST = re.compile(
    r"deepseek-?r1|\bqwq\b|qwen.*thinking|phi-4.*reasoning|glm-z1|exaone-deep|skywork-o|openthinker|deepscaler|r1-distill",
    re.IGNORECASE,
)


class ThoughtsGiven(Exception):
    """Text that has been given out turns out to be a thought: only the end of the thoughts is marked."""


class ModelText:
    """A model's text in pieces, made well-formed and without thoughts."""

    def __init__(self, *, thinks_first: bool = False) -> None:
        self._pieces = TextPieces()
        self._thoughts = Thoughts(first=thinks_first)

    def feed(self, piece: str) -> str:
        """Take the next piece. Returns the text that is certain. Raises ThoughtsGiven."""
        text = self._thoughts.feed(self._pieces.feed(piece))
        if self._thoughts.void:
            raise ThoughtsGiven
        return text

    def flush(self) -> str:
        """End the text. Returns the rest of it."""
        return self.feed(self._pieces.flush()) + self._thoughts.flush()


def begins_with_thoughts(model: str) -> bool:
    """Return True for a model that is known to write its thoughts first, and only the tag at their end.

    The chat templates of these models have the first tag, so the model does not write it.
    """
    return _THINKS_FIRST.search(model) is not None


class Thoughts:
    """Takes thoughts out of a text that comes in pieces, cut anywhere: `<think>`…`</think>`, and what vendors write.

    Thoughts may be nested, and need not end. A closing tag without an opening one makes all the text before it a
    thought. With `first` the text is held back until that tag, or the end, has come; without it, `void` is True once
    text has been returned that was a thought.
    """

    def __init__(self, *, first: bool = False) -> None:
        self.void = False
        """True once returned text has turned out to be a thought."""
        self._first = first
        self._begun = ""  # the beginning of what may be a tag
        self._held: list[str] = []
        self._open: list[str] = []  # the names of the open tags
        self._header: str | None = None  # the header of a gpt-oss message
        self._silent = False  # inside a gpt-oss message that is a thought
        self._seen = self._given = False  # a tag was opened; text was returned

    def feed(self, piece: str) -> str:
        """Take the next piece. Returns the text that is certainly no thought."""
        plain = "<" not in piece and "[" not in piece and "◁" not in piece
        if plain and not self._begun and not self._inside:
            return self._give(piece)
        text = self._begun + piece
        self._begun = ""
        said: list[str] = []
        place = 0
        for tag in _TAG.finditer(text):
            self._pass(text[place : tag.start()], said)
            place = tag.end()
            self._turn(tag, said)
        rest = text[place:]
        start = max(rest.rfind(sign) for sign in "<[◁")
        if start >= 0 and len(rest) - start <= _MAX_BEGUN and _may_be_tag(rest[start:]):
            rest, self._begun = rest[:start], rest[start:]
        self._pass(rest, said)
        return self._give("".join(said))

    def flush(self) -> str:
        """End the text. Returns the rest of it without thoughts."""
        rest, self._held = self._held, []
        self._pass(self._begun, rest)
        self._begun = ""
        return "".join(rest)

    @property
    def _inside(self) -> bool:
        return bool(self._open or self._silent or self._header is not None)

    def _give(self, text: str) -> str:
        if self._first and text:
            self._held.append(text)
            return ""
        self._given = self._given or bool(text.strip())
        return text

    def _pass(self, text: str, said: list[str]) -> None:
        if self._header is not None:
            self._header += text
        elif not self._inside:
            said.append(text)

    def _turn(self, tag: re.Match[str], said: list[str]) -> None:
        if harmony := tag["harmony"]:
            self._turn_harmony(harmony.lower())
            return
        name = (tag["name"] or tag["name_2"] or tag["name_3"] or tag["name_4"] or "channel").lower()
        closes = tag["close"] or tag["close_2"] or tag["close_3"] or (tag["edge"] or "").lower().startswith("end")
        if not closes and tag["gemma"] != "channel|":
            if not tag["empty"]:
                self._open.append(name)
                self._seen = True
                if self._first:  # it writes its tags itself
                    self._first = False
                    said[:0] = self._held
                    self._held.clear()
        elif name in self._open:
            while self._open.pop() != name:
                pass
        elif not self._open and not self._seen:
            # Only the end is marked: all text before it was a thought.
            self.void = self._given
            self._first = False
            self._seen = True
            self._held.clear()
            said.clear()

    def _turn_harmony(self, kind: str) -> None:
        if kind in ("start", "channel"):
            self._header, self._silent = "", False
        elif kind == "message":
            channel = (self._header or "").strip().lower()
            self._header, self._silent = None, channel.startswith(("analysis", "commentary"))
        elif kind != "constrain":
            self._header, self._silent = None, False


def _may_be_tag(begun: str) -> bool:
    if _BEGUN.match(begun) is None:
        return False
    plain = begun.lower()
    if plain[0] != "<" or plain.startswith("<|"):
        return True
    name = plain.replace("< ", "<").replace("</ ", "</")
    return "<channel|>".startswith(plain) or any(start.startswith(name) or name.startswith(start) for start in _STARTS)
