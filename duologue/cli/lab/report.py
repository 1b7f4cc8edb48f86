"""The results as a table on the terminal, a CSV file and a picture."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from ...errors import BadInput, MissingExtra

NONE = "–"
NAME_WIDTH = 28


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that there are, None for none."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def times(factor: float, value: float | None) -> float | None:
    """Return a value times a factor, None for None."""
    return None if value is None else factor * value


def ms(seconds: float | None) -> str:
    """Return seconds as milliseconds, without the unit."""
    return NONE if seconds is None else f"{1000 * seconds:.0f}"


def percent(rate: float | None) -> str:
    """Return a rate in percent, without the sign."""
    return NONE if rate is None else f"{100 * rate:.1f}"


def show(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: its first column is on the left, all others on the right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        width = None if number else NAME_WIDTH
        table.add_column(column, justify="right" if number else "left", no_wrap=not number, max_width=width)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def write_csv(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """Write a row for each of these dataclasses. None is an empty field. Raises BadInput for a path that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(kind)])
            writer.writeheader()
            for row in rows:
                writer.writerow({name: _plain(value) for name, value in asdict(row).items()})
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


class Picture:
    """A PNG of panels side by side. Raises MissingExtra without matplotlib."""

    def __init__(self, panels: int, services: int) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("matplotlib", "cli", str(error)) from error
        self._figure = Figure(figsize=(5 * panels, 2.4 + 0.35 * services), layout="constrained")
        self._axes = iter(self._figure.subplots(1, panels, squeeze=False)[0])

    def lines(self, title: str, places: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> None:
        """Draw a line for each service, with a point at each place that has a value."""
        axes = next(self._axes)
        for name, line in values.items():
            axes.plot(places, [float("nan") if value is None else value for value in line], marker="o", label=name)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)

    def points(self, title: str, x: str, y: str, values: Mapping[str, tuple[float, float]]) -> None:
        """Draw a named point for each of the values."""
        axes = next(self._axes)
        for name, (right, up) in values.items():
            axes.plot(right, up, marker="o")
            axes.annotate(f" {name}", (right, up), fontsize=7)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.margins(x=0.3)
        axes.set_ylim(bottom=0)

    def bars(
        self, title: str, values: Mapping[str, float | None], form: Callable[[float], str] = "{:.0f}".format
    ) -> None:
        """Draw a bar for each service that has a value."""
        axes = next(self._axes)
        there = {name: value for name, value in values.items() if value is not None}
        axes.barh(list(there), list(there.values()))
        for row, value in enumerate(there.values()):
            axes.annotate(f" {form(value)}", (value, row), va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.set_xlim(left=0)

    def save(self, path: Path) -> None:
        """Write the picture."""
        self._figure.savefig(path, dpi=120)
