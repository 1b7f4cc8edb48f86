"""`ExpectsTerms`, `expecting`: the terms that a speech-to-text service expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

Options = TypeVar("Options")


class ExpectsTerms:
    """The part of an `STT` that takes the terms which the caller will probably say."""

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Expect these terms, the most important first, beside those of the options. Called before `open`.

        Returns the number that the service takes; by default it takes none.
        """
        return 0


def expecting(
    options: Options, name: str, terms: Sequence[str], *, most: int, longest: int, words: int | None = None
) -> tuple[Options, int]:
    """Return the options with terms in the field `name`, behind those that it has, and the number of them added.

    The field has at most `most` terms, each of at most `longest` characters, and together at most `words` words. Terms
    that do not fit are left out.
    """
    own: tuple[str, ...] = getattr(options, name)
    room, left = most - len(own), (words or 1_000_000) - sum(len(term.split()) for term in own)
    added: list[str] = []
    for term in dict.fromkeys(terms):
        if len(added) >= room:
            break
        size = len(term.split())
        if term not in own and len(term) <= longest and size <= left:
            added.append(term)
            left -= size
    changes: dict[str, Any] = {name: (*own, *added)}
    return (replace(options, **changes), len(added)) if added else (options, 0)  # type: ignore[type-var]


def in_a_text(own: str, terms: Sequence[str], characters: int) -> tuple[str, int]:
    """Return a text with terms behind it, separated by commas, and the number of them added within `characters`."""
    text, count = own, 0
    for term in dict.fromkeys(terms):
        longer = f"{text}, {term}" if text else term
        if len(longer) > characters:
            break
        text, count = longer, count + 1
    return text, count
