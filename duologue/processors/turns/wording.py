"""`judge`: how much silence a caller's words call for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from . import weights
from .lexicon import Lexicon, words

Asked = Literal["", "yes_no", "digits", "detail", "story", "dictation"]
"""The request of the agent: none, for yes or no, digits or letters, a detail, sentences, or for a text or a tale."""

GOES_ON = frozenset({"filler", "open"})
"""The rules for words that cannot be all."""

_TAIL, _HEAD = 160, 80  # characters at the end and at the beginning of a text that are looked at
_LONGEST = 5  # words of the longest phrase that is looked for
_SENTENCE_ENDS = ".?!।؟"
_PHONE = 10  # digits after which a number may be complete
_READ_OUT = 3  # digits in a row that are a number read out, and not an amount or a time
_STATEMENT = 3  # words that a statement has at least
_LONG = 8  # words from which a turn is long: what comes first is seldom all


class Ending(NamedTuple):
    """How long to wait after a text, and the rule that has looked at its end."""

    patience: float
    """Below 0 after a text that is complete, from there to 1 the more the caller is likely to go on."""
    rule: str


def judge(text: str, lexicon: Lexicon, asked: Asked = "", pauses: int = 0) -> Ending | None:
    """Return how long to wait after the text of a caller's turn. None for a text without words.

    Four weights are added up: that of the rule that the text's end falls under, of what the agent has asked for, of
    the number of pauses that the turn has had, and of the number of its words. Takes less than 50 µs.
    """
    rule = rule_of(text, lexicon, asked)
    if rule is None:
        return None
    score = weights.RULES[rule] + weights.ASKED[asked] + weights.PAUSES[min(pauses, len(weights.PAUSES) - 1)]
    score += weights.WORD * min(text[:_TAIL].count(" ") + 1, weights.MOST_WORDS)
    patience = min(1.0, score / weights.PATIENT_FROM)
    return Ending(min(patience, 0.5) if rule in weights.HALF_PATIENT else patience, rule)


def rule_of(text: str, lexicon: Lexicon, asked: Asked = "") -> str | None:
    """Return the rule that the end of a text falls under: the first of them that holds. None without words.

    A speech-to-text's punctuation is a hint only: it may shorten the wait after words that leave a clause open, and it
    marks where the last sentence begins.
    """
    text = text.rstrip()
    said = words(text[-_TAIL:])
    if not said:
        return None
    if _ending(said, lexicon.fillers):
        return "filler"
    mark = text[-1]
    closed = _ending(said, lexicon.closed) or said[-1].endswith(lexicon.closed_suffixes)
    open_ = _ending(said, lexicon.open_words) or said[-1].endswith(lexicon.open_suffixes)
    if _ends_in_modifier(said, lexicon):
        open_ = max(open_, 2)
    particle = _ending(said, lexicon.particles)
    if (number := _readout(said, lexicon, asked)) and (not closed or said[-1] in lexicon.numbers):
        return number
    whole, sentence = len(text) <= _TAIL, _last_sentence(text, said)
    complete = closed > max(open_, particle)
    if complete and not lexicon.verb_last:
        return "closed"
    if whole and " ".join(said) in lexicon.answers:
        bare = len(said) == 1 and said[0] in lexicon.lead_ins
        return ("bare answer" if bare else "answer") if asked else "fragment"
    punctuated = mark in _SENTENCE_ENDS
    core = _without_lead_ins(sentence, lexicon)
    asks = mark in "?؟" or (len(core) >= _STATEMENT and _starts_with(core, lexicon.question_starts))
    strands = not lexicon.question_words.isdisjoint(core)
    if not complete:
        if " ".join(core) in lexicon.announcements:
            return "open"
        if (open_ >= particle and open_) or (particle and not strands):
            return "open, but punctuated" if punctuated else "open"
        if not punctuated and _begins_clause(said, lexicon):
            return "clause begun"
    if asks:
        return "marked question" if mark in "?؟" else "question"
    if lexicon.verb_last and not complete and not punctuated:
        return "fragment"
    if asked in ("yes_no", "detail"):
        return "detail" if core else "fragment"
    if len(core) < _STATEMENT:
        return "fragment"
    return "statement" if punctuated or text.count(" ") >= _LONG - 1 else "short statement"


def _ends_in_modifier(said: Sequence[str], lexicon: Lexicon) -> bool:
    """Return True if the noun is to come: after "the new", "two large", but not after "twenty first" or "it is new"."""
    if len(said) < 2 or said[-1] not in lexicon.modifiers:
        return False
    return said[-2] in lexicon.determiners or (said[-2] in lexicon.numbers and said[-1] not in lexicon.numbers)


def _begins_clause(said: Sequence[str], lexicon: Lexicon) -> bool:
    """Return True if a clause has begun that can hardly be complete: one word, or a word that needs another and one."""
    starts = lexicon.clause_starts
    if len(said) > 1 and said[-2] in starts:
        is_object = " ".join(said[-3:-1]) in lexicon.open_words  # "is that included", "tengo que firmar"
        return said[-1] not in lexicon.subjects and not is_object
    return len(said) > 2 and said[-3] in starts and said[-2] in lexicon.open_words - lexicon.subjects


def asked_for(text: str, lexicon: Lexicon) -> Asked | None:
    """Return what the last sentence of an agent's message asks for. None for a message without content: "Okay?"."""
    text = text.rstrip()
    said = _last_sentence(text, words(text[-_TAIL:]))
    if not _without_lead_ins(said, lexicon):
        return None
    if _mentions(said, lexicon.readout_requests):
        return "digits"
    if _mentions(said, lexicon.dictations):
        return "dictation"
    if _mentions(said, lexicon.open_questions):
        return "story"
    if not text.endswith(("?", "؟")):
        return ""
    return "detail" if _mentions(said, lexicon.question_words) else "yes_no"


def _ending(said: Sequence[str], phrases: frozenset[str]) -> int:
    """Return the number of words of the longest of the phrases with which the words end, 0 for none."""
    for length in range(min(_LONGEST, len(said)), 1, -1):
        if " ".join(said[-length:]) in phrases:
            return length
    return int(said[-1] in phrases)


def _starts_with(said: Sequence[str], phrases: frozenset[str]) -> bool:
    return any(" ".join(said[:length]) in phrases for length in range(1, min(4, len(said)) + 1))


def _mentions(said: Sequence[str], phrases: frozenset[str]) -> bool:
    return any(" ".join(said[at : at + length]) in phrases for length in (1, 2, 3) for at in range(len(said)))


def _last_sentence(text: str, said: list[str]) -> list[str]:
    """Return the words of the last sentence of a text whose last words are `said`."""
    tail = text[-_TAIL:]
    at = max((tail.rfind(f"{mark} ", 0, -1) for mark in _SENTENCE_ENDS), default=-1)
    if at >= 0:
        return words(tail[at + 1 :])
    # The beginning of a long text without punctuation tells its kind.
    return said if len(text) <= _TAIL else words(text[:_HEAD])


def _without_lead_ins(said: list[str], lexicon: Lexicon) -> list[str]:
    at = 0
    while at < len(said):
        pair = " ".join(said[at : at + 2])
        if pair in lexicon.lead_ins or pair in lexicon.fillers:
            at += 2
        elif said[at] in lexicon.lead_ins or said[at] in lexicon.fillers:
            at += 1
        else:
            break
    return said[at:]


def _readout(said: Sequence[str], lexicon: Lexicon, asked: Asked) -> str | None:
    """Return the rule for a number that is read out, or on letters that are spelled, at the end of a text."""
    digits = symbols = letters = 0
    for word in reversed(said):
        if word.isdecimal():
            digits += len(word)
        elif word in lexicon.numbers:
            digits += 1
        elif len(word) == 1 and word not in lexicon.letters and word.isalpha():
            letters += 1
        elif word not in lexicon.spelling:
            break
        symbols += 1
    if letters >= 2 or (letters and digits) or (symbols > 1 and letters + digits and said[-1] in lexicon.spelling):
        return "spelling"
    if digits >= _READ_OUT:
        return "full number" if digits >= _PHONE else "number"
    if asked != "digits":
        return None
    if letters + digits:
        return "number"
    readout = lexicon.numbers | lexicon.spelling
    begun = any(word in readout or (len(word) == 1 and word not in lexicon.letters) for word in said)
    return "spelling" if begun else None
