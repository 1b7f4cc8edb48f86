"""The search among more tools than a model should read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from ..agents.tool import ToolSpec

FOUND = 8
"""Tools that one search finds."""
_WORD = re.compile(r"[A-Z]?[^\W_\dA-Z]+|[A-Z]+(?![a-z])|\d+")
_K1, _B = 1.5, 0.75
_NAME_WEIGHT = 3
"""A word of a tool's name counts as three of its description."""


def search_words(text: str) -> list[str]:
    """Return the words of a text or a name (snake_case, camelCase), lower-case, without the ends of plurals."""
    words = (word.lower() for word in _WORD.findall(text))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]


class Index:
    """Ranks tools by BM25 over their names, descriptions and parameters.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), has the formula and the
    usual constants.
    """

    def __init__(self, specs: Sequence[ToolSpec]) -> None:
        self._specs = list(specs)
        self._counts = [_counted(spec) for spec in specs]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / len(specs) if specs else 1.0
        self._having = Counter(word for counts in self._counts for word in counts)

    def find(self, query: str, limit: int = FOUND) -> list[ToolSpec]:
        """Return the tools that fit a query, the best first; none that shares no word with it."""
        wanted = set(search_words(query[:1000]))
        scores = [(self._score(place, wanted), place) for place in range(len(self._specs))]
        best = sorted((pair for pair in scores if pair[0] > 0), key=lambda pair: (-pair[0], pair[1]))
        return [self._specs[place] for _, place in best[:limit]]

    def _score(self, place: int, wanted: set[str]) -> float:
        counts, total = self._counts[place], 0.0
        for word in wanted:
            if count := counts.get(word, 0):
                rare = math.log(1 + (len(self._specs) - self._having[word] + 0.5) / (self._having[word] + 0.5))
                length = 1 - _B + _B * self._lengths[place] / self._mean
                total += rare * count * (_K1 + 1) / (count + _K1 * length)
        return total


def _counted(spec: ToolSpec) -> Counter[str]:
    counts = Counter(search_words(spec.description))
    for word in search_words(spec.name):
        counts[word] += _NAME_WEIGHT
    for name, parameter in spec.parameters.get("properties", {}).items():
        described = parameter.get("description") if isinstance(parameter, dict) else None
        counts.update(search_words(f"{name} {described if isinstance(described, str) else ''}"))
    return counts
