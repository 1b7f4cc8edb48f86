"""`Feed`: a call as a stream of events for watchers, derived once from signals, log and ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

import msgspec

from ..errors import CONTAINED, ConfigurationError, DuologueError, contained
from ..frames import AudioLevel, ErrorRaised, SessionEnding
from .call_events import (
    ON_REQUEST,
    AffectHeard,
    CallEnding,
    CallEvent,
    CostChanged,
    Failed,
    FeedEvent,
    Level,
    MessageChanged,
    MessageGone,
    Recognised,
    ResponseText,
    Speaking,
    TurnTimed,
)
from .feed_cost import FeedCost
from .feed_messages import FeedMessages
from .feed_source import FeedSource, follow_signals, follow_turns
from .latency import LatencyMeter, TurnLatency

CAPACITY = 256
"""Events that wait for a reader."""

E = TypeVar("E")


class _Watcher:
    """A listener, and the types of the events that it gets."""

    def __init__(self, listener: Callable[[FeedEvent], None], kinds: tuple[type[CallEvent], ...]) -> None:
        self.listener = listener
        self.kinds = frozenset(kinds)

    def wants(self, kind: type[CallEvent]) -> bool:
        """Returns True for a type that the watcher named; without names, for all types but those in `ON_REQUEST`."""
        return kind in self.kinds if self.kinds else kind not in ON_REQUEST


class Feed:
    """The events of a session's call. It costs nothing until the first watcher.

    `on` calls a function with each event; `watch` is read with `async for`.
    """

    def __init__(self, session: FeedSource) -> None:
        self.ended = False
        """True once the call has ended: its messages are final."""
        self._session = session
        self._watchers: list[_Watcher] = []
        self._messages: FeedMessages | None = None  # while nothing is followed
        self._stop_levels: Callable[[], None] | None = None
        self._cost: FeedCost | None = None  # while nothing is followed
        self._meter: LatencyMeter | None = None
        self._timed: TurnLatency | None = None
        self._shows_messages = False  # asked for with every 20 ms of speech

    # -- watching --------------------------------------------------------------------------------------------------

    def on(self, listener: Callable[[FeedEvent], None], *kinds: type[CallEvent]) -> Callable[[], None]:
        """Call `listener` with each event at once, or only with events of the types `kinds`.

        `Level` and `TurnTimed` come only if they are named. An exception of the listener is reported as an error.
        Returns a function that removes the listener. Raises ConfigurationError for a type that is not an event type.
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
        """Yield each event, or only events of the types `kinds`, until the call ends. The existing log comes first.

        While events wait for the reader, only the latest change of a message is kept, and the pieces of a response's
        text are joined. Once `capacity` ids wait, interim events are dropped: messages that are not final, text,
        levels. Raises TooSlow when `capacity` other events wait, and ConfigurationError for a capacity below 1.
        """
        if capacity < 1:
            raise ConfigurationError(f"a capacity of {capacity} events holds none")
        numbers = count()
        backlog = Backlog[FeedEvent](lambda event: _backlog_key(event, numbers), _is_interim, _join_events)
        for event in self.snapshot():
            if not kinds or isinstance(event, kinds):
                backlog.put(event)
        backlog.limit = len(backlog) + capacity  # the existing log does not count against the reader
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
        """The present log as events, in order, then the words that are not in the log yet."""
        return (self._messages or self._follower()).snapshot()

    def attach(self) -> None:
        """Begin to follow the call. Attaching twice is harmless."""
        if self._messages is not None:
            return
        self._messages = self._follower()
        self._messages.attach()
        follow_signals(self._session, self._emit)
        follow_turns(self._session, self._emit)
        self._cost = FeedCost(self._session.cost, self._session.now, self._emit)
        self._session.on(SessionEnding, self._ending)
        self._measure()

    def _follower(self) -> FeedMessages:
        return FeedMessages(self._session, self._emit, lambda: self._shows_messages)

    def _emit(self, event: FeedEvent) -> None:
        kind = type(event)
        if self._meter is not None:
            self._meter.take(event)
        for watcher in tuple(self._watchers):
            if watcher.wants(kind):
                try:
                    watcher.listener(event)
                except CONTAINED as error:
                    self._session.report(contained(error), "feed watcher", _cause(event))
        if self._meter is not None and isinstance(event, Speaking):
            self._time_turn(self._meter, event.at)

    # -- the end, and figures on request ---------------------------------------------------------------------------

    def _ending(self, signal: SessionEnding) -> None:
        assert self._messages is not None  # this is called by what they follow
        assert self._cost is not None
        self._messages.end()
        self._cost.end()
        self.ended = True
        self._emit(CallEnding(at=self._session.now(), reason=signal.reason))
        self._measure()

    def _time_turn(self, meter: LatencyMeter, at: float) -> None:
        turn = meter.turns[-1] if meter.turns else None
        if turn is None or turn.total_ms is None or turn is self._timed:
            return
        self._timed = turn
        self._emit(
            TurnTimed(
                at=at,
                turn=turn.turn,
                stages_ms=turn.stages_ms,
                total_ms=turn.total_ms,
                median_ms=meter.median_ms(),
            )
        )

    def _measure(self) -> None:
        """Measure levels and times, and show messages, only while a watcher asks for them."""
        levels, times, self._shows_messages = (
            any(watcher.wants(kind) for watcher in self._watchers) for kind in (Level, TurnTimed, MessageChanged)
        )
        if levels and self._stop_levels is None:
            self._stop_levels = self._session.on(AudioLevel, self._level)
        elif not levels and self._stop_levels is not None:
            self._stop_levels()
            self._stop_levels = None
        if times and self._meter is None and not self.ended:
            self._meter = LatencyMeter()
        elif not times or self.ended:
            self._meter = None

    def _level(self, signal: AudioLevel) -> None:
        self._emit(Level(at=signal.at, who=signal.who, dbfs=signal.dbfs))


def _cause(event: FeedEvent) -> ErrorRaised | None:
    """The error signal behind an event. A watcher that fails on an error must not receive its own error in turn."""
    if not isinstance(event, Failed):
        return None
    return ErrorRaised(processor=event.processor, category=event.category, message=event.message, fatal=event.fatal)


def _backlog_key(event: FeedEvent, numbers: Iterator[int]) -> Hashable:
    """The key under which an event waits: a later event of the same key replaces it."""
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
        case CostChanged():
            return "cost"
        case AffectHeard():
            return "affect", event.source
    return next(numbers)


def _is_interim(event: FeedEvent) -> bool:
    match event:
        case MessageChanged() | Recognised():
            return not event.final
        case ResponseText() | Level() | AffectHeard():
            return True
        case CostChanged():
            return not event.final
    return False


def _join_events(before: FeedEvent, after: FeedEvent) -> FeedEvent:
    if isinstance(before, ResponseText) and isinstance(after, ResponseText):
        return msgspec.structs.replace(after, text=before.text + after.text)
    return after


class TooSlow(DuologueError):
    """A reader is too slow: more events wait than its capacity allows."""

    category = "limit"


class Backlog(Generic[E]):
    """Holds events until a reader takes them, in the order of their ids' first events.

    `key` returns an event's id. A later event of a waiting id replaces the earlier one by `join(before, after)`. Beyond
    `limit` ids (0 for no limit), events for which `is_interim` returns True are dropped; once `limit` others wait, the
    reader gets TooSlow. `noun` names the events in its message.
    """

    def __init__(
        self,
        key: Callable[[E], Hashable],
        is_interim: Callable[[E], bool],
        join: Callable[[E, E], E] = lambda before, after: after,
        *,
        limit: int = 0,
        noun: str = "events",
    ) -> None:
        self.limit = limit
        self._key, self._is_interim, self._join = key, is_interim, join
        self._noun = noun
        self._waiting: dict[Hashable, E] = {}
        self._news = asyncio.Event()
        self._ended = self._too_slow = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: E) -> None:
        """Add an event."""
        key = self._key(event)
        before = self._waiting.get(key)
        if before is not None:
            event = self._join(before, event)
        elif self.limit and len(self._waiting) >= self.limit and not self._make_room(event):
            return
        self._waiting[key] = event
        self._news.set()

    def _make_room(self, event: E) -> bool:
        """Returns True if there is room for a further id."""
        if self._is_interim(event):
            return False
        left_out = next((key for key, waiting in self._waiting.items() if self._is_interim(waiting)), None)
        if left_out is not None:
            del self._waiting[left_out]
            return True
        self._too_slow = True
        self._news.set()
        return False

    def end(self) -> None:
        """No further event will come."""
        self._ended = True
        self._news.set()

    async def next(self) -> E | None:
        """Wait for the oldest event and return it; None at the end. Raises TooSlow."""
        while not self._waiting and not self._ended and not self._too_slow:
            self._news.clear()
            await self._news.wait()
        if self._too_slow:
            raise TooSlow(f"{len(self._waiting)} {self._noun} wait for a reader, which is the limit")
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
