"""The figures of the bench, with bootstrap confidence intervals of 95 %."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .echo import EchoResult
from .endpoints import TurnResult
from .events import EventResult

R = TypeVar("R")
ROUNDS = 1_000
CONFIDENCE = 95.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the ends of its confidence interval. NaN if there was nothing to count."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        digits = 1 if abs(self.value) < 100 else 0
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def figure(statistic: Callable[[Any], Any], rows: Iterable[Sequence[float]]) -> Figure:
    """Return a statistic of rows of numbers, and its interval: rows are drawn anew, with repetition.

    The statistic takes tables, rows in their last dimension but one, and gives a number for each table.
    """
    table = np.array(list(rows), float)
    if not len(table):
        return Figure(np.nan, np.nan, np.nan)
    drawn = statistic(table[np.random.default_rng(8).integers(len(table), size=(ROUNDS, len(table)))])
    drawn = drawn[~np.isnan(drawn)]
    edge = (100 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, (edge, 100 - edge)) if len(drawn) else (np.nan, np.nan)
    return Figure(float(statistic(table)), float(low), float(high))


def ratio(rows: Iterable[tuple[float, float]], factor: float = 100.0) -> Figure:
    """Return the events in each 100 chances (or `factor`). A row has the events and the chances of one unit."""

    def share(table: Any) -> Any:
        chances = table[..., 1].sum(-1)
        return factor * table[..., 0].sum(-1) / np.where(chances > 0, chances, np.nan)

    return figure(share, rows)


def percentile(values: Iterable[float | None], percent: float) -> Figure:
    """Return a percentile of the values that there are."""
    there = [(value,) for value in values if value is not None]
    return figure(lambda table: np.percentile(table[..., 0], percent, axis=-1), there)


def mean(values: Iterable[float | None]) -> Figure:
    """Return the mean of the values that there are."""
    return figure(lambda table: table[..., 0].mean(-1), [(value,) for value in values if value is not None])


def _in_ms(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else 1000 * value for value in values]


def _share(results: Sequence[R], holds: Callable[[R], bool]) -> Figure:
    return ratio((float(holds(result)), 1.0) for result in results)


def turn_figures(results: Sequence[TurnResult]) -> dict[str, Figure]:
    """Return the figures of endpoints. A turn is the unit that is drawn."""
    decisions = _in_ms(result.decision_s for result in results)
    return {
        "cut-offs per 100 pauses": ratio(
            (float(sum(cut for _, cut in result.pauses)), float(len(result.pauses))) for result in results
        ),
        "ends missed %": _share(results, lambda result: result.decision_s is None),
        "cuts inside speech": ratio(((float(result.cuts_inside), 1.0) for result in results), len(results)),
        "decision p50 ms": percentile(decisions, 50),
        "decision mean ms": mean(decisions),
        "decision p95 ms": percentile(decisions, 95),
        "stray ends per 100 turns": ratio((float(result.strays), 1.0) for result in results),
        "response rate %": _share(results, lambda result: result.answer_s is not None),
        "response time ms": percentile(_in_ms(result.answer_s for result in results), 50),
        "interrupts the caller %": _share(results, lambda result: result.talked_over),
    }


def _kind(results: Sequence[EventResult], *kinds: str) -> list[EventResult]:
    return [result for result in results if result.kind in kinds]


def sound_figures(results: Sequence[EventResult]) -> dict[str, Figure]:
    """Return the figures of sounds, backchannels and words for others."""
    sounds, backchannels, asides = (_kind(results, kind) for kind in ("sound", "backchannel", "aside"))
    return {
        "sounds that stop the agent per 100": _share(sounds, lambda result: result.stopped or result.answered),
        "sounds that leave a seam per 100": _share(sounds, lambda result: result.seam),
        "backchannels that cost the turn per 100": _share(backchannels, lambda result: result.cost_turn),
        "backchannels that stop the agent per 100": _share(backchannels, lambda result: result.stopped),
        "backchannels with an audible seam per 100": _share(backchannels, lambda result: result.seam),
        "seam p50 ms": percentile(_in_ms(r.silent_s for r in backchannels if not r.interrupted and r.seam), 50),
        "answers damaged per 100": _share(results, lambda result: result.damaged),
        "backchannels ignored %": _share(backchannels, lambda result: result.ignored),
        "not-for-it ignored %": _share([*sounds, *asides], lambda result: result.ignored),
    }


def interruption_figures(results: Sequence[EventResult]) -> dict[str, Figure]:
    """Return the figures of interruptions."""
    found = _kind(results, "interruption")
    yields = _in_ms(result.yield_s for result in found)
    return {
        "yields %": _share(found, lambda result: result.interrupted),
        "interruption to silence p50 ms": percentile(yields, 50),
        "interruption to silence p95 ms": percentile(yields, 95),
        "heard from the first sample %": _share(found, lambda result: result.whole),
    }


def echo_figures(results: Sequence[EchoResult]) -> dict[str, Figure]:
    """Return the figures of the agent's echo."""
    return {"false stops per minute": ratio(((float(result.stops), result.seconds / 60) for result in results), 1.0)}


def as_json(figures: dict[str, Figure]) -> dict[str, Any]:
    """Return figures for JSON: each as its value, low and high end, None for nothing."""
    return {
        name: None if np.isnan(one.value) else [round(value, 2) for value in (one.value, one.low, one.high)]
        for name, one in figures.items()
    }
