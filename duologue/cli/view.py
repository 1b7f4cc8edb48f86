"""A call, live in the terminal: who speaks, text as it comes, who has the call, the latency of each turn."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..frames import (
    BotPaused,
    BotResumed,
    ErrorRaised,
    Frame,
    HandoffCompleted,
    HandoffFailed,
    Interrupted,
    ToolCall,
    ToolResult,
    UserTranscript,
)
from ..processors.kernel.host import Direction
from ..processors.processor import Processor
from ..session import Item, Session
from ..session.latency import STAGES, LatencyMeter

COLOURS = ("cyan", "magenta", "yellow", "green")
ROWS = 24
"""Rows of the conversation that stay in view."""


class CallView:
    """Shows a session while it runs; a context manager. Without a terminal it prints a line for each thing said."""

    def __init__(self, session: Session, meter: LatencyMeter, console: Console | None = None) -> None:
        self._session, self._meter = session, meter
        self._console = console or Console()
        self._rows: dict[str, Text] = {}
        self._interim = ""
        self._agents: dict[str, str] = {}
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=10,
            transient=True,
            vertical_overflow="crop",
        )
        session.conversation.listen(self._item)
        self._stop = session.observe(self._frame)
        session.on(Interrupted, lambda s: self._note(f"the caller interrupts after {s.heard_s:.1f} s", "red"))
        session.on(BotPaused, lambda s: self._note("the agent pauses: an interruption?", "dim"))
        session.on(BotResumed, lambda s: self._note("the agent goes on: it was none", "dim"))
        session.on(HandoffCompleted, self._handoff)
        session.on(HandoffFailed, lambda s: self._note(f"hand-off to {s.target} failed: {s.error}", "red"))
        session.on(ErrorRaised, lambda s: self._note(f"{s.processor}: {s.message}", "red"))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()
        if self._console.is_terminal:
            self._live.stop()
            for row in self._rows.values():
                self._console.print(row)
        self._console.print(self._latencies())

    # -- what happens ----------------------------------------------------------------------------------------------

    def _colour(self, agent: str) -> str:
        return self._agents.setdefault(agent, COLOURS[len(self._agents) % len(COLOURS)])

    def _item(self, item: Item) -> None:
        if item.kind != "message":
            return
        if item.role == "caller":
            if not item.text:
                return  # its transcript is still to come
            self._interim = ""
            self._put(item.id, item.at, "caller", item.text, "bold white", done=True)
        elif item.text:
            cut = " ✂" if item.status == "interrupted" else ""
            self._put(item.id, item.at, item.agent or "agent", item.text + cut, self._colour(item.agent), done=True)

    def _frame(self, processor: Processor, direction: Direction, frame: Frame) -> None:
        if isinstance(frame, UserTranscript) and not frame.final:
            self._interim = frame.text
        elif isinstance(frame, ToolCall):
            arguments = ", ".join(f"{key}={value!r}" for key, value in frame.arguments.items())
            self._note(f"{frame.name}({arguments})", "blue", key=f"call {frame.call_id}")
        elif isinstance(frame, ToolResult):
            self._note(f"{frame.name} → {frame.result}", "blue", key=f"result {frame.call_id}")

    def _handoff(self, signal: HandoffCompleted) -> None:
        if signal.source == signal.target:
            text = f"{signal.target} goes on with engine {signal.engine}: {signal.reason} [{signal.gap_ms:.1f} ms]"
            self._note(text, "green")
            return
        self._note(f"{signal.source} hands over to {signal.target}: {signal.reason} [{signal.gap_ms:.1f} ms]", "green")

    def _note(self, text: str, style: str, key: str = "") -> None:
        key = key or f"note {len(self._rows)} {self._session.now():.3f}"
        self._put(key, self._session.now(), "·", text, style, done=key not in self._rows)

    def _put(self, key: str, at: float, who: str, text: str, style: str, *, done: bool) -> None:
        row = Text.assemble((f"{at:7.2f}  ", "dim"), (f"{who:<11} ", style), (text, style if who == "·" else ""))
        self._rows[key] = row
        if done and not self._console.is_terminal:
            self._console.print(row, soft_wrap=True)

    # -- how it looks ----------------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        floor, agent = self._session.floor, self._session.agent
        name = agent.name if agent else "agent"
        head = Text.assemble(
            (f" {self._session.now():6.1f} s  ", "dim"),
            ("● caller ", "bold white" if floor.caller_speaking else "bright_black"),
            (f"● {name} ", f"bold {self._colour(name)}" if floor.agent_speaking else "bright_black"),
            (f"  {self._interim}", "italic dim"),
        )
        for response in self._session.ledger.unsettled:
            if response.text:
                # What has been heard stands out from what is still to be said.
                heard = response.heard().text
                rest = response.text[len(heard) :] if response.text.startswith(heard) else ""
                before = self._rows.get(response.id)
                at = before.plain[:7] if before is not None else f"{self._session.now():7.2f}"
                self._rows[response.id] = Text.assemble(
                    (f"{at}  ", "dim"),
                    (f"{response.agent or 'agent':<11} ", self._colour(response.agent)),
                    heard,
                    (rest, "dim"),
                )
        rows = list(self._rows.values())[-ROWS:]
        return Group(
            Panel(Group(*rows), title=f"duologue · {self._session.state.value}", border_style="bright_black"),
            head,
            self._latencies(),
        )

    def _latencies(self) -> RenderableType:
        turns = list(self._meter)
        if not turns:
            return Text("")
        table = Table(*(["turn"] + [s.replace("_", " ") for s in STAGES] + ["total ms"]), box=None, padding=(0, 2))
        for turn in turns[-6:]:
            table.add_row(
                str(turn.turn), *(f"{ms:.0f}" for ms in turn.stages_ms.values()), f"[bold]{turn.total_ms:.0f}"
            )
        table.add_row("", *[""] * (len(STAGES) - 1), "median", f"[bold]{self._meter.median_ms():.0f}")
        return table
