"""The latency of each turn, from the end of the caller's speech to the first audio of the agent, by stage."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

from ..errors import MissingExtra
from .call_events import CallEvent, FeedEvent, Recognised, ResponseReached, Speaking, ToolChanged, TurnOver, TurnTimed

STAGES = ("endpointing", "transcript", "tool", "first_token", "first_audio", "transport")
"""The stages of a turn's latency, in order. `tool` is the time in which tools ran before the first token, and
`first_token` the time of the model's requests before and after."""
TARGETS_MS = {"endpointing": 200.0, "transcript": 200.0, "first_token": 400.0, "first_audio": 200.0, "total": 500.0}
"""Milliseconds that good calls reach, by stage: the usual delay of a detector of speech, the quick end of
speech-to-text and of text-to-speech services (200 to 500), the thinking of a model (200 to 400), and an answer that
feels immediate. Tools and the network have none."""
MOST_MS = 3_600_000.0
"""The longest stage of a recorded turn."""
MAX_BARS = 200
"""Turns in a picture: the latest."""
EVENTS: tuple[type[CallEvent], ...] = (TurnOver, Recognised, ResponseReached, Speaking, ToolChanged)
"""The events of a call from which the latencies follow."""


class Watched(Protocol):
    """The part of a feed that a `LatencyMeter` uses."""

    def on(self, listener: Callable[[FeedEvent], None], *kinds: type[CallEvent]) -> Callable[[], None]: ...


class WithFeed(Protocol):
    """The part of a session that a `LatencyMeter` uses."""

    @property
    def feed(self) -> Watched: ...


@dataclass(slots=True)
class TurnLatency:
    """The times of one turn, in session time. None for a point that the turn did not reach."""

    turn: int
    speech_end: float
    turn_end: float
    transcript: float | None = None
    first_token: float | None = None
    first_audio: float | None = None
    heard: float | None = None
    tool_s: float = 0.0
    """Seconds in which tools ran before the first token."""
    call: str = ""
    """The name of the call, where turns of several calls stand together."""

    @classmethod
    def recorded(cls, event: TurnTimed, call: str = "") -> TurnLatency:
        """Return the latency of a turn from its event in a recorded call."""
        ms = {stage: min(max(0.0, event.stages_ms.get(stage, 0.0)), MOST_MS) for stage in STAGES}
        speech_end = event.at - sum(ms.values()) / 1000
        turn_end = speech_end + ms["endpointing"] / 1000
        transcript = turn_end + ms["transcript"] / 1000
        token = transcript + (ms["tool"] + ms["first_token"]) / 1000
        audio = token + ms["first_audio"] / 1000
        return cls(event.turn, speech_end, turn_end, transcript, token, audio, event.at, ms["tool"] / 1000, call)

    @property
    def stages_ms(self) -> dict[str, float]:
        """The milliseconds of each of `STAGES`; they add up to `total_ms`. A stage that did not happen has 0."""
        times = [self.turn_end, self.transcript, None, self.first_token, self.first_audio, self.heard]
        out, before = {}, self.speech_end
        for stage, time in zip(STAGES, times, strict=True):
            out[stage] = max(0.0, (time - before) * 1000) if time is not None else 0.0
            before = max(before, time) if time is not None else before
        answer = "first_token" if self.first_token is not None else "first_audio"
        out["tool"] = min(self.tool_s * 1000, out[answer])
        out[answer] -= out["tool"]
        return out

    @property
    def owner(self) -> str:
        """The stage that took the most of the time."""
        stages = self.stages_ms
        return max(stages, key=lambda stage: stages[stage])

    @property
    def total_ms(self) -> float | None:
        """Milliseconds from the end of the caller's speech to the first sound of the agent; None before that."""
        return None if self.heard is None else (self.heard - self.speech_end) * 1000


class LatencyMeter:
    """Takes the events of a call, live from a session's feed or recorded, and keeps the latency of its last turns.

    Without a session the events are given to `take`. At most `limit` turns are kept.
    """

    def __init__(self, session: WithFeed | None = None, limit: int = 1_000) -> None:
        self.turns: list[TurnLatency] = []
        self._limit = limit
        self._open: TurnLatency | None = None
        self._tools: set[str] = set()  # calls that run
        self._tools_since = 0.0
        self._stop = session.feed.on(self.take, *EVENTS) if session is not None else lambda: None

    @classmethod
    def of(cls, events: Iterable[FeedEvent], limit: int = 1_000) -> LatencyMeter:
        """Return the latencies of a recorded call."""
        meter = cls(limit=limit)
        for event in events:
            meter.take(event)
        return meter

    def __iter__(self) -> Iterator[TurnLatency]:
        return iter(turn for turn in self.turns if turn.total_ms is not None)

    def stop(self) -> None:
        """Take no further events of the session."""
        self._stop()

    def take(self, event: FeedEvent) -> None:
        """Take the next event of the call. Other events than `EVENTS` are ignored."""
        if isinstance(event, TurnOver):
            self._open = TurnLatency(0, event.speech_end_s, event.at)
            self._tools.clear()
            self.turns.append(self._open)
            del self.turns[: -self._limit]
        elif (turn := self._open) is not None:
            self._see(turn, event)

    def _see(self, turn: TurnLatency, event: FeedEvent) -> None:
        match event:
            case ToolChanged() if turn.first_token is None and turn.first_audio is None:
                self._see_tool(turn, event)
            case Recognised(final=True) if turn.transcript is None:
                turn.transcript = event.at
            case ResponseReached(point="text") if turn.first_token is None:
                turn.turn, turn.first_token = event.turn, event.at
            case ResponseReached(point="audio") if turn.first_audio is None:
                turn.turn, turn.first_audio = event.turn, event.at
            case Speaking(who="agent", speaking=True) if turn.first_audio is not None:
                turn.heard, self._open = event.at, None

    def _see_tool(self, turn: TurnLatency, event: ToolChanged) -> None:
        if event.state == "called":
            if not self._tools:
                self._tools_since = event.at
            self._tools.add(event.call_id)
        elif event.state in ("running", "answered") and event.call_id in self._tools:
            self._tools.discard(event.call_id)
            if not self._tools:
                turn.tool_s += event.at - self._tools_since

    def median_ms(self) -> float:
        """Return the median of all turns' totals in milliseconds; 0 without turns."""
        totals = [turn.total_ms or 0.0 for turn in self]
        return median(totals) if totals else 0.0

    def write_csv(self, path: Path) -> None:
        """Write a row for each turn: its number, the end of speech in seconds, each stage and the total in ms.

        The last columns are the stage that took the most, and the name of the call.
        """
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["turn", "speech_end_s", *(f"{stage}_ms" for stage in STAGES), "total_ms", "owner", "call"])
            for turn in self:
                stages = [f"{ms:.1f}" for ms in turn.stages_ms.values()]
                row = [turn.turn, f"{turn.speech_end:.3f}", *stages, f"{turn.total_ms:.1f}", turn.owner, turn.call]
                writer.writerow(row)

    def write_picture(self, path: Path, title: str = "Where each turn's time went") -> None:
        """Write a PNG with a stacked bar for each turn. Raises MissingExtra without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("matplotlib", "cli", str(error)) from error
        turns = list(self)[-MAX_BARS:]
        figure = Figure(figsize=(8, 1.6 + 0.4 * max(1, len(turns))), layout="constrained")
        axes = figure.subplots()
        names = [f"{turn.call} turn {turn.turn}".lstrip() for turn in turns]
        rows = range(len(turns))
        left = [0.0] * len(turns)
        for stage in STAGES:
            widths = [turn.stages_ms[stage] for turn in turns]
            axes.barh(rows, widths, left=left, label=stage.replace("_", " "))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(f" {total:.0f} ms", (total, row), va="center", fontsize=9)
        axes.set_yticks(rows, names)
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds after the end of the caller's speech")
        axes.set_title(f"{title} (median {self.median_ms():.0f} ms)", fontsize=11)
        axes.margins(x=0.12)
        axes.legend(ncols=len(STAGES), loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8, frameon=False)
        figure.savefig(path, dpi=120)
