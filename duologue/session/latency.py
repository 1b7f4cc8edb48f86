"""The latency of each turn, from the end of the caller's speech to the first audio of the agent, by stage."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

from ..errors import MissingExtra
from ..frames import BotAudio, BotStartedSpeaking, BotText, EndOfTurn, Frame, ToolCall, ToolResult, UserTranscript
from ..processors.kernel.host import Direction
from ..processors.kernel.node import Node

STAGES = ("endpointing", "transcript", "tool", "first_token", "first_audio", "transport")
"""The stages of a turn's latency, in order. `tool` is the time in which tools ran before the first token, and
`first_token` the time of the model's requests before and after."""
SAME_SPEECH_S = 0.3
"""Two detectors place the end of the same speech at most this many seconds apart."""


class PushObserver(Protocol):
    """The part of a session that a `LatencyMeter` uses."""

    def now(self) -> float: ...
    def observe(self, tap: Callable[[Node, Direction, Frame], None]) -> Callable[[], None]: ...


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
    def total_ms(self) -> float | None:
        """Milliseconds from the end of the caller's speech to the first sound of the agent; None before that."""
        return None if self.heard is None else (self.heard - self.speech_end) * 1000


class LatencyMeter:
    """Observes every push of a session and keeps the latency of its last `limit` turns."""

    def __init__(self, session: PushObserver, limit: int = 1_000) -> None:
        self.turns: list[TurnLatency] = []
        self._session = session
        self._limit = limit
        self._open: TurnLatency | None = None
        self._tools: set[str] = set()  # calls that run
        self._tools_since = 0.0
        self._stop = session.observe(self._see)

    def __iter__(self) -> Iterator[TurnLatency]:
        return iter(turn for turn in self.turns if turn.total_ms is not None)

    def stop(self) -> None:
        """Stop observing."""
        self._stop()

    def _see(self, node: Node, direction: Direction, frame: Frame) -> None:
        now = self._session.now()
        if isinstance(frame, EndOfTurn):
            if self.turns and abs(self.turns[-1].speech_end - frame.at) < SAME_SPEECH_S:
                return  # another detector has found the end of the same speech
            if self._open is None or self._open.speech_end != frame.at:
                self._open = TurnLatency(0, frame.at, now)
                self._tools.clear()
                self.turns.append(self._open)
                del self.turns[: -self._limit]
            return
        turn = self._open
        if turn is None:
            return
        if isinstance(frame, ToolCall | ToolResult):
            if turn.first_token is None and turn.first_audio is None:
                self._see_tool(turn, frame, now)
        elif isinstance(frame, UserTranscript):
            if frame.final and turn.transcript is None:
                turn.transcript = now
        elif isinstance(frame, BotText):
            if turn.first_token is None:
                turn.turn, turn.first_token = frame.turn, now
        elif isinstance(frame, BotAudio):
            if turn.first_audio is None:
                turn.first_audio = now
        elif isinstance(frame, BotStartedSpeaking) and turn.first_audio is not None:
            turn.heard, self._open = now, None

    def _see_tool(self, turn: TurnLatency, frame: ToolCall | ToolResult, now: float) -> None:
        if isinstance(frame, ToolCall):
            if not self._tools:
                self._tools_since = now
            self._tools.add(frame.call_id)
        elif frame.call_id in self._tools:
            self._tools.discard(frame.call_id)
            if not self._tools:
                turn.tool_s += now - self._tools_since

    def median_ms(self) -> float:
        """Return the median of all turns' totals in milliseconds; 0 without turns."""
        totals = [turn.total_ms or 0.0 for turn in self]
        return median(totals) if totals else 0.0

    def write_csv(self, path: Path) -> None:
        """Write a row for each turn: number, end of speech in seconds, each stage and the total in milliseconds."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["turn", "speech_end_s", *(f"{stage}_ms" for stage in STAGES), "total_ms"])
            for turn in self:
                stages = [f"{ms:.1f}" for ms in turn.stages_ms.values()]
                writer.writerow([turn.turn, f"{turn.speech_end:.3f}", *stages, f"{turn.total_ms:.1f}"])

    def write_picture(self, path: Path, title: str = "Where each turn's time went") -> None:
        """Write a PNG with a stacked bar for each turn. Raises MissingExtra without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("matplotlib", "cli", str(error)) from error
        turns = list(self)
        figure = Figure(figsize=(8, 1.6 + 0.4 * max(1, len(turns))), layout="constrained")
        axes = figure.subplots()
        names = [f"turn {turn.turn}" for turn in turns]
        left = [0.0] * len(turns)
        for stage in STAGES:
            widths = [turn.stages_ms[stage] for turn in turns]
            axes.barh(names, widths, left=left, label=stage.replace("_", " "))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(f" {total:.0f} ms", (total, row), va="center", fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds after the end of the caller's speech")
        axes.set_title(f"{title} (median {self.median_ms():.0f} ms)", fontsize=11)
        axes.margins(x=0.12)
        axes.legend(ncols=len(STAGES), loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8, frameon=False)
        figure.savefig(path, dpi=120)
