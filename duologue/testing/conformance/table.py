"""The table of engines against the points of the contract, and the page that contains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import BadInput
from .rig import Rig
from .suite import POINTS, SCENARIOS, Verdict, expected
from .verdicts import who_shows

Results = Mapping[tuple[str, str], Verdict | str]
"""Verdicts by the names of rig and scenario. Values that are not a `Verdict` count as failures."""

BEGIN = "<!-- made by python -m duologue.testing.conformance --write -->"
FAULTS = "### The faults, and the far ends that show them"
END = "<!-- end of what is made -->"


async def foreseen(rigs: Iterable[Rig]) -> dict[tuple[str, str], Verdict | str]:
    """Return the expected verdict of each scenario on each rig, without a run."""
    return {
        (rig.name, scenario.id): verdict
        for rig in rigs
        for scenario in SCENARIOS.values()
        if (verdict := await expected(rig, scenario))
    }


def table(results: Results) -> str:
    """Return the table as Markdown: the number of scenarios that hold, and of those that the engine cannot do."""
    rigs = list(dict.fromkeys(rig for rig, _ in results))
    widths = [max(len(name) for name in ["engine", *rigs]), *(len("00 cannot") for _ in POINTS)]
    rows = [["engine", *POINTS], ["-" * width for width in widths]]
    for rig in rigs:
        cells = []
        for point in POINTS:
            own = [verdict for (name, key), verdict in results.items() if name == rig and key.startswith(f"{point}.")]
            cells.append(_cell(Counter(own)))
        rows.append([rig, *cells])
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def _cell(counts: Counter[Verdict | str]) -> str:
    holds, cannot = counts["holds"], counts["cannot"]
    failed = sum(count for verdict, count in counts.items() if verdict not in ("holds", "cannot", "n/a"))
    parts = [str(holds)] if holds else []
    if cannot:
        parts.append(f"{cannot} cannot")
    if failed:
        parts.append(f"{failed} FAIL")
    return " + ".join(parts) or "n/a"


def listing(results: Results) -> str:
    """Return the list of scenarios, each in a sentence, with the engines that refuse it or do not need it."""
    lines: list[str] = []
    for point, title in POINTS.items():
        lines += [f"### {point}: {title}", ""]
        for scenario in (one for one in SCENARIOS.values() if one.point == point):
            lines.append(f"- `{scenario.id}` {scenario.summary}")
            for verdict, what in (("cannot", "Refused by"), ("n/a", "Not applicable to")):
                rigs = [rig for (rig, key), found in results.items() if key == scenario.id and found == verdict]
                if rigs:
                    lines.append(f"  {what}: {', '.join(rigs)}.")
        lines.append("")
    return "\n".join(lines).rstrip()


def written(page: str, results: Results, rigs: Sequence[Rig]) -> str:
    """Return the page with the tables and the list between its marks. Raises BadInput without the marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"the page has no place for the table: it needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table(results)}\n\n{listing(results)}\n\n{FAULTS}\n\n{who_shows(rigs)}\n\n{END}{after}"


def write(path: Path, results: Results, rigs: Sequence[Rig]) -> None:
    """Write the tables into a page."""
    path.write_text(written(path.read_text(encoding="utf-8"), results, rigs), encoding="utf-8")
