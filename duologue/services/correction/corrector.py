"""`Corrector`: puts misheard terms of a vocabulary right in a text, and leaves ordinary words alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import NamedTuple, TypeAlias

from .frequency import ORDINARY, counts, usage
from .kept import kept_words
from .sounds import (
    coarse,
    folded,
    metaphone,
    rough,
    simple_spelling,
    skeleton,
    spelled_together,
    unlikeness,
    word_matches,
)
from .vocabulary import CONTEXT, Context, Form, Term, Vocabulary, edges

MAX_WINDOW = 6
"""The most words that are taken for one misheard term; more if a term or an alias has more."""
NEAR, BESIDE, SURE = 1, 2, 3
"""How near a word of the context is: a few words away, right beside, or right before and followed by terms only."""
REACH = 4
"""The distance, in words, within which words of the context count."""
REPLY = 6
"""The first words of a transcript, for which the agent's latest sentence is context."""
MAX_CHARACTERS = 4_000
"""Characters of a text that are corrected. The rest stays as it is."""
MAX_COMPARED = 90
"""Terms with which the words of one transcript are compared, at most: each takes some 30 µs. The words that are left
are corrected only where they are a term's own. Vocabularies of some ten thousand terms reach it."""
_CLOSEST = 8  # forms with which some words are compared letter by letter, of those in the index
_CACHE = 20_000
_LETTERS = (3, 28)  # of a window

_OWNERS = frozenset(["my", "your", "his", "her", "our", "their", "its"])
_ARTICLES = frozenset(["a", "an", "of", "to"])  # a misheard term may begin with them
_LEADING = frozenset(  # they begin what comes after, not a part of a term
    "the a and then while when because if but my your his her our their this these".split()  # noqa: SIM905
)
_FOLLOWING = frozenset(["on", "that", "is", "for", "with", "at", "and"])  # often stand behind a term
_GAP = re.compile(r"[ \u00a0-]+")


class Change(NamedTuple):
    """A correction: the place in the original text, the words there, and those in their place."""

    start: int
    end: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected text, and its changes in order."""

    text: str
    changes: tuple[Change, ...] = ()


class _Token(NamedTuple):
    start: int
    end: int
    folded: str
    kept: bool  # a number or a negation


class _Match(NamedTuple):
    form: Form
    score: float
    exact: bool


_Matches: TypeAlias = tuple[tuple[_Match, ...], int]
"""Forms that are like some words, the best first, and the number of those that were compared."""


class _Found(NamedTuple):
    first: int
    end: int
    match: _Match
    rank: float


class Corrector:
    """Corrects texts in a language by a vocabulary. It has no state but a cache: a text gives the same each time.

    `language` has the list of ordinary words: see `frequency.LANGUAGES`.
    """

    def __init__(self, vocabulary: Vocabulary, language: str = "en") -> None:
        self.vocabulary = vocabulary
        self._counts = counts(language)
        self._kept = kept_words(language)
        self._window = max(MAX_WINDOW, vocabulary.longest)
        self._own = {
            term.term: Context(frozenset(map(folded, term.context)), frozenset(map(folded, term.context)))
            for term in vocabulary.terms
            if term.context
        }
        contexts = [self._context(term) for term in vocabulary.terms]
        self._any_context = Context(
            frozenset().union(*(context.before for context in contexts)),
            frozenset().union(*(context.after for context in contexts)),
            frozenset().union(*(context.sure for context in contexts)),
        )
        self._cache: dict[tuple[bool | str, ...], _Matches] = {}

    def correct(self, text: str, before: str = "") -> Corrected:
        """Return the text with the terms put right. The agent's words `before` it are context for a short reply."""
        words = [self._token(text, match) for match in word_matches(text[:MAX_CHARACTERS])]
        used = [usage(self._counts, word.folded) for word in words]
        asked = frozenset(folded(match.group()) for match in word_matches(before[-MAX_CHARACTERS:]))
        found: list[_Found] = []
        left = MAX_COMPARED
        for first in range(len(words)):
            kept = False
            for end in range(first + 1, min(len(words), first + self._window) + 1):
                last = words[end - 1]
                kept = kept or last.kept
                if not last.folded:
                    break
                if end - first > 1 and not _GAP.fullmatch(text, words[end - 2].end, last.start):
                    break
                if kept and end - first == 1:
                    continue
                # Words with a number become a term only if they are one of its forms.
                place = _Window(words, used[first:end], first, end, asked)
                best, compared = self._best(place, compare=left > 0 and not kept)
                left -= compared
                if best is not None:
                    found.append(best)
        return self._applied(text, words, found)

    def _best(self, window: _Window, *, compare: bool) -> tuple[_Found | None, int]:
        """Return the best form for some words, and the number of forms that they were compared with."""
        said = tuple(word.folded for word in window.words[window.first : window.end])
        exact, compared = self.vocabulary.exact.get(said), 0
        if exact is not None:
            matches: Sequence[_Match] = [_Match(form, 1.0, True) for form in exact]
        else:
            reach = window.reach(self._any_context) if compare else None
            matches, compared = self._matches(said, reach) if reach is not None else ((), 0)
        best: _Found | None = None
        for match in matches:
            near = self._allowed(match, window)
            if near is not None:
                rank = match.score + 0.01 * min(match.form.term.weight, 3.0) + _LONGER * window.weighty
                rank += match.exact and (0.3 if window.least < ORDINARY else -0.1)
                rank += _IN_CONTEXT * near
                if best is None or rank > best.rank:
                    best = _Found(window.first, window.end, match, rank)
        return best, compared

    def _applied(self, text: str, words: Sequence[_Token], found: list[_Found]) -> Corrected:
        taken: set[int] = set()
        chosen = []
        for each in sorted(found, key=lambda each: (-each.rank, each.first)):
            if taken.isdisjoint(range(each.first, each.end)):
                taken.update(range(each.first, each.end))
                chosen.append(each)
        changes, corrected, place = [], "", 0
        for each in sorted(chosen, key=lambda each: each.first):
            start, end = words[each.first].start, words[each.end - 1].end
            new = each.match.form.term.term
            lead, tail = edges(new)  # of "C++", the text may have the signs already
            start -= len(lead) * (place <= start - len(lead) and text[:start].endswith(lead))
            end += len(tail) * text.startswith(tail, end)
            if text[start:end] != new:
                changes.append(Change(start, end, text[start:end], new))
                corrected += text[place:start] + new
                place = end
        return Corrected(corrected + text[place:], tuple(changes))

    def _token(self, text: str, match: re.Match[str]) -> _Token:
        """Return a word of a text, without the 's of an owner."""
        start, end = match.span()
        if match.group()[-2:].lower() in ("'s", "’s"):
            end -= 2
        return _Token(start, end, folded(text[start:end]), match.group() in self._kept)

    # -- the forms that sound like some words --------------------------------------------------------------------------

    def _matches(self, window: tuple[str, ...], fuzzy: bool) -> _Matches:
        found = self._cache.get((fuzzy, *window))
        if found is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            found = self._cache[fuzzy, *window] = self._looked_up(window, fuzzy)
        return found

    def _looked_up(self, window: tuple[str, ...], fuzzy: bool) -> _Matches:
        letters = "".join(window)
        if not _LETTERS[0] <= len(letters) <= _LETTERS[1]:
            return (), 0
        from rapidfuzz.distance import Levenshtein

        near = Levenshtein.normalized_similarity
        key = coarse("".join(map(metaphone, window)))
        spelled = [(own, rough(own), skeleton(own)) for own in {spelled_together(window), simple_spelling(letters)}]
        likely = []
        for form in self.vocabulary.near((key, *[bones for *_, bones in spelled]), fuzzy=fuzzy):
            same, best, mine = near(key, form.coarse), 0.0, ""
            for own, loose, bones in spelled:
                if alike := near(own, form.spelling, score_cutoff=_LEAST_SPELLING):
                    same = max(same, near(bones, form.skeleton))
                    alike += near(loose, form.rough)
                    if alike > best:
                        best, mine = alike, own
            if mine and same >= _LEAST_KEY:
                likely.append((best, same, form, mine))
        if len(likely) > _CLOSEST:
            likely = nlargest(_CLOSEST, likely, key=lambda each: (each[0], -each[2].place))
        found = []
        for _, same, form, mine in likely:
            size = max(len(mine), len(form.spelling))
            rest = 0.1 * same + 0.05 * near(letters, form.letters)
            score = rest + 0.85 * (1 - unlikeness(mine, form.spelling, (1 - (_LEAST - rest) / 0.85) * size) / size)
            if score > _LEAST:
                found.append(_Match(form, score, False))
        found.sort(key=lambda match: (-match.score, match.form.place))
        return tuple(found[:6]), 1 + len(likely)

    # -- the words that may be replaced --------------------------------------------------------------------------------

    def _context(self, term: Term) -> Context:
        return self._own.get(term.term) or CONTEXT.get(term.category, _NOWHERE)

    def _allowed(self, match: _Match, window: _Window) -> int | None:
        """Return None if these words may not become the term, else how near a word of its context is."""
        size, least = window.size, window.least
        if match.exact and (least < ORDINARY or (size > 1 and match.form.is_term)):
            return BESIDE
        context = self._context(match.form.term)
        if window.has(context, match.form.words):
            return None
        near = window.cues(context)
        is_long = len(match.form.coarse) >= 5
        if window.size > 1 and window.starts_between:
            return None
        if least < ORDINARY and (max(window.used) >= COMMON or (len(match.form.letters) < 4 and near < BESIDE)):
            return None
        if window.has_common_edge and match.score < (_SURE if window.leads_on and near < SURE else _COMMON_EDGE[near]):
            return None
        if least < ORDINARY:
            allowed = match.score >= (_RARE if least else _UNKNOWN)[near]
        elif size == 1:
            allowed = near >= BESIDE and not window.is_owned and match.score >= _ORDINARY_WORD
        elif near >= BESIDE:
            allowed = match.score >= _ORDINARY_WORDS[near] - 0.05 * is_long
        else:
            allowed = size >= 3 and is_long and match.score >= _ORDINARY_WORDS[near]
        return near if allowed else None


class _Window:
    """Some words of a transcript, in a row, with the words around them."""

    __slots__ = ("asked", "end", "first", "least", "size", "used", "words")

    def __init__(
        self, words: Sequence[_Token], used: Sequence[int], first: int, end: int, asked: frozenset[str]
    ) -> None:
        self.words, self.used, self.first, self.end, self.asked = words, used, first, end, asked
        self.size, self.least = end - first, min(used)

    @property
    def has_common_edge(self) -> bool:
        return max(self.used[0], self.used[-1]) >= COMMON

    @property
    def weighty(self) -> int:
        """The number of words, without an article before them and a preposition behind them."""
        words = self.words
        starts = self.size > 1 and words[self.first].folded in _ARTICLES
        return self.size - starts - (self.size > 1 and words[self.end - 1].folded in _FOLLOWING)

    @property
    def starts_between(self) -> bool:
        return self.words[self.first].folded in _NOWHERE.between and self.words[self.first].folded not in _ARTICLES

    @property
    def leads_on(self) -> bool:
        """True if the last word is the beginning of what comes after: "the", "while"."""
        return self.end < len(self.words) and self.words[self.end - 1].folded in _LEADING

    @property
    def is_owned(self) -> bool:
        return self.first > 0 and self.words[self.first - 1].folded in _OWNERS

    def has(self, context: Context, form: Sequence[str]) -> bool:
        """Return True if one of the words is a word of the context itself, and none of the form."""
        own = {word.folded for word in self.words[self.first : self.end]}.difference(form)
        return not (context.before.isdisjoint(own) and context.after.isdisjoint(own))

    def reach(self, context: Context) -> bool | None:
        """Return True for words that may have become a term by mistake, False if only an exact likeness counts.

        None if they cannot be a misheard term at all. `context` has those of all terms.
        """
        if self.size == 1 and self.has_common_edge:
            return None
        if self.least < ORDINARY:
            return True if self.size == 1 or max(self.used) < COMMON else None
        if self.cues(context) >= BESIDE:
            return True
        return False if self.size >= 3 else None

    def cues(self, context: Context) -> int:
        """Return how near a word of the context is: not at all, `NEAR`, `BESIDE` the words, or `SURE`."""
        words, first, end, asked = self.words, self.first, self.end, self.asked
        before = [word.folded for word in words[max(0, first - REACH) : first]][::-1]
        after = [word.folded for word in words[end : end + REACH]]
        replied = first < REPLY and not (context.before.isdisjoint(asked) and context.after.isdisjoint(asked))
        if not replied and context.before.isdisjoint(before) and context.after.isdisjoint(after):
            return 0
        if (previous := _next(before, context)) in context.sure:
            return SURE
        if previous in context.before or _next(after, context) in context.after:
            return BESIDE
        return BESIDE if replied and end == len(words) and context.between.issuperset(before) else NEAR


def _next(side: Sequence[str], context: Context) -> str:
    return next((word for word in side if word not in context.between), "")


_NOWHERE = Context()
COMMON = 1_000_000
"""Occurrences from which on a word is too common to be a part of a misheard term, at either end of it."""
_LEAST = 0.58
_LEAST_KEY = 0.5
_LEAST_SPELLING = 0.25
# The least scores: without context, with a word of it near, beside the words, or one behind which only a term stands.
_UNKNOWN = (0.9, 0.74, 0.62, 0.58)
_RARE = (0.95, 0.95, 0.78, 0.7)
_ORDINARY_WORD = 0.8
_ORDINARY_WORDS = (0.93, 0.86, 0.71, 0.65)
_COMMON_EDGE = (0.93, 0.93, 0.78, 0.64)
_SURE = 0.93
_IN_CONTEXT = 0.05
_LONGER = 0.07
