"""The tables of what trials have shown and held, and the part of the page that keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from ...errors import BadInput
from ..scripted.manners import FAULTS
from .rig import Rig
from .trials import Played

BEGIN = "<!-- made by python -m duologue.testing.conformance --faults --write -->"
END = "<!-- end of the verdicts -->"

VERDICTS = ("holds", "weakened", "cannot", "FAIL")
ENGINE, FAULT = "engine", "fault"
"""The first headings of the two tables."""

Table: TypeAlias = dict[str, dict[str, str]]
"""The cells of each row by their column."""


def outcomes(played: Iterable[Played]) -> Table:
    """Return the number of trials of each verdict, with a row for each engine."""
    counts: dict[str, Counter[str]] = {}
    for one in played:
        counts.setdefault(one.rig, Counter())["FAIL" if one.failed else one.verdict] += 1
    return {
        rig: {"seeds": str(own.total())} | {verdict: str(own[verdict]) for verdict in VERDICTS}
        for rig, own in counts.items()
    }


def by_fault(played: Sequence[Played]) -> Table:
    """Return the number of trials in which each fault was shown, with a column for each engine, and those weakened."""
    rigs = list(dict.fromkeys(one.rig for one in played))
    table: Table = {}
    for fault in FAULTS:
        row = table[f"`{fault}`"] = {}
        for rig in rigs:
            shown = [one.verdict for one in played if one.rig == rig and fault in one.shown]
            weakened = shown.count("weakened")
            row[rig] = f"{len(shown)}, {weakened} weakened" if weakened else str(len(shown) or "")
    return table


def who_shows(rigs: Sequence[Rig]) -> str:
    """Return the table of faults and far ends, with what each fault may cost, in Markdown."""
    parts = list(dict.fromkeys(part for rig in rigs for part in rig.parts))
    cost = "may cost the answer"
    table: Table = {
        f"`{fault.name}`": {part: "yes" if part in fault.parts else "" for part in parts}
        | {cost: "yes" if fault.costs else ""}
        for fault in FAULTS.values()
    }
    meanings = [f"- `{fault.name}`: {fault.summary}" for fault in FAULTS.values()]
    ends = [f"- {rig.name}: {', '.join(f'`{part}`' for part in rig.parts)}" for rig in rigs]
    tables = (markdown(FAULT, table), "\n".join(meanings), "The far ends of each engine:", "\n".join(ends))
    return "\n\n".join(tables)


def markdown(corner: str, table: Table) -> str:
    """Return a table in Markdown. `corner` is the heading of the first column."""
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    rows = [[corner, *columns], *([name, *(row.get(column, "") for column in columns)] for name, row in table.items())]
    widths = [max(len(row[place]) for row in rows) for place in range(1 + len(columns))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def parsed(text: str, corner: str) -> Table:
    """Return the table in a text whose first heading is `corner`, an empty one if there is none."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in _lines_of(text, corner)]
    return {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[2:]}


def _lines_of(text: str, corner: str) -> list[str]:
    table = next((part for part in text.split("\n\n") if part.lstrip().startswith(f"| {corner} ")), "")
    return table.strip().splitlines()


def kept(page: str) -> tuple[str, str, str]:
    """Return the page before the verdicts, the verdicts, and the page after them. Raises BadInput without the marks."""
    before, begin, rest = page.partition(BEGIN)
    verdicts, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"the page has no place for the verdicts: it needs the lines {BEGIN!r} and {END!r}")
    return before, verdicts, after


def updated(page: str, played: Sequence[Played], engines: Sequence[str]) -> str:
    """Return the page with the verdicts of these trials in the place of those of the same engines.

    `engines` are all engines, in the order of the page; the verdicts of others are left out. Raises BadInput without
    the marks.
    """
    before, verdicts, after = kept(page)
    rows = parsed(verdicts, ENGINE) | outcomes(played)
    faults, new = parsed(verdicts, FAULT), by_fault(played)
    cells = {fault: faults.get(fault, {}) | row for fault, row in new.items()}
    tables = [
        markdown(ENGINE, {engine: rows[engine] for engine in engines if engine in rows}),
        markdown(FAULT, {fault: {e: row[e] for e in engines if e in row} for fault, row in cells.items()}),
    ]
    return "\n\n".join([f"{before}{BEGIN}", *tables, f"{END}{after}"])


def update(path: Path, played: Sequence[Played], engines: Sequence[str]) -> None:
    """Write the verdicts of these trials into a page. See `updated`."""
    path.write_text(updated(path.read_text(encoding="utf-8"), played, engines), encoding="utf-8")
