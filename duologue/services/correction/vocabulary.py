"""`Vocabulary`: the terms that a call is about, with an index by sound. `Term`: one of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...errors import BadInput, ConfigurationError, check_installed
from .sounds import coarse, folded, metaphone, rough, skeleton, spelled_together, without, word_matches

MAX_TERMS = 50_000
"""The most terms of a vocabulary."""
MAX_TERM = 80
"""The longest term or alias, in characters."""
MAX_WORDS = 6
"""The most words of a term or alias."""
COLUMNS = ("term", "aliases", "category", "weight", "context")
"""The columns of a file, of which all but the first may be missing. Aliases and context words are separated by "|"."""


_BETWEEN = "is was as it its the a an of for to my some please with by am"


class Context(NamedTuple):
    """Words that stand before a term, words that stand after it, and words behind which nothing but a term stands.

    Words of `between` may stand between these and the term.
    """

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    sure: frozenset[str] = frozenset()
    between: frozenset[str] = frozenset(_BETWEEN.split())

    @classmethod
    def of(cls, before: str, after: str, sure: str) -> Context:
        """Return a context of words that are separated by spaces."""
        return cls(frozenset(f"{before} {sure}".split()), frozenset(after.split()), frozenset(sure.split()))


CONTEXT: Mapping[str, Context] = {
    "medicine": Context.of(
        "take takes taking took taken prescribe prescription medication medicine tablet tablets pill pills dose mg"
        " milligram milligrams milligrammes drug drugs allergy injection capsule capsules",
        "tablet tablets pill pills dose dosage mg milligram milligrams capsule capsules injection inhaler twice daily",
        "prescribed refill dosage allergic",
    ),
    "name": Context.of(
        "name miss madam dr doctor professor", "spelled spelt", "mr mrs ms mister missus surname"
    )._replace(between=frozenset({"is", "was"})),
    "department": Context.of(
        "referred refer referral",
        "department departments clinic clinics ward unit specialist consultant surgeon referral outpatients scan test"
        " appointment extension",
        "",
    ),
}
"""English words that stand near terms of a category, for terms that name none of their own."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A term in its right spelling, and the forms in which it may be heard.

    `aliases` are other spoken forms ("e n t"). A term of greater `weight` wins over another that fits as well, and is
    among those that a speech-to-text service expects. `context` are words that stand near it; with none, they
    are those of its `category`, if that is one of `CONTEXT`.

    Raises ConfigurationError for an empty or too long text, and for a weight that is not positive.
    """

    term: str
    aliases: tuple[str, ...] = ()
    category: str = ""
    weight: float = 1.0
    context: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for form in (self.term, *self.aliases):
            if not form.strip() or len(form) > MAX_TERM or len(list(word_matches(form))) not in range(1, MAX_WORDS + 1):
                raise ConfigurationError(
                    f"the term {form[:MAX_TERM]!r}: a term or alias has 1 to {MAX_WORDS} words and at most {MAX_TERM}"
                    " characters"
                )
        if not 0 < self.weight < 1e6:
            raise ConfigurationError(f"the weight of {self.term!r} is {self.weight!r}: it is positive")


_INITIALS = re.compile(r"\b(?:[A-Z]{2,5}|[a-z](?: [a-z]\b)+)\b")
_SAID = "ay bee see dee ee eff gee aitch eye jay kay el em en oh pee cue ar ess tee you vee doubleyou ex why zee"
_NAMES = dict(zip("abcdefghijklmnopqrstuvwxyz", _SAID.split(), strict=True))
"""The names of the letters, as they sound: recognisers write "see tee scan" for "CT scan"."""


class Form:
    """A spoken form of a term, with its keys."""

    __slots__ = ("coarse", "is_term", "letters", "place", "rough", "skeleton", "spelling", "term", "words")

    def __init__(self, term: Term, text: str, place: int, *, spelled_out: bool = False) -> None:
        self.place = place  # of the term in the vocabulary
        words = [folded(match.group()) for match in word_matches(text)]
        sounds = words
        if spelled_out:  # "CT scan" as "see tee scan"
            said = [_INITIALS.sub(lambda found: " ".join(_NAMES[a] for a in found[0].lower() if a != " "), text)]
            sounds = [folded(match.group()) for match in word_matches(said[0])]
        self.term = term
        self.words = tuple(words)
        self.is_term = text == term.term
        self.coarse = coarse("".join(map(metaphone, sounds)))
        self.letters = "".join(words)
        self.spelling = spelled_together(sounds)
        self.rough = rough(self.spelling)
        self.skeleton = skeleton(self.spelling)


def edges(term: str) -> tuple[str, str]:
    """Return the signs before the first word of a term and behind its last one: "", "++" for "C++"."""
    words = list(word_matches(term))
    return term[: words[0].start()], term[words[-1].end() :]


def tolerance(key: str) -> int:
    """Return the number of letters in which a coarse key may differ."""
    return 0 if len(key) < 3 else 1 if len(key) < 6 else 2


class Vocabulary:
    """Terms with an index by their sound (extra `correction`). It can be shared by all calls of a process.

    `terms` are texts or `Term`s. Raises ConfigurationError for malformed terms, for none, and for more than
    `MAX_TERMS`; MissingExtra without the extra.
    """

    def __init__(self, terms: Iterable[str | Term]) -> None:
        check_installed("correction", "rapidfuzz", "jellyfish", "spellchecker")
        self.terms: tuple[Term, ...] = tuple(_unique(terms))
        if not 1 <= len(self.terms) <= MAX_TERMS:
            raise ConfigurationError(f"a vocabulary has 1 to {MAX_TERMS} terms, not {len(self.terms)}")
        self.exact: dict[tuple[str, ...], list[Form]] = {}
        """The forms by their words, in lower case."""
        self._near: dict[str, list[Form]] = {}
        self.longest = 1
        """The most words of a form."""
        for place, term in enumerate(self.terms):
            for text in dict.fromkeys((term.term, *term.aliases)):
                form = Form(term, text, place)
                self.exact.setdefault(form.words, []).append(form)
                self._add(form)
                if _INITIALS.search(text):
                    self._add(Form(term, text, place, spelled_out=True))

    def _add(self, form: Form) -> None:
        self.longest = max(self.longest, len(form.words))
        keys = (key for own in (form.coarse, form.skeleton) for key in without(own, tolerance(own)))
        for key in set(keys):
            self._near.setdefault(key, []).append(form)

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a CSV file in UTF-8 with the `COLUMNS`, the first line being their names.

        Raises BadInput, which names the file and the line, for a file that is malformed.
        """
        return cls(read_terms(path))

    def near(self, keys: Sequence[str], *, fuzzy: bool = True) -> set[Form]:
        """Return the forms one of whose keys may be within the tolerance of one of `keys`, and some more.

        Without `fuzzy`, those with one of these keys.
        """
        found: set[Form] = set()
        for key in dict.fromkeys(keys):
            if fuzzy:
                for part in without(key, tolerance(key)):
                    found.update(self._near.get(part, ()))
            else:
                found.update(form for form in self._near.get(key, ()) if key in (form.coarse, form.skeleton))
        return found

    def heaviest(self) -> list[str]:
        """Return the terms, those of the greatest weight first."""
        return [term.term for term in sorted(self.terms, key=lambda term: -term.weight)]


def _unique(terms: Iterable[str | Term]) -> list[Term]:
    found: dict[str, Term] = {}
    for term in terms:
        if isinstance(term, str):
            term = Term(term=term.strip())
        if not isinstance(term, Term):
            raise ConfigurationError(f"{term!r} is not a term: it is a text or a Term")
        found.setdefault(term.term, term)
    return list(found.values())


def read_terms(path: str | Path) -> list[Term]:
    """Read the terms of a CSV file: see `Vocabulary.load`."""
    terms: list[Term] = []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            if "term" not in rows.fieldnames:
                raise BadInput(f"{path}: the first line names the columns {', '.join(COLUMNS)}")
            if unknown := [name for name in rows.fieldnames if name not in COLUMNS]:
                raise BadInput(f"{path}: there is no column {unknown[0]!r:.60}: there are {', '.join(COLUMNS)}")
            for row in rows:
                if any(row.pop(None, ())):
                    raise BadInput(f"{path}, line {rows.line_num}: the line has more values than there are columns")
                terms.append(_term(row))
                if len(terms) > MAX_TERMS:
                    raise BadInput(f"{path}: more than {MAX_TERMS} terms")
    except BadInput:
        raise
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    except (ConfigurationError, ValueError) as error:
        raise BadInput(f"{path}, line {rows.line_num}: {error}") from error
    return terms


def _term(row: Mapping[str, str | None]) -> Term:
    return Term(
        term=(row.get("term") or "").strip(),
        aliases=_divided(row.get("aliases")),
        category=(row.get("category") or "").strip(),
        weight=float(row.get("weight") or 1.0),
        context=_divided(row.get("context")),
    )


def _divided(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split("|") if part.strip())
