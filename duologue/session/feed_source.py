"""`FeedSource`: the part of a session that its feed uses; and the signals that each become one event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from msgspec.structs import asdict

from ..frames import (
    AccessChanged,
    Affect,
    ApprovalGiven,
    ApprovalWanted,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallResumed,
    ClientChanged,
    ConnectionChanged,
    EndOfTurn,
    ErrorRaised,
    Frame,
    FrustrationChanged,
    GuardrailActed,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Interrupted,
    ServiceChanged,
    SessionStarted,
    Signal,
    StateChanged,
    ToolBegan,
    Usage,
)
from ..processors.kernel.host import Direction
from ..processors.kernel.node import Node
from .call_events import (
    AccessSwitched,
    AffectHeard,
    CallBegan,
    ClientMoved,
    ConnectionMoved,
    Failed,
    FeedEvent,
    FrustrationMoved,
    HandedOff,
    ServiceMoved,
    Speaking,
    SpeechCut,
    SpeechHeld,
    StateMoved,
    TakenUp,
    ToolChanged,
    ToolStarted,
    TurnOver,
    UsageReported,
    WordsGuarded,
)
from .conversation import Conversation
from .cost import CostMeter
from .ledger import Ledger
from .usage import UsageTotals

SAME_SPEECH_S = 0.3
"""Two detectors place the end of the same speech at most this many seconds apart."""
SignalT = TypeVar("SignalT", bound=Signal)


class FloorState(Protocol):
    """The part of the floor that the feed reads."""

    turn: int


class FeedSource(Protocol):
    """The part of a session from which its feed derives the events."""

    def now(self) -> float: ...
    def observe(
        self, tap: Callable[[Node, Direction, Frame], None], *frame_types: type[Frame]
    ) -> Callable[[], None]: ...

    @property
    def id(self) -> str: ...
    @property
    def conversation(self) -> Conversation: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def floor(self) -> FloorState: ...
    @property
    def usage(self) -> UsageTotals: ...
    @property
    def cost(self) -> CostMeter: ...
    def on(self, signal_type: type[SignalT], listener: Callable[[SignalT], Any]) -> Callable[[], None]: ...
    def report(self, error: Exception, processor: str, frame: Frame | None = None) -> None: ...


def follow_turns(session: FeedSource, emit: Callable[[FeedEvent], None]) -> None:
    """Emit an event for each end of the caller's turns, from now on. Every processor that it passes pushes it."""
    ended = -SAME_SPEECH_S

    def pushed(node: Node, direction: Direction, frame: Frame) -> None:
        nonlocal ended
        if isinstance(frame, EndOfTurn) and abs(frame.at - ended) >= SAME_SPEECH_S:
            ended = frame.at
            emit(TurnOver(at=session.now(), speech_end_s=frame.at, by=frame.by))

    session.observe(pushed, EndOfTurn)


def follow_signals(session: FeedSource, emit: Callable[[FeedEvent], None]) -> None:
    """Emit an event for each signal that becomes exactly one, from now on."""

    def on(signal_type: type[SignalT], event: Callable[[SignalT], FeedEvent]) -> None:
        session.on(signal_type, lambda signal: emit(event(signal)))

    now = session.now
    session.on(StateChanged, lambda s: None if s.state == "ended" else emit(StateMoved(at=now(), **asdict(s))))
    on(SessionStarted, lambda s: CallBegan(at=now(), session_id=s.session_id))
    on(CallResumed, lambda s: TakenUp(at=now(), call=s.call, how=s.how, why=s.why, items=s.items))
    on(CallerStartedSpeaking, lambda s: Speaking(at=s.at, who="caller", speaking=True))
    on(CallerStoppedSpeaking, lambda s: Speaking(at=s.at, who="caller", speaking=False))
    on(BotStartedSpeaking, lambda s: Speaking(at=s.at, who="agent", speaking=True))
    on(BotStoppedSpeaking, lambda s: Speaking(at=s.at, who="agent", speaking=False))
    on(BotPaused, lambda s: SpeechHeld(at=now(), held=True, turn=s.turn, owners=s.owners))
    on(BotResumed, lambda s: SpeechHeld(at=now(), held=False, turn=s.turn, owners=s.owners))
    on(Interrupted, lambda s: SpeechCut(at=now(), turn=s.turn, heard=s.heard, heard_s=s.heard_s, reason=s.reason))
    on(AccessChanged, lambda s: AccessSwitched(at=now(), access=s.access, by=s.by))
    on(ClientChanged, lambda s: ClientMoved(at=now(), state=s.state, transport=s.transport, reason=s.reason))
    on(
        ConnectionChanged,
        lambda s: ConnectionMoved(
            at=now(),
            engine=s.engine,
            state=s.state,
            reason=s.reason,
            how=s.how,
            attempt=s.attempt,
            gap_ms=s.gap_ms,
        ),
    )
    on(Affect, lambda s: AffectHeard(at=s.at, source=s.source, scores=s.scores))
    on(FrustrationChanged, lambda s: FrustrationMoved(**asdict(s)))
    on(GuardrailActed, lambda s: WordsGuarded(at=now(), **asdict(s)))
    on(ServiceChanged, lambda s: ServiceMoved(at=now(), **asdict(s)))
    on(HandoffStarted, lambda s: HandedOff(at=now(), state="started", **asdict(s)))
    on(HandoffCompleted, lambda s: HandedOff(at=now(), state="completed", **asdict(s)))
    on(HandoffFailed, lambda s: HandedOff(at=now(), state="failed", **asdict(s)))
    on(ApprovalWanted, lambda s: ToolChanged(at=now(), state="waiting", **asdict(s)))
    on(
        ApprovalGiven,
        lambda s: ToolChanged(
            at=now(),
            state="approved" if s.approved else "denied",
            call_id=s.call_id,
            by=s.by,
            reason=s.reason,
        ),
    )
    on(ErrorRaised, lambda s: Failed(at=now(), **asdict(s)))
    on(ToolBegan, lambda s: ToolStarted(at=now(), call_id=s.call_id, name=s.name, turn=s.turn))
    on(Usage, lambda s: UsageReported(at=now(), used=s, totals=tuple(session.usage)))
