"""`CallView`: a call, live in the terminal: the speakers, their words, the active agent, the latency of each turn."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..session import Session
from ..session.call_events import (
    Failed,
    FeedEvent,
    FrustrationMoved,
    HandedOff,
    MessageChanged,
    MessageGone,
    Noted,
    ServiceMoved,
    Speaking,
    SpeechCut,
    SpeechHeld,
    ToolChanged,
    WordsGuarded,
)
from ..session.item import Item, row_text
from ..session.latency import STAGES, LatencyMeter

COLOURS = ("cyan", "magenta", "yellow", "green")
ROWS_IN_VIEW = 24
"""The largest number of rows in view."""
NOTE = "·"
"""The speaker of a row that is a note and not speech."""


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A row of the view: the `text` of the speaker `who`, with the `rest` that is still to be heard.

    It replaces the row with the same `key`. A row that is `done` does not change any more; `gone` removes it.
    """

    key: str
    at: float
    who: str = NOTE
    text: str = ""
    style: str = ""
    rest: str = ""
    done: bool = True
    gone: bool = False

    def render(self) -> Text:
        """Return the row in its colours."""
        body = (self.text, self.style if self.who == NOTE else "")
        return Text.assemble((f"{self.at:7.2f}  ", "dim"), (f"{self.who:<11} ", self.style), body, (self.rest, "dim"))


class ViewRows:
    """Translates a call's events into rows of the view."""

    def __init__(self) -> None:
        self.interim = ""
        """The caller's words that are not final."""
        self.speaking = {"caller": False, "agent": False}
        self._interim_id = ""
        self._colours: dict[str, str] = {}
        self._notes = 0

    def colour(self, agent: str) -> str:
        """Return the colour of an agent."""
        return self._colours.setdefault(agent, COLOURS[len(self._colours) % len(COLOURS)])

    def translate(self, event: FeedEvent) -> ViewRow | None:
        """Return the row that an event adds or changes, None if it does neither."""
        match event:
            case Speaking():
                self.speaking[event.who] = event.speaking
            case MessageChanged():
                return self._message(event)
            case MessageGone():
                if event.id == self._interim_id:
                    self.interim = ""
                return ViewRow(event.id, event.at, gone=True)
            case ToolChanged(state="called" | "changed"):
                arguments = ", ".join(f"{key}={value!r}" for key, value in event.arguments.items())
                return ViewRow(f"call {event.call_id}", event.at, text=f"{event.name}({arguments})", style="blue")
            case ToolChanged(state="answered"):
                text = f"{event.name} → {event.result}"
                return ViewRow(f"result {event.call_id}", event.at, text=text, style="blue")
            case SpeechCut():
                return self._note(event.at, f"the caller interrupts after {event.heard_s:.1f} s", "red")
            case SpeechHeld():
                if "caller" not in event.owners:
                    return None
                text = "the agent pauses: an interruption?" if event.held else "the agent goes on: a false alarm"
                return self._note(event.at, text, "dim")
            case HandedOff():
                return self._handoff(event)
            case ServiceMoved():
                return self._note(event.at, f"{event.target} replaces {event.source}: {event.reason}", "yellow")
            case WordsGuarded():
                return self._note(
                    event.at, f"{event.guardrail} {event.action}: {event.reason or event.cause}", "yellow"
                )
            case FrustrationMoved():
                return self._note(event.at, str(event), "yellow")
            case Noted(item=Item(name="consent") as item):
                return self._note(event.at, row_text(item), "yellow")
            case Failed():
                return self._note(event.at, f"{event.processor}: {event.message}", "red")
        return None

    def _message(self, event: MessageChanged) -> ViewRow | None:
        item = event.item
        if item.role == "agent":
            heard, rest = event.text[: event.heard_chars], event.text[event.heard_chars :]
            if event.final and item.status == "interrupted":
                heard += " ✂"
            who, style = item.agent or "agent", self.colour(item.agent)
            return ViewRow(item.id, item.at, who, heard, style, rest, done=event.final)
        self._interim_id, self.interim = item.id, "" if event.final else event.text
        return ViewRow(item.id, item.at, "caller", event.text, "bold white") if event.final and event.text else None

    def _handoff(self, event: HandedOff) -> ViewRow | None:
        if event.state == "failed":
            return self._note(event.at, f"hand-off to {event.target} failed: {event.error}", "red")
        if event.state == "started":
            return None
        moved = f"{event.source} hands over to {event.target}"
        if event.source == event.target:
            moved = f"{event.target} goes on with engine {event.engine}"
        return self._note(event.at, f"{moved}: {event.reason} [{event.gap_ms:.1f} ms]", "green")

    def _note(self, at: float, text: str, style: str) -> ViewRow:
        self._notes += 1
        return ViewRow(f"note {self._notes}", at, text=text, style=style)


class CallView:
    """A context manager that shows a session while it runs. Without a terminal it prints each row once."""

    def __init__(self, session: Session, meter: LatencyMeter, console: Console | None = None) -> None:
        self._session, self._meter = session, meter
        self._console = console or Console()
        self._rows: dict[str, ViewRow] = {}
        self._translation = ViewRows()
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=10,
            transient=True,
            vertical_overflow="crop",
        )
        self._stop = session.feed.on(self._happened)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()
        if self._console.is_terminal:
            self._live.stop()
            for row in self._rows.values():
                self._console.print(row.render())
        self._console.print(self._latencies())

    def _happened(self, event: FeedEvent) -> None:
        row = self._translation.translate(event)
        if row is None:
            return
        if row.gone:
            self._rows.pop(row.key, None)
            return
        before = self._rows.get(row.key)
        self._rows[row.key] = row
        if row.done and not (before is not None and before.done) and not self._console.is_terminal:
            self._console.print(row.render(), soft_wrap=True)

    # -- how it looks ----------------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        agent, translation = self._session.agent, self._translation
        name = agent.name if agent else "agent"
        caller, speaks = ("bold white", f"bold {translation.colour(name)}")
        head = Text.assemble(
            (f" {self._session.now():6.1f} s  ", "dim"),
            ("● caller ", caller if translation.speaking["caller"] else "bright_black"),
            (f"● {name} ", speaks if translation.speaking["agent"] else "bright_black"),
            (f"  {translation.interim}", "italic dim"),
        )
        rows = [row.render() for row in list(self._rows.values())[-ROWS_IN_VIEW:]]
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
