"""Who gets a frame next. Worked out once per (processor, frame type, direction), then a dictionary look-up.

The tree of pipelines is turned into *ports*: a port answers, for a frame type, which callable takes the frame from
here on. A processor that does not handle a type is skipped when the answer is worked out, and so costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...errors import BadInput, ConfigurationError, DuologueError, IllegalState
from ...frames import Control, End, Frame, Output, Signal
from .lane import DONE
from .processor import Processor, family_of, find_handler

if TYPE_CHECKING:
    from ...session.session import Session

Target = Callable[[Any], Awaitable[None]]
Direction = Literal["down", "up"]


class Port(Protocol):
    """A place in the pipeline, seen in one direction."""

    def resolve(self, frame_type: type[Frame]) -> Target:
        """What takes a frame of this type from here."""

    def beyond(self) -> Iterator[Processor]:
        """The processors from here on, in order, each once."""


async def _unlinked(frame: Frame) -> None:
    raise IllegalState(f"{type(frame).__name__} was pushed outside a running session")


def drop(frame: Frame) -> Awaitable[None]:
    """Takes a frame and does nothing: the end of the line."""
    return DONE


class Routes(dict[type[Frame], Target]):
    """The cached answers of one processor in one direction."""

    __slots__ = ("direction", "port", "session", "source")

    def __init__(self, session: Session, source: Processor, direction: Direction, port: Port) -> None:
        self.session = session
        self.source = source
        self.direction: Direction = direction
        self.port = port

    def __missing__(self, frame_type: type[Frame]) -> Target:
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise BadInput(f"{self.source.name} pushed {frame_type.__name__}, which is no frame")
        family_of(frame_type)
        if issubclass(frame_type, Signal):
            target = signal_target(self.session, frame_type, list(self.port.beyond()))
        else:
            target = self.port.resolve(frame_type)
        if issubclass(frame_type, End):
            target = _draining(target, self)
        tap = self.session.tap
        if tap is not None:
            target = _tapped(target, tap, self, issubclass(frame_type, Output))
        self[frame_type] = target
        return target


def _tapped(target: Target, tap: Callable[[Processor, Direction, Frame], None], routes: Routes, fenced: bool) -> Target:
    source, direction, is_stale = routes.source, routes.direction, routes.session.floor.is_stale

    def tapped(frame: Frame) -> Awaitable[None]:
        if not (fenced and is_stale(frame)):
            tap(source, direction, frame)
        return target(frame)

    return tapped


def _draining(target: Target, routes: Routes) -> Target:
    session, source = routes.session, routes.source

    def draining(frame: End) -> Awaitable[None]:
        if session.is_open(source):  # what is closed has no say
            session.begin_draining(frame)
        return target(frame)

    return draining


def signal_target(session: Session, frame_type: type[Frame], processors: list[Processor]) -> Target:
    """Calls every handler of a signal, there and then: those of `processors`, and the session's listeners."""
    calls: list[Callable[[Any], None]] = []
    for processor in processors:
        spec = find_handler(processor.spec().signals, frame_type)
        if spec is not None:
            calls.append(session.guard_signal(getattr(processor, spec.method), processor))

    def deliver(frame: Any) -> Awaitable[None]:
        for call in calls:
            call(frame)
        session.hear(frame)
        return DONE

    return deliver


class LeafPort:
    """The entry to one processor."""

    __slots__ = ("direction", "next", "processor", "session")

    def __init__(self, session: Session, processor: Processor, direction: Direction, next_port: Port) -> None:
        self.session = session
        self.processor = processor
        self.direction: Direction = direction
        self.next = next_port

    def beyond(self) -> Iterator[Processor]:
        yield self.processor
        yield from self.next.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        processor, spec = self.processor, self.processor.spec()
        down = self.direction == "down"
        found = find_handler(spec.down if down else spec.up, frame_type)
        lanes = spec.lane_down if down else spec.lane_up
        if found is None and not lanes:
            return self.next.resolve(frame_type)
        routes = processor._down if down else processor._up
        if found is None:
            take: Target = _pass_on(routes, frame_type)
        else:
            handler = getattr(processor, found.method)
            if issubclass(frame_type, Control):
                take = _guard_control(handler, self.session, processor, routes)
            elif issubclass(frame_type, Output) and not frame_type.survives_fence:
                take = _guard_output(handler, self.session, processor)
            else:
                take = _guard(handler, self.session, processor)
        if not lanes:
            return take
        return self._into_lane(take, frame_type, lanes, down)

    def _into_lane(self, take: Target, frame_type: type[Frame], lanes: frozenset[Any], down: bool) -> Target:
        lane = self.processor._lane
        assert lane is not None
        put = lane.put if down else lane.put_up
        if issubclass(frame_type, Control):
            return lambda frame: put(take, frame, True)
        if family_of(frame_type) in lanes:
            if issubclass(frame_type, Output) and not frame_type.survives_fence:
                floor = self.session.floor
                return lambda frame: DONE if frame.turn <= floor.fence else put(take, frame)
            return lambda frame: put(take, frame)
        # A family that does not use the lane overtakes it, but never a Control inside, nor what waits behind that.
        return lambda frame: put(take, frame, True) if lane.held else take(frame)


def _guard(handler: Target, session: Session, processor: Processor) -> Target:
    async def call(frame: Frame) -> None:
        try:
            await handler(frame)
        except Exception as error:
            session.report(error, processor.name, frame)
        except asyncio.CancelledError as error:
            session.report(stray(error), processor.name, frame)

    return call


def _guard_output(handler: Target, session: Session, processor: Processor) -> Target:
    floor = session.floor

    async def call(frame: Output) -> None:
        if frame.turn <= floor.fence:
            return
        try:
            await handler(frame)
        except Exception as error:
            session.report(error, processor.name, frame)
        except asyncio.CancelledError as error:
            session.report(stray(error), processor.name, frame)

    return call


def _guard_control(handler: Target, session: Session, processor: Processor, routes: Routes) -> Target:
    guarded = _guard(handler, session, processor)

    async def call(frame: Control) -> None:
        await guarded(frame)
        await routes[frame.__class__](frame)

    return call


def stray(error: asyncio.CancelledError) -> DuologueError:
    """What to report if a handler raises CancelledError though nobody has cancelled it: what it awaited was.

    Raises the error itself if the running task is being cancelled.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return DuologueError("what it waited for was cancelled")


def _pass_on(routes: Routes, frame_type: type[Frame]) -> Target:
    return lambda frame: routes[frame_type](frame)


class EndPort:
    """The end of the pipeline: what nobody below handles goes to the session."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[type[Frame]], Target]) -> None:
        self._take = take

    def beyond(self) -> Iterator[Processor]:
        return iter(())

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._take(frame_type)


class Link:
    """Checks a tree of processors while it is walked."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._path: list[Processor] = []

    def enter(self, processor: Processor) -> None:
        """Check that a processor stands in one place only. Raises ConfigurationError naming it."""
        if not isinstance(processor, Processor):
            raise ConfigurationError(f"{processor!r} is no processor")
        if any(p is processor for p in self._path):
            inside = " > ".join(p.name for p in [*self._path, processor])
            raise ConfigurationError(f"a cycle: {inside}")
        if id(processor) in self._seen:
            raise ConfigurationError(f"{processor.name} is used twice; make one instance for each place")
        if processor._session is not None:
            raise ConfigurationError(f"{processor.name} already belongs to a session; make a new instance")
        self._seen.add(id(processor))
        self._path.append(processor)

    def leave(self) -> None:
        """Back to the parent."""
        self._path.pop()


class _NoRoutes(dict[type[Frame], Target]):
    def __missing__(self, frame_type: type[Frame]) -> Target:
        return _unlinked


Processor._down = Processor._up = _NoRoutes()  # type: ignore[assignment]
