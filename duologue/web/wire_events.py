"""`WireEvents`: a call's events for WebSocket clients that do not speak RTVI."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from ..session.call_events import CallBegan, CostChanged, FeedEvent, MessageChanged, Recognised, Speaking, StateMoved
from ..session.session import Session
from ..transports.client import ClientTransport
from ..transports.websocket.transport import WebSocketTransport
from .caller_controls import take_requests

REMEMBERED = 64
"""Messages of the agent that are remembered as sent. Beyond that the oldest are forgotten."""

WireEvent = tuple[str, dict[str, Any]]
"""The name of an event of `DuologueSerializer`, and its fields."""


class WireEvents:
    """Translates a call's events into wire events: the start of the call, transcripts, and the sides that speak.

    A message of the agent is sent when the caller begins to hear it, and once more, final, with its heard text.
    `started` has the fields of the first event. With `cost`, the cost of the call is sent too.
    """

    def __init__(self, *, cost: bool = False, **started: Any) -> None:
        self._cost = cost
        self._started = started
        self._running = False
        self._begun: deque[str] = deque(maxlen=REMEMBERED)
        self._final: deque[str] = deque(maxlen=REMEMBERED)

    def translate(self, event: FeedEvent) -> Iterator[WireEvent]:
        """Yield the wire events that follow from an event. The iterator must be exhausted."""
        match event:
            case CallBegan():
                self._running = True
                yield "session_started", self._started
            case StateMoved() if self._running and event.state != "ending":
                yield "state", {"state": event.state}
            case Speaking():
                who = "user" if event.who == "caller" else "assistant"
                yield "speaking", {"speaking": event.speaking, "who": who}
            case Recognised() if event.text:
                yield _transcription_event(event.text, "user", event.final)
            case MessageChanged() if event.item.role == "agent":
                yield from self._agent_said(event)
            case CostChanged() if self._cost:
                cost = event.cost
                fields = {name: round(getattr(cost, name), 6) for name in ("usd", "leg_usd", "per_minute_usd")}
                yield "cost", {**fields, "budget_usd": cost.budget_usd, "is_final": event.final}

    def _agent_said(self, event: MessageChanged) -> Iterator[WireEvent]:
        told = self._final if event.final else self._begun
        if event.item.id not in told and (event.final or event.heard_s > 0):
            told.append(event.item.id)
            yield _transcription_event(event.text, "assistant", event.final)


def _transcription_event(text: str, role: str, final: bool) -> WireEvent:
    return "transcription", {"text": text, "role": role, "is_final": final}


def attach(transport: ClientTransport, session: Session, *, cost: bool = False) -> None:
    """Send a session's events to its client, if the client is connected by a WebSocket; with `cost`, also its cost."""
    if not isinstance(transport, WebSocketTransport):
        return
    mode = {} if session.microphone.mode == "continuous" else {"mode": session.microphone.mode}
    events = WireEvents(
        **mode,
        cost=cost,
        session_id=transport.id,
        input_sample_rate=transport.serializer.input_sample_rate,
        output_sample_rate=transport.serializer.output_sample_rate,
    )

    take_requests(transport, session)

    def send(event: FeedEvent) -> None:
        for name, fields in events.translate(event):
            transport.send_event(name, **fields)

    session.feed.on(send)
