"""`python -m benchmarks.correction`: terms put right, ordinary sentences changed, time of a transcript.

The vocabulary (`terms.csv`) has 2,560 terms: 738 medicines (international nonproprietary names), 50 departments and
examinations, and 1,772 surnames (out of the lists of the package Faker, MIT). No two surnames sound nearly alike. 95
terms that are not said as they are written have an alias that is spelled by their sounds.

A thousand mis-hearings are made from the sounds of terms (`mishearings.py`) and stand in sentences that say what kind
of term it is. A mis-hearing is put right if the whole sentence is.  Of
the two thousand ordinary sentences, one half is conversation (`sentences.py`), the other from the documentation of
Python's standard library. The correction was tuned on one half of the terms, other seeds and other sentences of the
documentation: `--set dev`. Reports are for `--set held-out`.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from benchmarks._report import arguments, report
from benchmarks.correction.mishearings import Mishearings, pronunciations
from benchmarks.correction.sentences import WITH_TERM, from_the_library, ordinary
from duologue.cli.lab.correction import Pair, accuracy, corrected
from duologue.services.correction import Corrector, Vocabulary
from duologue.services.correction.sounds import folded, simple_spelling, unlikeness

TERMS = Path(__file__).with_name("terms.csv")
DEV_LIBRARY = 1_500
"""Sentences of the library that were used for tuning."""


def distinct(names: Iterable[str]) -> set[str]:
    """The names that are not written nearly like another: Chaudry and Choudhry are not to be told apart by sound."""
    written = {name: simple_spelling(folded(name)) for name in names}
    return {
        name
        for name, own in written.items()
        if not any(
            other != name and abs(len(own) - len(others)) < 2 and unlikeness(own, others) < 0.6
            for other, others in written.items()
            if others[:1] == own[:1]
        )
    }


def misheard(vocabulary: Vocabulary, number: int, *, held_out: bool, seed: int = 0) -> list[tuple[Pair, str]]:
    """Sentences with misheard terms of one half of the vocabulary, each with the category of its term."""
    names = [term.term for term in vocabulary.terms]
    sounds = dict(zip(names, pronunciations(names), strict=True))
    category = {term.term: term.category for term in vocabulary.terms}
    dev = set(random.Random(1).sample(sorted(sounds), len(sounds) // 2))
    chosen = sorted(name for name in distinct(sounds) if (name in dev) is not held_out)
    chance = random.Random(seed + (6 if held_out else 5))
    found = []
    for name, heard, _ in islice(Mishearings(sounds).of(chosen, seed + (23 if held_out else 11)), number):
        sentence = chance.choice(WITH_TERM[category[name]])
        found.append((Pair(sentence.format(heard), sentence.format(name)), category[name]))
    return found


def sentences(number: int, *, held_out: bool, seed: int = 0) -> list[Pair]:
    """Ordinary sentences."""
    library = from_the_library(1, DEV_LIBRARY)
    if held_out:
        seen = set(library)
        library = [each for each in from_the_library(2, None) if each not in seen]
    texts = [*ordinary(seed + (101 if held_out else 7), number // 2), *library[: number - number // 2]]
    return [Pair(text, text) for text in texts]


def main() -> None:
    """Print the figures."""
    options = arguments(__doc__ or "", {"set": "held-out", "number": 1000, "seed": 0})
    held_out = options.set == "held-out"
    vocabulary = Vocabulary.load(TERMS)
    corrector = Corrector(vocabulary)
    pairs = misheard(vocabulary, options.number, held_out=held_out, seed=options.seed)
    ordinary_pairs = sentences(2 * options.number, held_out=held_out, seed=options.seed)
    gc.collect()
    gc.freeze()  # as `duologue serve` does, or the collector's walk over the lists counts as time of a transcript
    done = corrected(corrector, [*(pair for pair, _ in pairs), *ordinary_pairs])
    figures, shares = accuracy(done), {}
    for kind in WITH_TERM:
        own = [each.text == each.pair.said for each, (_, of) in zip(done, pairs, strict=False) if of == kind]
        shares[f"right_{kind}"] = round(sum(own) / max(1, len(own)), 4)
    plain = {
        "set": options.set,
        "terms": len(vocabulary.terms),
        "right": round(figures.right / figures.misheard, 4),
        **shares,
        "changed": round(figures.changed / figures.ordinary, 4),
        **{name: round(value, 4) for name, value in asdict(figures).items() if name.startswith(("errors", "ms"))},
    }
    report(plain, as_json=options.json)


if __name__ == "__main__":
    main()
