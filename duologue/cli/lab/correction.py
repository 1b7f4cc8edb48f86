"""`duologue lab correction`: the accuracy of transcripts before and after their correction by a vocabulary."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput
from ...services.correction import Corrector, Vocabulary
from ..guard import writing
from .words import WordErrors, scored

MAX_PAIRS = 100_000
"""The most transcripts of a file."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A transcript as it was `heard`, and as it was `said`. `before` is what the agent said before it."""

    heard: str
    said: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class CorrectedPair:
    """A pair, its corrected text, and the milliseconds of CPU time that the correction took."""

    pair: Pair
    text: str
    ms: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The figures of a report.

    `misheard` transcripts differ from the spoken words, `right` of them no longer after the correction. `changed` of
    the `ordinary` transcripts, which were right, differ after it. The errors are word errors, by jiwer.
    """

    misheard: int
    right: int
    ordinary: int
    changed: int
    errors_before: float
    errors_after: float
    ms_p50: float
    ms_p95: float
    ms_max: float

    def lines(self) -> Iterable[str]:
        """Yield the report."""
        yield f"word errors          {self.errors_before:7.2%} before, {self.errors_after:.2%} after"
        if self.misheard:
            yield f"put right            {self.right / self.misheard:7.1%} of {self.misheard} that were misheard"
        if self.ordinary:
            yield f"changed wrongly      {self.changed / self.ordinary:7.2%} of {self.ordinary} that were heard right"
        times = f"{self.ms_p50:7.2f} ms (median), {self.ms_p95:.2f} ms (p95), {self.ms_max:.2f} ms (max)"
        yield f"time of a transcript {times}"


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs from a CSV file with the columns heard, said and perhaps before. Raises BadInput."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if not {"heard", "said"} <= set(rows.fieldnames or ()):
                raise BadInput(f"{path}: the first line names the columns heard, said and perhaps before")
            found = [Pair(row["heard"] or "", row["said"] or "", row.get("before") or "") for row in rows]
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    if not 1 <= len(found) <= MAX_PAIRS:
        raise BadInput(f"{path}: it has {len(found)} transcripts; 1 to {MAX_PAIRS} are possible")
    return found


def corrected(corrector: Corrector, pairs: Sequence[Pair]) -> list[CorrectedPair]:
    """Correct the transcripts, each with its CPU time."""
    corrector.correct("hello there")  # the libraries are loaded at the first call
    found = []
    for pair in pairs:
        began = time.process_time()
        text = corrector.correct(pair.heard, pair.before).text
        found.append(CorrectedPair(pair, text, 1000 * (time.process_time() - began)))
    return found


def accuracy(done: Sequence[CorrectedPair]) -> Accuracy:
    """Return the figures of corrected transcripts."""
    misheard = [each for each in done if each.pair.heard != each.pair.said]
    ordinary = [each for each in done if each.pair.heard == each.pair.said]
    times = sorted(each.ms for each in done)
    return Accuracy(
        misheard=len(misheard),
        right=sum(each.text == each.pair.said for each in misheard),
        ordinary=len(ordinary),
        changed=sum(each.text != each.pair.said for each in ordinary),
        errors_before=_errors((each.pair.said, each.pair.heard) for each in done),
        errors_after=_errors((each.pair.said, each.text) for each in done),
        ms_p50=statistics.median(times),
        ms_p95=times[round(0.95 * (len(times) - 1))],
        ms_max=times[-1],
    )


def _errors(texts: Iterable[tuple[str, str]]) -> float:
    total = WordErrors(0, 0)
    for said, heard in texts:
        total += scored(said, heard)
    return total.rate or 0.0


class CorrectionLab:
    """The command: corrects the pairs of a file, prints the report, and writes a table."""

    def __init__(self, *, vocabulary: Path, pairs: Path, language: str, out: Path) -> None:
        self._corrector = Corrector(Vocabulary.load(vocabulary), language)
        self._pairs = read_pairs(pairs)
        self._out = out

    def run(self) -> int:
        """Print the report, and write correction.csv: each transcript before and after. Returns 0."""
        done = corrected(self._corrector, self._pairs)
        print("\n".join(accuracy(done).lines()))
        path = self._out / "correction.csv"
        with writing(self._out), path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["heard", "corrected", "said", "right", "ms"])
            for each in done:
                right = each.text == each.pair.said
                table.writerow([each.pair.heard, each.text, each.pair.said, right, f"{each.ms:.3f}"])
        print(f"written: {path}")
        return 0
