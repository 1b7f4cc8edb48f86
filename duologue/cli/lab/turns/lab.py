"""`TurnsLab`: several settings of the ear on the same callers, as a table, a CSV file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ....errors import BadInput
from ..report import NONE, Picture, show, write_csv
from .figures import Figure, turn_figures
from .rooms import CONDITIONS
from .scripts import SETS
from .settings import expanded
from .suite import RECOGNISERS, jobs, measure

MAX_SETTINGS = 200


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of some settings on one line, with the ends of the confidence intervals. Times in milliseconds."""

    settings: str
    line: str
    cut_offs: float
    cut_offs_low: float
    cut_offs_high: float
    missed: float
    p50_ms: float
    mean_ms: float
    mean_ms_low: float
    mean_ms_high: float
    p95_ms: float
    on_frontier: bool


class TurnsLab:
    """The lab for turn-taking. Raises DuologueError for bad input, before anything is measured."""

    def __init__(
        self, settings: Sequence[str], *, which: str, lines: str, quick: bool, processes: int, out: Path
    ) -> None:
        if which not in SETS:
            raise BadInput(f"there is no set {which!r}: the sets are {', '.join(SETS)}")
        self.settings = expanded(settings or ("",))
        if len(self.settings) > MAX_SETTINGS:
            raise BadInput(f"{len(self.settings)} settings: at most {MAX_SETTINGS} can be compared")
        self.lines = [line.strip() for line in lines.split(",") if line.strip()]
        for line in self.lines:
            if line not in (*CONDITIONS, *RECOGNISERS):
                raise BadInput(f"there is no line {line!r}: the lines are {', '.join((*CONDITIONS, *RECOGNISERS))}")
        self.which, self.quick, self.processes, self.out = which, quick, processes, out
        self.console = Console(markup=False, highlight=False)
        self.points: list[Point] = []

    def run(self) -> int:
        """Measure all settings, show the results and write the files. Returns the exit status."""
        found: list[tuple[str, str, dict[str, Figure]]] = []
        calls = [
            job
            for settings in self.settings
            for job in jobs(self.which, settings, ("endpoints",), quick=self.quick, lines=self.lines)
        ]
        for settings, results in measure(calls, self.processes).items():
            found += [(settings.label, line, turn_figures(turns)) for line, turns in results.turns.items()]
        self.points = [_point(label, line, figures, found) for label, line, figures in found]
        self._show()
        return 0

    def _show(self) -> None:
        columns = ["settings", "line", "cut-offs", "missed %", "p50", "mean", "p95", "frontier"]
        rows = [
            [
                point.settings,
                point.line,
                f"{point.cut_offs:.1f}",
                f"{point.missed:.1f}",
                f"{point.p50_ms:.0f}",
                f"{point.mean_ms:.0f}",
                f"{point.p95_ms:.0f}",
                "yes" if point.on_frontier else NONE,
            ]
            for point in self.points
        ]
        show(self.console, "Cut-offs per 100 pauses, and ms from the end of a turn to the decision", columns, rows)
        write_csv(self.out / "turns.csv", Point, self.points)
        picture = Picture(len(self.lines), 8)
        for line in self.lines:
            points = {point.settings: (point.mean_ms, point.cut_offs) for point in self.points if point.line == line}
            picture.points(line, "mean ms to the decision", "cut-offs per 100 pauses", points)
        picture.save(self.out / "turns.png")
        for name in ("turns.csv", "turns.png"):
            self.console.print(f"  {self.out / name}")


def _point(
    label: str, line: str, figures: dict[str, Figure], all_of_them: Sequence[tuple[str, str, dict[str, Figure]]]
) -> Point:
    cuts, mean_ms = figures["cut-offs per 100 pauses"], figures["decision mean ms"]
    others = [other for _, their_line, other in all_of_them if their_line == line and other is not figures]
    return Point(
        settings=label,
        line=line,
        cut_offs=cuts.value,
        cut_offs_low=cuts.low,
        cut_offs_high=cuts.high,
        missed=figures["ends missed %"].value,
        p50_ms=figures["decision p50 ms"].value,
        mean_ms=mean_ms.value,
        mean_ms_low=mean_ms.low,
        mean_ms_high=mean_ms.high,
        p95_ms=figures["decision p95 ms"].value,
        on_frontier=not any(is_better(other, figures) for other in others),
    )


def is_better(one: dict[str, Figure], other: dict[str, Figure]) -> bool:
    """Return True if one setting cuts off no more and answers no later than the other, and is not equal to it."""
    here, there = (
        (figures["cut-offs per 100 pauses"].value, figures["decision mean ms"].value) for figures in (one, other)
    )
    return here[0] <= there[0] and here[1] <= there[1] and here != there
