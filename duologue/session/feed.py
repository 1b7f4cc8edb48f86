"""`Feed`: a call as a stream of events, derived once from signals, log and ledger, for everybody who watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from itertools import count
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec.structs import asdict

from ..errors import ConfigurationError
from ..frames import (
    AccessChanged,
    ApprovalGiven,
    ApprovalWanted,
    AudioLevel,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    ClientChanged,
    ConnectionChanged,
    ErrorRaised,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Interrupted,
    ResponseEnded,
    SessionEnding,
    SessionStarted,
    Signal,
    Transcribed,
    Usage,
)
from .backlog import Backlog
from .call_events import (
    ON_REQUEST,
    AccessSwitched,
    CallBegan,
    CallEnding,
    CallEvent,
    ClientMoved,
    ConnectionMoved,
    Failed,
    FeedEvent,
    HandedOff,
    Level,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseText,
    Speaking,
    SpeechCut,
    SpeechHeld,
    ToolChanged,
    TurnTimed,
    UsageReported,
)
from .conversation import Conversation, Item
from .latency import LatencyMeter, PushObserver, TurnLatency
from .ledger import Ledger, Response, heard_position
from .usage import UsageTotals

SignalT = TypeVar("SignalT", bound=Signal)

MESSAGE_TICK_S = 0.1
"""The shortest time between two changes of the agent's messages."""
CAPACITY = 256
"""Events that wait for a reader."""
MAX_UTTERANCES = 64
"""Utterances that are shown before the log has them; the oldest are taken back."""


class FloorState(Protocol):
    """What the feed reads of the floor."""

    turn: int


class FeedSource(PushObserver, Protocol):
    """What the feed derives its events from: a session."""

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
    def on(self, signal_type: type[SignalT], listener: Callable[[SignalT], Any]) -> Callable[[], None]: ...
    def report(self, error: Exception, processor: str) -> None: ...


class _Watcher:
    """A listener, and the types of the events that it gets."""

    def __init__(self, listener: Callable[[FeedEvent], None], kinds: tuple[type[CallEvent], ...]) -> None:
        self.listener = listener
        self.kinds = frozenset(kinds)

    def wants(self, kind: type[CallEvent]) -> bool:
        """Returns True for a type that was named; without names, for all that need not be."""
        return kind in self.kinds if self.kinds else kind not in ON_REQUEST


class Feed:
    """The events of a session's call. Costs nothing before somebody watches.

    `on` calls a function with each event; `watch` is read with `async for`.
    """

    def __init__(self, session: FeedSource) -> None:
        self.ended = False
        """The call has ended: its messages are final."""
        self._session = session
        self._watchers: list[_Watcher] = []
        self._attached = False
        self._utterances: dict[str, MessageChanged] = {}  # with words that the log does not have yet
        self._unnamed = ""  # id for texts whose service gives none
        self._numbers = count(1)
        self._responses: dict[str, MessageChanged | None] = {}  # messages in progress, as they were last told
        self._calls: set[str] = set()  # tool calls without a result
        self._behind: dict[str, Response] = {}  # responses that have changed since they were told
        self._told_at = -MESSAGE_TICK_S
        self._timer: asyncio.TimerHandle | None = None
        self._stop_levels: Callable[[], None] | None = None
        self._meter: LatencyMeter | None = None
        self._timed: TurnLatency | None = None

    # -- watching --------------------------------------------------------------------------------------------------

    def on(self, listener: Callable[[FeedEvent], None], *kinds: type[CallEvent]) -> Callable[[], None]:
        """Call `listener` with each event there and then, or with those of the types `kinds` only.

        `Level` and `TurnTimed` come only if they are named. An exception is reported as an error and reaches nobody
        else. Returns a function that ends it. Raises ConfigurationError for a type that is not an event's.
        """
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, CallEvent)):
                raise ConfigurationError(f"{kind!r} is not a type of events")
        self.attach()
        watcher = _Watcher(listener, kinds)
        self._watchers.append(watcher)
        self._measure()

        def stop() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)
                self._measure()

        return stop

    async def watch(self, *kinds: type[CallEvent], capacity: int = CAPACITY) -> AsyncGenerator[FeedEvent, None]:
        """Each event until the call ends, or those of the types `kinds` only; the log so far comes first.

        Of the changes of a message that wait for the reader only the latest is kept, and the pieces of a response's
        text are joined. Beyond `capacity` waiting ids interim events are left out (messages that are not final, text,
        levels). Raises TooSlow when `capacity` others wait.
        """
        numbers = count()
        backlog = Backlog[FeedEvent](lambda event: _backlog_key(event, numbers), _is_interim, _join_events)
        for event in self.snapshot():
            if not kinds or isinstance(event, kinds):
                backlog.put(event)
        backlog.limit = len(backlog) + capacity  # what exists already is not the reader's fault
        stops = [self.on(backlog.put, *kinds), self.on(lambda event: backlog.end(), CallEnding)]
        if self.ended:
            backlog.end()
        try:
            while (next_event := await backlog.next()) is not None:
                yield next_event
        finally:
            for stop in stops:
                stop()

    def snapshot(self) -> Iterator[FeedEvent]:
        """The log as it is now, as events in its order, and the words that it does not have yet."""
        logged = set()
        for item in self._session.conversation:
            if (event := self._current(item)) is not None:
                logged.add(item.id)
                yield event
        yield from (event for event in self._utterances.values() if event.item.id not in logged)

    def attach(self) -> None:
        """Begin to follow the call, for watchers to come. Attaching twice is harmless."""
        if self._attached:
            return
        self._attached = True
        session = self._session
        self._responses = {response.id: None for response in session.ledger.unsettled}
        self._calls = {call.id for call in session.conversation.calls.open()}
        session.ledger.watcher = self
        session.conversation.listen(self._logged, self._removed)
        self._follow_signals(session)

    def _follow_signals(self, session: FeedSource) -> None:
        def on(signal_type: type[SignalT], event: Callable[[SignalT], FeedEvent]) -> None:
            session.on(signal_type, lambda signal: self._emit(event(signal)))

        now = session.now
        session.on(SessionEnding, self._ending)
        session.on(Transcribed, self._transcribed)
        session.on(BotStartedSpeaking, self._agent_started)
        on(SessionStarted, lambda s: CallBegan(at=now(), session_id=s.session_id))
        on(CallerStartedSpeaking, lambda s: Speaking(at=s.at, who="caller", speaking=True))
        on(CallerStoppedSpeaking, lambda s: Speaking(at=s.at, who="caller", speaking=False))
        on(BotStoppedSpeaking, lambda s: Speaking(at=s.at, who="agent", speaking=False))
        on(BotPaused, lambda s: SpeechHeld(at=now(), held=True, turn=s.turn))
        on(BotResumed, lambda s: SpeechHeld(at=now(), held=False, turn=s.turn))
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
        on(Usage, lambda s: UsageReported(at=now(), used=s, totals=tuple(session.usage)))

    def _emit(self, event: FeedEvent) -> None:
        kind = type(event)
        for watcher in tuple(self._watchers):
            if watcher.wants(kind):
                try:
                    watcher.listener(event)
                except Exception as error:
                    self._session.report(error, "feed watcher")

    # -- the log ---------------------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if item.kind != "message":
            self._emit(self._entry(item))
        elif item.role == "agent" and item.status == "in_progress":
            if item.id not in self._responses:
                self._responses[item.id] = None
                self._emit(ResponseOpened(at=self._session.now(), id=item.id, turn=item.turn, agent=item.agent))
            elif (response := self._session.ledger.get(item.id)) is not None:
                self._tell(response)  # the caller begins to hear it
        elif (event := self._final(item)) is not None:
            self._utterances.pop(item.id, None)
            self._responses.pop(item.id, None)
            self._behind.pop(item.id, None)
            self._emit(event)
        elif item.id in self._utterances:
            self._utterances[item.id] = msgspec.structs.replace(self._utterances[item.id], item=item)

    def _removed(self, item: Item) -> None:
        self._behind.pop(item.id, None)
        shown = self._responses.pop(item.id, None) is not None or bool(item.text)
        if shown and item.id not in self._utterances:
            self._emit(MessageGone(at=self._session.now(), id=item.id))

    def _entry(self, item: Item) -> FeedEvent:
        """An entry of the log that is not a message."""
        at = self._session.now()
        if item.kind == "tool_call":
            changed = item.call_id in self._calls
            self._calls.add(item.call_id)
            state = "changed" if changed else "called"
        elif item.kind == "tool_result":
            self._calls.discard(item.call_id)
            state = "answered"
        else:
            return Noted(at=at, item=item)
        return _tool_changed(item, state, at)

    def _current(self, item: Item) -> FeedEvent | None:
        """An entry of the log as it is now; None for a message that has no text yet."""
        at = self._session.now()
        if item.kind in ("tool_call", "tool_result"):
            return _tool_changed(item, "called" if item.kind == "tool_call" else "answered", at)
        if item.kind != "message":
            return Noted(at=at, item=item)
        if (response := self._session.ledger.get(item.id)) is not None:
            return self._being_said(item, response) if response.text else None
        return self._final(item) or self._utterances.get(item.id)

    def _final(self, item: Item) -> MessageChanged | None:
        """A message as the log has it; None while it has no words."""
        if not item.text and item.name != "image":
            return None
        heard = len(item.text) if item.role == "agent" else 0
        return MessageChanged(
            at=self._session.now(),
            item=item,
            text=item.text,
            heard_chars=heard,
            heard_s=item.heard_s,
            final=item.status != "in_progress",
        )

    # -- the caller's words ----------------------------------------------------------------------------------------

    def _transcribed(self, signal: Transcribed) -> None:
        now, utterance = self._session.now(), signal.utterance or self._name_unnamed()
        self._emit(
            Recognised(
                at=now,
                utterance=utterance,
                text=signal.text,
                final=signal.final,
                start_s=signal.start_s,
                end_s=signal.end_s,
                language=signal.language,
            )
        )
        if signal.text:
            self._show_words(utterance, signal, now)
        if signal.final and (not signal.text or utterance == self._unnamed):
            self._take_back(utterance)  # it comes to nothing, or nobody knows which item of the log it is
            self._unnamed = ""

    def _name_unnamed(self) -> str:
        self._unnamed = self._unnamed or f"utterance_{next(self._numbers)}"
        return self._unnamed

    def _show_words(self, utterance: str, signal: Transcribed, now: float) -> None:
        item = self._session.conversation.get(utterance)
        if item is not None and item.text:
            return  # the log has them already
        if item is None:
            item = Item(
                id=utterance,
                kind="message",
                role="caller",
                turn=self._session.floor.turn + 1,
                at=signal.start_s,
                status="in_progress",
            )
        before = self._utterances.get(utterance)
        event = self._utterances[utterance] = MessageChanged(at=now, item=item, text=signal.text, final=False)
        if len(self._utterances) > MAX_UTTERANCES:
            self._take_back(next(iter(self._utterances)))
        if before is None or before.text != event.text:
            self._emit(event)

    def _take_back(self, utterance: str) -> None:
        shown, item = self._utterances.pop(utterance, None), self._session.conversation.get(utterance)
        if shown is not None and (item is None or not item.text):
            self._emit(MessageGone(at=self._session.now(), id=utterance))

    # -- the agent's words -----------------------------------------------------------------------------------------

    def text_added(self, response: Response, text: str) -> None:
        """The text of a response has grown: called by the ledger."""
        self._emit(ResponseText(at=self._session.now(), id=response.id, turn=response.turn, text=text))
        self.changed(response)

    def changed(self, response: Response) -> None:
        """More of a response was played, or its text was corrected: called by the ledger."""
        if not self._watchers:
            return
        self._behind[response.id] = response
        wait_s = self._told_at + MESSAGE_TICK_S - self._session.now()
        if wait_s <= 1e-6:
            self._catch_up()
        elif self._timer is None and not self.ended:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._catch_up)

    def all_given(self, frame: ResponseEnded) -> None:
        """The engine has given all of a response: called by the ledger."""
        event = ResponseComplete(at=self._session.now(), id=frame.response_id, turn=frame.turn, status=frame.status)
        self._emit(event)

    def _catch_up(self) -> None:
        """Tell how the responses have gone on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told_at = self._session.now()
        behind, self._behind = self._behind, {}
        for response in behind.values():
            self._tell(response)

    def _tell(self, response: Response) -> None:
        item = self._session.conversation.get(response.id)
        if item is None or not response.text:
            return
        event, before = self._being_said(item, response), self._responses.get(item.id)
        same = before is not None and (before.item, before.text, before.heard_chars, before.heard_s > 0) == (
            event.item,
            event.text,
            event.heard_chars,
            event.heard_s > 0,
        )
        if not same:
            self._responses[item.id] = event
            self._emit(event)

    def _being_said(self, item: Item, response: Response) -> MessageChanged:
        # Guessed times of words may turn out to have been too early: what was told as heard stays heard.
        before = self._responses.get(item.id)
        heard = heard_position(response.text, response.heard().text)
        heard = min(max(heard, before.heard_chars if before is not None else 0), len(response.text))
        return MessageChanged(
            at=self._session.now(),
            item=item,
            text=response.text,
            heard_chars=heard,
            heard_s=response.played_s,
            final=False,
        )

    # -- signals that need more than a translation -----------------------------------------------------------------

    def _ending(self, signal: SessionEnding) -> None:
        self._catch_up()
        for utterance in tuple(self._utterances):
            self._take_back(utterance)
        self.ended = True
        self._emit(CallEnding(at=self._session.now(), reason=signal.reason))
        self._measure()

    def _agent_started(self, signal: BotStartedSpeaking) -> None:
        self._emit(Speaking(at=signal.at, who="agent", speaking=True))
        turn = self._meter.turns[-1] if self._meter is not None and self._meter.turns else None
        if self._meter is None or turn is None or turn.total_ms is None or turn is self._timed:
            return
        self._timed = turn
        self._emit(
            TurnTimed(
                at=signal.at,
                turn=turn.turn,
                stages_ms=turn.stages_ms,
                total_ms=turn.total_ms,
                median_ms=self._meter.median_ms(),
            )
        )

    def _measure(self) -> None:
        """Measure what somebody wants to know, and nothing else."""
        levels, times = (any(watcher.wants(kind) for watcher in self._watchers) for kind in (Level, TurnTimed))
        if levels and self._stop_levels is None:
            self._stop_levels = self._session.on(AudioLevel, self._level)
        elif not levels and self._stop_levels is not None:
            self._stop_levels()
            self._stop_levels = None
        if times and self._meter is None and not self.ended:
            self._meter = LatencyMeter(self._session)
        elif self._meter is not None and (not times or self.ended):
            self._meter.stop()
            self._meter = None

    def _level(self, signal: AudioLevel) -> None:
        self._emit(Level(at=signal.at, who=signal.who, dbfs=signal.dbfs))


def _tool_changed(item: Item, state: Any, at: float) -> ToolChanged:
    content = {"result": item.data} if item.kind == "tool_result" else {"arguments": item.data}
    return ToolChanged(at=at, state=state, call_id=item.call_id, name=item.name, agent=item.agent, item=item, **content)


def _backlog_key(event: FeedEvent, numbers: Iterator[int]) -> Hashable:
    """Under one key only the latest event waits for a reader."""
    match event:
        case MessageChanged():
            return "message", event.item.id
        case MessageGone():
            return "message", event.id
        case ResponseText():
            return "text", event.id
        case Recognised():
            return "words", event.utterance
        case Level():
            return "level", event.who
    return next(numbers)


def _is_interim(event: FeedEvent) -> bool:
    match event:
        case MessageChanged() | Recognised():
            return not event.final
        case ResponseText() | Level():
            return True
    return False


def _join_events(before: FeedEvent, after: FeedEvent) -> FeedEvent:
    if isinstance(before, ResponseText) and isinstance(after, ResponseText):
        return msgspec.structs.replace(after, text=before.text + after.text)
    return after
