"""What the page is told beyond RTVI, as server messages of types `duologue.…`, and what it may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ...agents.agent import Agent
from ...errors import BadInput
from ...frames import (
    AccessChanged,
    ApprovalGiven,
    ApprovalWanted,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    ConnectionChanged,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    SessionEnding,
    Signal,
    Transfer,
    Usage,
)
from ...processors.handoff.find import find_engine
from ...processors.handoff.handoff import Handoff
from ...processors.kernel.groups import active_leaves, leaves
from ...processors.kernel.node import Node
from ...processors.switch import Switch
from ...services.llm import LLM
from ...services.stt import STT
from ...services.tts import TTS
from ...session.latency import LatencyMeter, TurnLatency
from ...session.pricing import cost
from ...session.rows import RowEvent, Rows
from ...session.session import Session
from .client import RtviClient

MAX_WANTED = 100
"""Tool calls that wait for approval and are remembered here."""

Name = Annotated[str, msgspec.Meta(max_length=256)]


class Transferred(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`duologue.transfer`: to whom, and to which engine; "" for the one that has the call."""

    target: Name = ""
    engine: Name = ""
    reason: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class Approved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`duologue.approve`: whether a tool that waits for it may run."""

    call_id: Name
    approved: bool


class TurnTimes:
    """Tells where the time of each turn went, once the caller hears its answer. Watches every push meanwhile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._meter = LatencyMeter(session)
        self._listeners: list[Callable[[TurnLatency], None]] = []
        self._told: TurnLatency | None = None
        session.on(BotStartedSpeaking, self._heard)

    @property
    def median_ms(self) -> float:
        """Of all turns so far."""
        return self._meter.median_ms()

    def listen(self, listener: Callable[[TurnLatency], None]) -> None:
        """Call `listener` with every turn whose answer is heard."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Watch no longer."""
        self._meter.stop()

    def ttfb(self, turn: TurnLatency) -> list[dict[str, Any]]:
        """How long each service took to its first result, in seconds, in RTVI's form."""
        names = {"transcript": STT, "first_token": LLM, "first_audio": TTS}
        processors = active_leaves(self._session.pipeline)
        found = {stage: _named(processors, kind) for stage, kind in names.items()}
        stages = turn.stages_ms
        return [
            {"processor": name, "value": round(stages[stage] / 1000, 4)} for stage, name in found.items() if name != ""
        ]

    def _heard(self, signal: BotStartedSpeaking) -> None:
        turn = self._meter.turns[-1] if self._meter.turns else None
        if turn is None or turn.heard is None or turn is self._told:
            return
        self._told = turn
        for listener in self._listeners:
            listener(turn)


def _named(processors: list[Node], kind: type[Node]) -> str:
    return next((processor.name for processor in processors if isinstance(processor, kind)), "")


class PageMessages:
    """Keeps the page informed: who has the call and on which engine, rows, hand-offs, times, cost, approvals."""

    def __init__(self, session: Session, client: RtviClient) -> None:
        self._session, self._client = session, client
        self._handoff = next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Handoff)), None)
        self._wanted: dict[str, ApprovalWanted] = {}
        self._stop_rows: Callable[[], None] = lambda: None

    def attach(self) -> None:
        """Listen to the session, and answer the page."""
        on, client = self._session.on, self._client
        on(HandoffStarted, lambda signal: self._handed_off("started", signal))
        on(HandoffCompleted, lambda signal: self._handed_off("completed", signal))
        on(HandoffFailed, lambda signal: self._handed_off("failed", signal))
        on(AccessChanged, lambda signal: self._tell_state())
        on(ConnectionChanged, self._connection_changed)
        on(BotPaused, lambda signal: self._tell("hold", held=True))
        on(BotResumed, lambda signal: self._tell("hold", held=False))
        on(ApprovalWanted, self._approval_wanted)
        on(ApprovalGiven, self._approval_given)
        on(Usage, lambda signal: self._tell_usage())
        on(SessionEnding, lambda signal: self._tell("ended", reason=signal.reason))
        client.on_client_message("duologue.transfer", self._transfer, Transferred)
        client.on_client_message("duologue.approve", self._approve, Approved)
        client.on_client_message("duologue.interrupt", self._interrupt)

    def begin(self) -> None:
        """The client is ready: tell how things stand."""
        self._tell_state()
        self._tell_usage()
        for signal in self._wanted.values():
            self._tell_wanted(signal)
        self._stop_rows()
        self._stop_rows = Rows(self._session).listen(self._row_changed)

    def latency(self, turn: TurnLatency, median_ms: float) -> None:
        """Where a turn's time went."""
        stages = {stage: round(ms, 1) for stage, ms in turn.stages_ms.items()}
        total_ms = round(turn.total_ms or 0.0, 1)
        self._tell("latency", turn=turn.turn, stages=stages, total_ms=total_ms, median_ms=round(median_ms, 1))

    def _tell(self, type: str, /, **fields: Any) -> None:
        if self._client.ready:
            self._client.send_server_message({"type": f"duologue.{type}", **fields})

    def _row_changed(self, event: RowEvent) -> None:
        self._tell("row", row=msgspec.to_builtins(event, str_keys=True))

    # -- who has the call ------------------------------------------------------------------------------------------

    def _tell_state(self) -> None:
        session = self._session
        place = find_engine(session.pipeline)
        switch = place if isinstance(place, Switch) else None
        known = self._handoff.agents.values() if self._handoff else [session.agent] if session.agent else []
        self._tell(
            "state",
            session_id=session.id,
            agents=[_described(agent) for agent in known],
            agent=session.agent.name if session.agent else "",
            engine=switch.active if switch else "",
            engines=list(switch.branches) if switch else [],
            access=session.audio.access,
        )

    def _handed_off(self, state: str, signal: Signal) -> None:
        fields = {name: getattr(signal, name, "") for name in ("source", "target", "reason", "summary", "engine")}
        gap_ms = round(getattr(signal, "gap_ms", 0.0), 1)
        error = getattr(signal, "error", "")
        at = round(self._session.now(), 3)
        self._tell("handoff", state=state, **fields, gap_ms=gap_ms, error=error, at=at)
        if state == "completed":
            self._tell_state()

    def _connection_changed(self, signal: ConnectionChanged) -> None:
        self._tell(
            "connection",
            engine=signal.engine,
            state=signal.state,
            reason=signal.reason,
            how=signal.how,
            gap_ms=round(signal.gap_ms, 1),
        )

    async def _transfer(self, asked: Transferred) -> None:
        if self._handoff is None:
            raise BadInput("there is nobody to hand over to: the pipeline has no Handoff")
        if asked.target and asked.target not in self._handoff.agents:
            raise BadInput(f"there is no agent {asked.target!r}; there are {', '.join(self._handoff.agents)}")
        await self._session.send(Transfer(target=asked.target, engine=asked.engine, reason=asked.reason))

    def _interrupt(self, data: Any) -> None:
        self._session.interrupt("client")

    # -- approvals -------------------------------------------------------------------------------------------------

    def _approval_wanted(self, signal: ApprovalWanted) -> None:
        self._wanted[signal.call_id] = signal
        while len(self._wanted) > MAX_WANTED:
            del self._wanted[next(iter(self._wanted))]
        self._tell_wanted(signal)

    def _tell_wanted(self, signal: ApprovalWanted) -> None:
        self._tell(
            "approval",
            state="wanted",
            call_id=signal.call_id,
            name=signal.name,
            arguments=signal.arguments,
            agent=signal.agent,
        )

    def _approval_given(self, signal: ApprovalGiven) -> None:
        wanted = self._wanted.pop(signal.call_id, None)
        self._tell(
            "approval",
            state="given",
            call_id=signal.call_id,
            name=wanted.name if wanted else "",
            arguments=wanted.arguments if wanted else {},
            agent=wanted.agent if wanted else "",
            approved=signal.approved,
            by=signal.by,
            reason=signal.reason,
        )

    def _approve(self, asked: Approved) -> None:
        if asked.call_id not in self._wanted:
            raise BadInput(f"no tool call {asked.call_id!r} waits for approval")
        self._session.broadcast(ApprovalGiven(call_id=asked.call_id, approved=asked.approved, by="client"))

    # -- what it has cost ------------------------------------------------------------------------------------------

    def _tell_usage(self) -> None:
        sums = cost(self._session.usage, self._client.prices)
        services = [
            {
                "service": total.service,
                "model": total.model,
                "input_tokens": total.input_tokens,
                "output_tokens": total.output_tokens,
                "input_audio_s": round(total.input_audio_s, 2),
                "output_audio_s": round(total.output_audio_s, 2),
                "characters": total.characters,
                "cost_usd": sums.by_service[name],
            }
            for name, total in self._session.usage.by_service.items()
        ]
        self._tell("usage", services=services, cost_usd=sums.usd, unpriced=list(sums.unpriced))


def _described(agent: Agent) -> dict[str, str]:
    return {"name": agent.name, "role": agent.role, "description": agent.description}
