"""`CallSpans`: the spans of one call, made from the events of its feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..session.call_events import (
    CallBegan,
    CallEnding,
    CallEvent,
    ClientMoved,
    ConnectionMoved,
    CostChanged,
    Failed,
    FeedEvent,
    FrustrationMoved,
    HandedOff,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseReached,
    ServiceMoved,
    Speaking,
    SpeechCut,
    ToolChanged,
    ToolStarted,
    TurnTimed,
    UsageReported,
    WordsGuarded,
)
from . import names
from .errands import Errands
from .otel import Link, Span, SpanKind, otel_context, trace
from .services import ServicesAtWork
from .span_maker import MAX_WORDS, Attributes, OpenSpan, SpanMaker, cut_texts, json_text
from .turn_spans import TurnSpan, TurnSpans


class _ToolSpan:
    """A tool's call in progress."""

    def __init__(self, name: str, called_at: float, turn: TurnSpan | None, arguments: Any = None) -> None:
        self.name = name
        self.called_at = called_at
        self.turn = turn
        self.arguments = arguments
        self.began_at: float | None = None
        self.span: Span | None = None


class CallSpans:
    """Follows one call: its own span, and those of its turns, tools, hand-offs and connections.

    Spans that others refer to (the call, turns, tools) begin at once; the others are made when they are over.
    """

    def __init__(
        self,
        session: Any,
        tracer: trace.Tracer,
        errands: Errands,
        services: ServicesAtWork,
        *,
        words: bool = False,
        links: tuple[Link, ...] = (),
    ) -> None:
        self.call: Span | None = None
        self._session, self._services, self._links = session, services, links
        self._maker = SpanMaker(tracer, errands, words=words)
        self._turns = turns = TurnSpans(self._maker, services, session.conversation)
        self._noted: OpenSpan | None = None
        self._ended = False
        self._tools: dict[str, _ToolSpan] = {}
        self._handoff: HandedOff | None = None
        self._dialing: dict[str, ConnectionMoved] = {}
        self._takers: Mapping[type[CallEvent], Callable[[Any], None]] = {
            CallBegan: lambda event: None,
            CallEnding: self._end,
            ClientMoved: lambda e: self._note("client", e.at, {"duologue.client.state": e.state}),
            ConnectionMoved: self._connection,
            CostChanged: self._costs,
            Failed: self._error,
            HandedOff: self._handed_off,
            Recognised: turns.recognised,
            ResponseComplete: turns.complete,
            ResponseOpened: turns.opened,
            ResponseReached: turns.reached,
            ServiceMoved: self._service_moved,
            Speaking: turns.speaking,
            SpeechCut: turns.cut,
            ToolChanged: self._tool,
            ToolStarted: self._tool_started,
            TurnTimed: turns.timed,
            UsageReported: turns.used,
            FrustrationMoved: lambda event: self._note("frustration", event.at, _frustration(event)),
            WordsGuarded: self._guarded,
        }
        self.kinds = tuple(self._takers)
        """The types of events that it takes."""

    @property
    def traceparent(self) -> str:
        """The call's span as W3C's `traceparent`, "" before it has begun."""
        if self.call is None:
            return ""
        context = self.call.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def take(self, event: FeedEvent) -> None:
        """Take the next event of the call."""
        if self._ended or self._session.started_at is None:
            return
        if self.call is None:
            self._begin()
        if not isinstance(event, SpeechCut | Speaking):  # an interruption comes after the silence that it makes
            self._turns.settle()
        self._takers[type(event)](event)

    # -- the call --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._maker.began_ns = int(self._session.started_at.timestamp() * 1e9)
        attributes: Attributes = {names.CONVERSATION_ID: self._session.id}
        if self._session.agent is not None:
            attributes[names.AGENT_NAME] = self._session.agent.name
        self.call = self._maker.root("call", attributes, self._links)
        self._noted = OpenSpan(self.call)
        self._turns.begin(self.call)

    def _end(self, event: CallEnding) -> None:
        assert self.call is not None
        at, reason, category = event.at, names.known_reason(event.reason), self._turns.category
        for call_id in tuple(self._tools):
            self._tool_over(call_id, at, "cancelled")
        if self._handoff is not None:
            self._tell_handoff(self._handoff, at, "cancelled")
        for dialing in tuple(self._dialing.values()):
            self._tell_connection(dialing, at, "cancelled" if reason != "error" else category)
        self._turns.end(at)
        self.call.set_attributes(cut_texts({"duologue.end_reason": event.reason if self._maker.words else reason}))
        self.call.set_attributes(self._totals())
        if self._maker.left_out:
            self.call.set_attribute("duologue.spans_left_out", self._maker.left_out)
        self._ended = True
        self._maker.end(self.call, at, category if reason == "error" else "")

    def _totals(self) -> Attributes:
        used = list(self._session.usage)
        tokens = {
            names.INPUT_TOKENS: sum(one.input_tokens for one in used),
            names.OUTPUT_TOKENS: sum(one.output_tokens for one in used),
        }
        return {name: count for name, count in tokens.items() if count}

    def _costs(self, event: CostChanged) -> None:
        if self.call is not None:
            self.call.set_attribute("duologue.cost_usd", event.cost.usd - event.cost.carried_usd)

    # -- tools -----------------------------------------------------------------------------------------------------

    def _tool(self, event: ToolChanged) -> None:
        if event.state == "called" and event.item is not None:
            turn = self._turns.get(event.item.turn)
            self._tools[event.call_id] = _ToolSpan(
                self._tool_name(event.name), event.at, turn, arguments=event.arguments
            )
            if turn is not None:
                turn.tools.add(event.call_id)
        elif (tool := self._tools.get(event.call_id)) is None:
            return
        elif event.state == "changed":
            tool.arguments = event.arguments
        elif event.state == "running":
            self._untie(event.call_id, tool, event.at)
        elif event.state == "answered":
            self._tool_over(event.call_id, event.at, names.tool_failure(event.result), event.result)

    def _tool_name(self, name: str) -> str:
        return name if self._maker.words or self._services.knows_tool(name) else names.UNKNOWN

    def _tool_started(self, event: ToolStarted) -> None:
        tool = self._tools.get(event.call_id)
        if tool is None:
            tool = _ToolSpan(self._tool_name(event.name), event.at, self._turns.get(event.turn))
            self._tools[event.call_id] = tool
        tool.began_at = event.at
        tool.span = self._start_tool(event.call_id, tool, event.at)
        # This runs in the task of the tool's function: spans that the function makes are children of this one.
        otel_context.attach(trace.set_span_in_context(tool.span))

    def _start_tool(self, call_id: str, tool: _ToolSpan, at: float) -> Span:
        attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool.name,
            names.TOOL_CALL_ID: call_id,
            names.TOOL_TYPE: "function",
            names.CONVERSATION_ID: self._session.id,
        }
        parent = tool.turn.span if tool.turn is not None else self.call
        assert parent is not None
        return self._maker.begin(f"{names.EXECUTE_TOOL} {tool.name}", at, attributes, parent)

    def _untie(self, call_id: str, tool: _ToolSpan, at: float) -> None:
        """Let the turn end without a tool."""
        if (turn := tool.turn) is not None and call_id in turn.tools:
            turn.tools.discard(call_id)
            turn.last_at = max(turn.last_at, at)

    def _tool_over(self, call_id: str, at: float, failed: str, result: Any = None) -> None:
        tool = self._tools.pop(call_id)
        span = tool.span or self._start_tool(call_id, tool, tool.called_at)
        if tool.began_at is not None:
            span.set_attribute("duologue.tool.wait_ms", round((tool.began_at - tool.called_at) * 1000, 3))
        if self._maker.words:
            content = {names.TOOL_ARGUMENTS: json_text(tool.arguments), names.TOOL_RESULT: json_text(result)}
            span.set_attributes(cut_texts(content, MAX_WORDS))
        self._maker.end(span, at, failed)
        self._untie(call_id, tool, at)

    # -- hand-offs and connections -----------------------------------------------------------------------------------

    def _handed_off(self, event: HandedOff) -> None:
        if event.state == "started":
            self._handoff = event
            return
        self._services.forget()
        begun = self._handoff
        if begun is None or begun.target != event.target:
            if event.state == "failed" and not self._maker.words:  # a model may have invented the name
                event = msgspec.structs.replace(event, target=names.UNKNOWN)
            begun = msgspec.structs.replace(event, at=event.at - event.gap_ms / 1000)
        self._tell_handoff(msgspec.structs.replace(event, at=begun.at), event.at, "handoff", done=event.state)

    def _tell_handoff(self, event: HandedOff, at: float, failure: str, done: str = "") -> None:
        self._handoff = None
        attributes: Attributes = {
            "duologue.handoff.source": event.source,
            "duologue.handoff.target": event.target,
            "duologue.handoff.gap_ms": round(event.gap_ms, 3),
            names.CONVERSATION_ID: self._session.id,
        }
        if event.engine:
            attributes["duologue.handoff.engine"] = event.engine
        if self._maker.words:
            attributes |= {"duologue.handoff.reason": event.reason, "duologue.handoff.summary": event.summary}
        turn = self._turns.present
        parent = turn.span if turn is not None else self.call
        assert parent is not None
        span = self._maker.begin(f"handoff {event.target}", event.at, attributes, parent)
        if done == "completed":
            self._turns.links = [Link(span.get_span_context(), {"duologue.link": "handoff"})]
        self._maker.end(span, at, "" if done == "completed" else failure)

    def _connection(self, event: ConnectionMoved) -> None:
        if event.state in ("connecting", "reconnecting", "refreshing"):
            self._dialing.setdefault(event.engine, event)
        elif event.state == "expiring":
            self._note("connection expiring", event.at, {"duologue.service": event.engine})
        elif (begun := self._dialing.get(event.engine)) is not None:
            failed = {"active": "", "lost": "connection", "closed": "cancelled"}.get(event.state, "connection")
            begun = msgspec.structs.replace(begun, how=event.how, gap_ms=event.gap_ms)
            self._tell_connection(begun, event.at, failed)

    def _tell_connection(self, begun: ConnectionMoved, at: float, failed: str) -> None:
        assert self.call is not None
        self._dialing.pop(begun.engine, None)
        service = self._services.of(begun.engine)
        attributes: Attributes = {"duologue.service": begun.engine, "duologue.connection.why": begun.state}
        attributes[names.CONVERSATION_ID] = self._session.id
        if service is not None:
            attributes[names.PROVIDER] = service.provider
        if begun.how:
            attributes["duologue.connection.how"] = begun.how
        if begun.gap_ms:
            attributes["duologue.connection.gap_ms"] = round(begun.gap_ms, 3)
        name, times = f"connect {begun.engine}", (begun.at, at)
        self._maker.tell(name, times, attributes, self.call, kind=SpanKind.CLIENT, failed=failed)

    # -- notes -----------------------------------------------------------------------------------------------------

    def _service_moved(self, event: ServiceMoved) -> None:
        self._services.forget()
        facts = {"kind": event.kind, "source": event.source, "target": event.target}
        self._note("fallback", event.at, {f"duologue.service.{part}": fact for part, fact in facts.items()})

    def _guarded(self, event: WordsGuarded) -> None:
        facts = {"": event.guardrail, ".side": event.side, ".action": event.action, ".cause": event.cause}
        self._note("guardrail", event.at, {f"duologue.guardrail{part}": fact for part, fact in facts.items()})

    def _error(self, event: Failed) -> None:
        self._turns.category = event.category
        facts = {names.ERROR_TYPE: event.category, "duologue.processor": event.processor}
        facts |= {"exception.message": event.message} if self._maker.words else {}
        self._note("error", event.at, {**facts, "duologue.fatal": event.fatal})

    def _note(self, name: str, at: float, attributes: Attributes) -> None:
        """Add an event to the turn in progress, or else to the call."""
        if (to := self._turns.present or self._noted) is not None:
            self._maker.note(to, name, at, attributes)


def _frustration(event: FrustrationMoved) -> Attributes:
    return {
        "duologue.frustration": event.state,
        "duologue.frustration.level": round(event.level, 3),
        "duologue.frustration.acts": ", ".join(event.acts),
    }
