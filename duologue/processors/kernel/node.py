"""`Node`: the base of processors and groups. `Routes`: the callables that take the frames that a node pushes.

A route is cached per (node, direction, frame type). The tree of pipelines is turned into *ports*. A port returns, for a
frame type, the callable that takes the frame from there on. Processors that do not handle the type are skipped when
the route is computed, not at each frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ...errors import CONTAINED, BadInput, ConfigurationError, DuologueError, IllegalState, contained, error_text
from ...frames import Control, End, Frame, Output, Signal
from .handlers import Spec, find_handler, frame_family, read_spec
from .host import Direction, Host, Tap, Target
from .lane import DONE, Lane
from .names import check_private_names
from .tasks import stray

MAX_FAILURES = 50
"""Frames in a row that a handler may fail with. After that the processor is broken, and the call fails."""


def _gives(node: Node, kind: type[Frame]) -> bool:
    return any(issubclass(given, kind) for given in node.gives)


class _Unlinked(dict[type[Frame], Target]):
    def __missing__(self, frame_type: type[Frame]) -> Target:
        return _push_unlinked


async def _push_unlinked(frame: Frame) -> None:
    raise IllegalState(f"{type(frame).__name__} was pushed outside a running session")


class _WhenLinked:
    """Placeholder for an attribute that is set when the node is linked. Reading it before raises IllegalState."""

    def __get__(self, node: Node | None, owner: type[Node]) -> Any:
        if node is None:
            return self
        raise IllegalState(f"{node.name} is not part of a session yet")


def set_when_linked() -> Any:
    """Return the class value of an attribute that is set when the node is linked."""
    return _WhenLinked()


class Node:
    """Takes frames and pushes frames. Belongs to one session.

    `open` and `close` bracket the session; `capacity` bounds the lane, if there is one. Applications subclass
    `Processor`, which adds the session.
    """

    capacity: int = 256
    """Frames that the lane holds. Beyond that a push downstream waits."""

    gives: frozenset[type[Frame]] = frozenset()
    """The frame types that the node makes itself. Custom sources and detectors declare theirs."""
    follows: frozenset[type[Frame]] = frozenset()
    """Frame types that the node takes: nodes that give them stand before it."""
    needs: Mapping[type[Frame], str] = {}
    """As `follows`, for types without which a call cannot work, each with the way to get them."""
    call_id: str = ""
    """The id of the transport's client, for the ends of transports that have one. The session has the same id."""
    judges_speech: bool = False
    """True if the node finds the caller's turns in their audio, or decides by their speech which sound interrupts the
    agent. It stands aside in a session whose caller marks their turns."""
    far_end: bool = False
    """True for the ends of a transport: with one in it, a pipeline serves a call."""

    host: Host = set_when_linked()
    """The host that runs the node. Reading it raises IllegalState before the node belongs to a session."""
    session: Any = set_when_linked()
    """The host's session. Reading it raises IllegalState before the node belongs to a session."""
    in_session: bool = False
    """True once the node belongs to a session."""

    _spec: Spec | None = None
    _aside: bool = False
    """True in the branch of a `Tee`: its frames reach neither end of the pipeline."""
    # Set when the pipeline is linked.
    _lane: Lane | None = None
    _down: dict[type[Frame], Target] = _Unlinked()
    _up: dict[type[Frame], Target] = _Unlinked()

    @property
    def name(self) -> str:
        """The name in errors and traces."""
        return type(self).__name__

    def _join(self, host: Host) -> None:
        """Join the host's session."""
        self.host, self.session, self.in_session = host, host.session, True

    def _leave(self) -> None:
        """Leave the session again: the pipeline cannot be linked."""
        del self.host, self.session, self.in_session

    def __repr__(self) -> str:
        return self.name

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Raise ConfigurationError, with the mend, if the node cannot work between these nodes of the pipeline.

        Called once, when the session is made. Overriding methods call this, too.
        """
        for kind in (*self.needs, *sorted(self.follows, key=lambda kind: kind.__name__)):
            if any(_gives(node, kind) for node in before):
                continue
            late = next((node for node in after if _gives(node, kind)), None)
            if late is not None:
                raise ConfigurationError(
                    f"{self.name} stands before {late.name}, which gives it {kind.__name__} frames: put it behind"
                )
            if kind in self.needs and any(node.far_end for node in (*before, *after)):
                raise ConfigurationError(f"{self.name} gets no {kind.__name__} frames: {self.needs[kind]}")

    async def open(self) -> None:
        """Acquire resources. Called once, before any frame. Must end within the session's `start_s`."""

    def check_opened(self) -> None:
        """Raise ConfigurationError if `open` was overridden and does not call the base's. Called after each `open`."""

    async def close(self) -> None:
        """Release resources. Called once after `open`, even if that failed. Must end within the session's `close_s`."""

    def take_at_once(self, frame: Frame) -> bool:
        """Handle a frame instead of the queued handler, in the task that pushes it downstream.

        Return False to queue the frame. Called only if no processor downstream handles frames of this type.
        """
        return False

    def pass_at_once(self, frame: Frame) -> Awaitable[None] | None:
        """Push a frame downstream that asks for nothing, and return what `push` returned; None for the handler.

        Asked before each handler of frames that travel downstream, of a node without a lane: two coroutines less.
        """
        return None

    def signal_handler(self, signal_type: type[Frame]) -> Callable[[Any], Any] | None:
        """Return the method that handles signals of a type; None if there is none."""
        found = find_handler(self.spec().signals, signal_type)
        return getattr(self, found.method) if found is not None else None

    def push(self, frame: Frame) -> Awaitable[None]:
        """Send a frame downstream, to the next processor that handles its type.

        Await the result. It returns once the frame has been handled or is in a lane; it waits while the lane is full.
        A stale `Output` is dropped. Errors of the processors downstream are reported there, not raised here.
        """
        return self._down[frame.__class__](frame)

    def push_up(self, frame: Frame) -> Awaitable[None]:
        """Send a frame upstream. It never waits for a full lane: pushes in both directions could deadlock."""
        return self._up[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal to all processors and listeners of the session, before this returns."""
        self.host.broadcast(signal)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session. An exception is reported as this processor's error.

        Raises IllegalState outside a running session.
        """
        self.host.start_task(self, function(*args))

    def stand_aside(self) -> None:
        """Handle no frames in this session: they pass the node by."""
        self.spec = Spec  # type: ignore[method-assign]  # one without handlers

    @classmethod
    def spec(cls) -> Spec:
        """Return the frames that the class handles. Raises ConfigurationError for invalid handlers and names."""
        found = cls.__dict__.get("_spec")
        if found is None:
            check_private_names(cls)
            found = cls._spec = read_spec(cls)
        return found


class Port(Protocol):
    """A place in the pipeline, seen in one direction."""

    def resolve(self, frame_type: type[Frame]) -> Target:
        """Return the target that takes frames of this type here."""

    def beyond(self) -> Iterator[Node]:
        """The processors from here on, in order, each once."""


def drop(frame: Frame) -> Awaitable[None]:
    """Drop a frame: the end of the line."""
    return DONE


class Routes(dict[type[Frame], Target]):
    """The cached routes of the frames that one node pushes in one direction. It is also the port into the node."""

    __slots__ = ("after", "direction", "host", "node")

    def __init__(self, host: Host, node: Node, direction: Direction, after: Port) -> None:
        self.host = host
        self.node = node
        self.direction: Direction = direction
        self.after = after

    def __missing__(self, frame_type: type[Frame]) -> Target:
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise BadInput(f"{self.node.name} pushed {frame_type.__name__}, which is not a frame")
        frame_family(frame_type)
        if issubclass(frame_type, Signal):
            target = self.host.signal_target(frame_type, self.after.beyond())
        else:
            target = self.after.resolve(frame_type)
        if issubclass(frame_type, End) and not self.node._aside:
            target = _draining(target, self.host, self.node)
        if (tap := self.host.tap_for(frame_type)) is not None:
            target = _tapped(target, self, tap, issubclass(frame_type, Output))
        self[frame_type] = target
        return target

    def beyond(self) -> Iterator[Node]:
        yield self.node
        yield from self.after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        node, spec = self.node, self.node.spec()
        down = self.direction == "down"
        found = find_handler(spec.down if down else spec.up, frame_type)
        lanes = spec.lane_down if down else spec.lane_up
        if found is None and not lanes:
            return self.after.resolve(frame_type)
        routes = node._down if down else node._up
        if found is None:
            take: Target = _pass_on(routes, frame_type)
        else:
            handler = getattr(node, found.method)
            if issubclass(frame_type, Control):
                take = _guard_control(handler, self.host, node, routes)
            elif issubclass(frame_type, Output) and not frame_type.survives_fence:
                take = _guard_output(handler, self.host, node)
            else:
                take = _guard_handler(handler, self.host, node)
            if down and not lanes and type(node).pass_at_once is not Node.pass_at_once:
                take = _guard_at_once(node.pass_at_once, take, self.host, node)
        if not lanes:
            return take
        return self._into_lane(take, frame_type, lanes, down)

    def _into_lane(self, take: Target, frame_type: type[Frame], lanes: frozenset[Any], down: bool) -> Target:
        lane = self.node._lane
        assert lane is not None
        put = lane.put if down else lane.put_up
        if issubclass(frame_type, Control):
            return lambda frame: put(take, frame, True)
        if frame_family(frame_type) in lanes:
            if issubclass(frame_type, Output) and not frame_type.survives_fence:
                floor = self.host.floor
                return lambda frame: DONE if frame.turn <= floor.fence else put(take, frame)
            if down and type(self.node).take_at_once is not Node.take_at_once:
                return self._at_once_or_into(lane, take, frame_type)
            return lambda frame: put(take, frame)
        # Other families overtake the lane, but not a Control in it, nor the frames behind that.
        return lambda frame: put(take, frame, True) if lane.held else take(frame)

    def _at_once_or_into(self, lane: Lane, take: Target, frame_type: type[Frame]) -> Target:
        node, put = self.node, lane.put
        if self.after.resolve(frame_type) is not drop:  # it must not overtake the frames in the lane
            return lambda frame: put(take, frame)
        take_at_once, routes = node.take_at_once, node._down

        def at_once(frame: Frame) -> Awaitable[None]:
            if take_at_once(frame):
                return routes[frame.__class__](frame)
            return put(take, frame)

        return at_once


def _tapped(target: Target, routes: Routes, tap: Tap, fenced: bool) -> Target:
    source, direction, is_stale = routes.node, routes.direction, routes.host.floor.is_stale

    def tapped(frame: Frame) -> Awaitable[None]:
        if not (fenced and is_stale(frame)):
            tap(source, direction, frame)
        return target(frame)

    return tapped


def _draining(target: Target, host: Host, source: Node) -> Target:
    def draining(frame: End) -> Awaitable[None]:
        if host.is_open(source):  # a closed processor cannot end the call
            host.begin_draining(frame)
        return target(frame)

    return draining


def _guard_handler(handler: Target, host: Host, processor: Node) -> Target:
    failures = 0  # in a row

    async def call(frame: Frame) -> None:
        nonlocal failures
        try:
            await handler(frame)
            failures = 0
        except CONTAINED as error:
            failures += 1
            _report_failure(contained(error), host, processor, frame, failures)
        except asyncio.CancelledError as error:
            host.report(stray(error), processor.name, frame)

    return call


def _guard_at_once(
    pass_at_once: Callable[[Frame], Awaitable[None] | None], take: Target, host: Host, processor: Node
) -> Target:
    failures = 0  # in a row

    def call(frame: Frame) -> Awaitable[None]:
        nonlocal failures
        try:
            passed = pass_at_once(frame)
            failures = 0
        except CONTAINED as error:
            failures += 1
            _report_failure(contained(error), host, processor, frame, failures)
            return DONE
        return take(frame) if passed is None else passed

    return call


def _guard_output(handler: Target, host: Host, processor: Node) -> Target:
    floor, failures = host.floor, 0

    async def call(frame: Output) -> None:
        nonlocal failures
        if frame.turn <= floor.fence:
            return
        try:
            await handler(frame)
            failures = 0
        except CONTAINED as error:
            failures += 1
            _report_failure(contained(error), host, processor, frame, failures)
        except asyncio.CancelledError as error:
            host.report(stray(error), processor.name, frame)

    return call


def _report_failure(error: Exception, host: Host, processor: Node, frame: Frame, failures: int) -> None:
    """Report an error of a handler. A bug (category `internal`) that each of `MAX_FAILURES` frames meets is fatal."""
    if failures == MAX_FAILURES and getattr(error, "category", "internal") == "internal":
        what = error_text(error)
        broken = DuologueError(f"{processor.name} has failed {failures} times in a row: {what}")
        broken.__cause__ = error
        host.report(broken, processor.name, frame, fatal=True)
    else:
        host.report(error, processor.name, frame)


def _guard_control(handler: Target, host: Host, processor: Node, routes: dict[type[Frame], Target]) -> Target:
    guarded = _guard_handler(handler, host, processor)

    async def call(frame: Control) -> None:
        await guarded(frame)
        await routes[frame.__class__](frame)

    return call


def _pass_on(routes: dict[type[Frame], Target], frame_type: type[Frame]) -> Target:
    return lambda frame: routes[frame_type](frame)


class EndPort:
    """An end of the pipeline. It takes the frames that no processor before it has handled."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[type[Frame]], Target]) -> None:
        self._take = take

    def beyond(self) -> Iterator[Node]:
        return iter(())

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._take(frame_type)
