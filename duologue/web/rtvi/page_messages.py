"""`PageMessages`: a call's events as messages of types `duologue.…` for the page, in addition to RTVI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ...frames import Usage
from ...session.call_events import (
    AccessSwitched,
    CallEnding,
    ConnectionMoved,
    CostChanged,
    FeedEvent,
    HandedOff,
    ServiceMoved,
    SpeechHeld,
    StateMoved,
    ToolChanged,
    TurnTimed,
    UsageReported,
)
from ...session.cost import Cost
from ...session.rows import Row, to_row
from .client import FunctionCallReport

MAX_WANTED = 100
"""Tool calls that wait for approval. Beyond that the oldest are forgotten."""

PageMessage = dict[str, Any]


class PageMessages:
    """Makes the page's messages: the active agent and engine, rows, hand-offs, times, cost, approvals.

    `state()` returns the present fields of `duologue.state`. `may` has the controls of the client: messages about
    anything else are left out. `function_calls` says what the rows of tool calls show: see `RtviClient`.
    """

    def __init__(
        self,
        session_id: str,
        state: Callable[[], Mapping[str, Any]],
        may: frozenset[str],
        function_calls: FunctionCallReport = "name",
        *,
        started_at: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._session_id, self._started_at, self._state = session_id, started_at, state
        self._may, self._function_calls = may, function_calls
        self._wanted: dict[str, ToolChanged] = {}
        self._totals: tuple[Usage, ...] = ()

    def waits_for_approval(self, call_id: str) -> bool:
        """Return True while a tool call waits for its approval."""
        return call_id in self._wanted

    def begin(self, log: Iterable[FeedEvent], totals: Iterable[Usage], cost: Cost) -> Iterator[PageMessage]:
        """Yield the messages that bring a page up to date, once it is ready. `log` is the feed's."""
        yield _page_message("state", **self._state())
        if "usage" in self._may:
            self._totals = tuple(totals)
            yield self._usage(cost)
        if "approve" in self._may:
            for wanted in self._wanted.values():
                yield _approval_wanted(wanted)
        for event in log:
            yield from self._row(event)

    def translate(self, event: FeedEvent) -> Iterator[PageMessage]:
        """Yield the messages that follow from an event. The iterator must be exhausted."""
        yield from self._row(event)
        match event:
            case HandedOff():
                if "agents" in self._may:
                    yield _handoff(event)
                if event.state == "completed":
                    yield _page_message("state", **self._state())
            case StateMoved() if event.state != "ending":
                yield _page_message("state", **self._state())
            case AccessSwitched():
                yield _page_message("state", **self._state())
            case ConnectionMoved() if "connections" in self._may:
                fields = {name: getattr(event, name) for name in ("engine", "state", "reason", "how")}
                yield _page_message("connection", **fields, gap_ms=round(event.gap_ms, 1))
            case ServiceMoved() if "connections" in self._may:
                fields = {name: getattr(event, name) for name in ("kind", "source", "target", "reason")}
                yield _page_message("service", **fields)
            case SpeechHeld():
                yield _page_message("hold", held=event.held)
            case ToolChanged(state="waiting") if "approve" in self._may:
                self._wanted[event.call_id] = event
                while len(self._wanted) > MAX_WANTED:
                    del self._wanted[next(iter(self._wanted))]
                yield _approval_wanted(event)
            case ToolChanged(state="approved" | "denied") if "approve" in self._may:
                yield _approval_given(event, self._wanted.pop(event.call_id, None))
            case UsageReported():
                self._totals = event.totals
            case CostChanged() if "usage" in self._may:
                yield self._usage(event.cost)
            case TurnTimed() if "latency" in self._may:
                yield _turn_times(event)
            case CallEnding():
                yield _page_message("ended", reason=event.reason)

    def _row(self, event: FeedEvent) -> Iterator[PageMessage]:
        row = to_row(event, self._session_id, self._started_at())
        if isinstance(row, Row):
            row = self._seen(row)
        if row is not None:
            yield _page_message("row", row=msgspec.to_builtins(row, str_keys=True))

    def _seen(self, row: Row) -> Row | None:
        """Return the part of a row that the client may see, None for none of it."""
        if (
            row.type == "message"
            or (row.type, row.role) == ("note", "agent")
            or (row.type == "handoff" and "agents" in self._may)
        ):
            return row
        if row.type not in ("tool_call", "tool_result") or self._function_calls == "none":
            return None  # any other note is the application's
        if self._function_calls == "full":
            return row
        metadata = {name: value for name, value in row.metadata.items() if name != "data"}
        return msgspec.structs.replace(row, message="", metadata=metadata)

    def _usage(self, cost: Cost) -> PageMessage:
        usd = {(one.service, one.model): one.usd for one in cost.by_service}
        services = [
            {
                "service": total.service,
                "model": total.model,
                "input_tokens": total.input_tokens,
                "output_tokens": total.output_tokens,
                "input_audio_s": round(total.input_audio_s, 2),
                "output_audio_s": round(total.output_audio_s, 2),
                "connection_s": round(total.connection_s, 2),
                "characters": total.characters,
                "cost_usd": usd.get((total.service, total.model)),
            }
            for total in self._totals
        ]
        return _page_message(
            "usage",
            services=services,
            cost_usd=cost.usd,
            leg_usd=cost.leg_usd,
            estimated_usd=cost.estimated_usd,
            per_minute_usd=cost.per_minute_usd,
            budget_usd=cost.budget_usd,
            unpriced=list(cost.unpriced),
        )


def _page_message(name: str, /, **fields: Any) -> PageMessage:
    return {"type": f"duologue.{name}", **fields}


def _handoff(event: HandedOff) -> PageMessage:
    names = ("state", "source", "target", "reason", "summary", "engine", "error")
    fields = {name: getattr(event, name) for name in names}
    return _page_message("handoff", **fields, gap_ms=round(event.gap_ms, 1), at=round(event.at, 3))


def _turn_times(event: TurnTimed) -> PageMessage:
    return _page_message(
        "latency",
        turn=event.turn,
        stages={stage: round(ms, 1) for stage, ms in event.stages_ms.items()},
        total_ms=round(event.total_ms, 1),
        median_ms=round(event.median_ms, 1),
    )


def _approval_wanted(event: ToolChanged) -> PageMessage:
    return _page_message(
        "approval",
        state="wanted",
        call_id=event.call_id,
        name=event.name,
        arguments=event.arguments,
        agent=event.agent,
    )


def _approval_given(event: ToolChanged, wanted: ToolChanged | None) -> PageMessage:
    return _page_message(
        "approval",
        state="given",
        call_id=event.call_id,
        name=wanted.name if wanted else "",
        arguments=wanted.arguments if wanted else {},
        agent=wanted.agent if wanted else "",
        approved=event.state == "approved",
        by=event.by,
        reason=event.reason,
    )
