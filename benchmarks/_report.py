"""The output of the benchmarks: a readable table, or one line of JSON with `--json`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def arguments(description: str, options: Mapping[str, float | int | str] | None = None) -> argparse.Namespace:
    """Parse `--json` and the given options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    for name, default in (options or {}).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default {default}")
    return parser.parse_args()


def report(figures: Mapping[str, object], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps(dict(figures)))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value}")


def cpu_s(pid: int) -> float:
    """Return the CPU time in seconds that a process and all its threads have used. Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered) + 0.5) - 1))] if ordered else 0.0


def report_against(
    rows: Mapping[str, Mapping[str, float]], budgets: Mapping[str, float] | None = None, *, as_json: bool
) -> None:
    """Print a table with a row for each case, and with the budget of each figure, if it is given, in the last row."""
    rows = {**rows, "at most": budgets} if budgets else rows
    if as_json:
        print(json.dumps(rows))
        return
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["case", *names]]
    for case, row in rows.items():
        lines.append([case, *(str(row.get(name, "")) for name in names)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
