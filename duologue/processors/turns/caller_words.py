"""`CallerWords`: the caller's words in a turn, and what they mean to an agent that has the floor."""

from __future__ import annotations

import re

from ...agents.agent import Agent
from ...frames import UserTranscript
from .lexicon import Lexicon, guess, lexicon, words

LONGEST = 6
"""The number of words of the longest phrase that is looked for."""


_HUM = re.compile(r"(?=..)[hj]*m[hmj]*|[uea]+h+[uea]*h*")
"""Spellings of sounds that are not words in any language: "mmhm", "mjm", "uhh"."""
_LONG = re.compile(r"(\w)\1{2,}|(\w)\2$")
"""A lengthened letter."""
SLIGHT_WORDS = 2
"""Words up to which a text that is not a known phrase may still be a backchannel: "how lovely"."""


def count_words(text: str) -> int:
    """Return the number of words in a text. In scripts without spaces two characters count as a word."""
    count = 0
    for token in text.split():
        if token.isascii():
            count += token.isalnum() or any(map(str.isalnum, token))
            continue
        unspaced = sum("\u3040" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0eff" for character in token)
        count += (unspaced + 1) // 2 or any(map(str.isalnum, token))
    return count


class CallerWords:
    """The words of the caller's turn until now. Interim texts replace each other until the final one.

    Backchannels and fillers of the language do not count as words. In a language without a lexicon all words count.
    """

    def __init__(self) -> None:
        self._language = ""  # of the latest transcript that names it
        self._lexicon: Lexicon | None = None  # the latest guess
        self.clear()

    def clear(self) -> None:
        """Forget the words: a new turn."""
        self.utterances: dict[str, None] = {}
        """The ids of the utterances with final texts."""
        self._final, self._interim = 0, 0  # words that count
        self._any_final = self._any_interim = False
        self.unclear = False
        """True if the latest text may be the beginning of a backchannel."""
        self.slight = False
        """True if the turn has at most two words that count, and none that asks, answers or is a number."""
        self._rest: list[str] = []  # words that count in the final texts
        self.stops = False
        """True once a text began with words that always interrupt, for example "wait"."""

    def take(self, frame: UserTranscript, language: str, agent: Agent | None = None) -> None:
        """Take a text of this turn. `language` is the caller's, or "" if it is not known: then the agent's counts."""
        tokens = words(frame.text)
        self._language = language or frame.language or self._language
        known = self._lexicon_of(tokens, self._language or (agent.language if agent is not None else ""))
        if known is not None:
            tokens = [_shortened(token, known) for token in tokens]
        rest, stops = (tokens, False) if known is None else _weigh(tokens, known)
        # The last words of an interim text may be the beginning of a backchannel: the "I" of "I see".
        self.unclear = not frame.final and known is not None and _begins(rest, known)
        count = 0 if self.unclear else count_words(" ".join(rest))
        self.stops = self.stops or stops
        so_far = [*self._rest, *rest]
        self.slight = known is not None and len(so_far) <= SLIGHT_WORDS and not _tells(so_far, known)
        self._interim, self._any_interim = (0, False) if frame.final else (count, bool(tokens))
        if frame.final:
            self._final += count
            self._rest = so_far[: SLIGHT_WORDS + 1]
            self._any_final = self._any_final or bool(tokens)
            if frame.utterance:
                self.utterances[frame.utterance] = None

    def _lexicon_of(self, tokens: list[str], language: str) -> Lexicon | None:
        if language:
            return lexicon(language)
        self._lexicon = guess(tokens, self._lexicon) or self._lexicon
        return self._lexicon

    @property
    def count(self) -> int:
        """The number of words, without backchannels and fillers."""
        return self._final + self._interim

    @property
    def is_backchannel(self) -> bool:
        """True if something was recognised, and all of it is backchannels and fillers."""
        return self.anything and not (self.count or self.unclear)

    @property
    def anything(self) -> bool:
        """True if anything was recognised, backchannels included."""
        return self._any_final or self._any_interim

    @property
    def is_final(self) -> bool:
        """True if there are words, and none that may still change."""
        return self._any_final and not self._any_interim


def _weigh(tokens: list[str], known: Lexicon) -> tuple[list[str], bool]:
    """Return the words that are neither backchannels nor fillers, and True if the text begins with a stop."""
    rest: list[str] = []
    stops = False
    at = 0
    while at < len(tokens):
        if not rest and _phrase(tokens, at, known.stops):
            stops = True
        size = _phrase(tokens, at, known.backchannels) or _phrase(tokens, at, known.fillers)
        if not size and _HUM.fullmatch(tokens[at]):
            size = 1
        if not size:
            rest.append(tokens[at])
        at += size or 1
    return rest, stops


def _shortened(token: str, known: Lexicon) -> str:
    """Return the word of the lexicon that was spelled with lengthened letters, like "yeahhh", else the token."""
    if token not in known.vocabulary and _LONG.search(token):
        for times in (1, 2):
            if (plain := _LONG.sub(lambda run, times=times: times * run[0][0], token)) in known.vocabulary:  # type: ignore[misc]
                return plain
    return token


def _phrase(tokens: list[str], at: int, phrases: frozenset[str]) -> int:
    """Return the number of words of the longest of the phrases that begins at a place, 0 if none does."""
    for size in range(min(LONGEST, len(tokens) - at), 0, -1):
        if " ".join(tokens[at : at + size]) in phrases:
            return size
    return 0


def _tells(tokens: list[str], known: Lexicon) -> bool:
    """Return True if one of the words, or all of them, ask or answer, negate, or are a number."""
    telling = known.answers | known.question_starts | known.question_words | known.numbers | known.stops
    return " ".join(tokens) in telling or any(token in telling or token.isdecimal() for token in tokens)


def _begins(tokens: list[str], known: Lexicon) -> bool:
    """Return True if these words are the beginning of a backchannel, and no answer by themselves."""
    text = " ".join(tokens)
    return bool(text) and text not in known.answers and any(each.startswith(text + " ") for each in known.backchannels)
