"""Routes: the callable that takes a frame next, cached per (processor, frame type, direction).

The tree of pipelines is turned into *ports*. A port returns, for a frame type, the callable that takes the frame from
there on. Processors that do not handle the type are skipped when the route is computed, not at each frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from ...errors import BadInput, DuologueError
from ...frames import Control, End, Frame, Output, Signal
from .host import Direction, Host, Target
from .lane import DONE, Lane
from .node import Node, find_handler, frame_family
from .tasks import stray


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
    """The cached routes of one node in one direction."""

    __slots__ = ("direction", "host", "port", "source")

    def __init__(self, host: Host, source: Node, direction: Direction, port: Port) -> None:
        self.host = host
        self.source = source
        self.direction: Direction = direction
        self.port = port

    def __missing__(self, frame_type: type[Frame]) -> Target:
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise BadInput(f"{self.source.name} pushed {frame_type.__name__}, which is not a frame")
        frame_family(frame_type)
        if issubclass(frame_type, Signal):
            target = self.host.signal_target(frame_type, self.port.beyond())
        else:
            target = self.port.resolve(frame_type)
        if issubclass(frame_type, End) and not self.source._aside:
            target = _draining(target, self.host, self.source)
        if self.host.tap is not None:
            target = _tapped(target, self, issubclass(frame_type, Output))
        self[frame_type] = target
        return target


def _tapped(target: Target, routes: Routes, fenced: bool) -> Target:
    source, direction, tap, is_stale = routes.source, routes.direction, routes.host.tap, routes.host.floor.is_stale
    assert tap is not None

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


class LeafPort:
    """The entry to one processor."""

    __slots__ = ("direction", "host", "next", "processor")

    def __init__(self, host: Host, processor: Node, direction: Direction, next_port: Port) -> None:
        self.host = host
        self.processor = processor
        self.direction: Direction = direction
        self.next = next_port

    def beyond(self) -> Iterator[Node]:
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
                take = _guard_control(handler, self.host, processor, routes)
            elif issubclass(frame_type, Output) and not frame_type.survives_fence:
                take = _guard_output(handler, self.host, processor)
            else:
                take = _guard(handler, self.host, processor)
        if not lanes:
            return take
        return self._into_lane(take, frame_type, lanes, down)

    def _into_lane(self, take: Target, frame_type: type[Frame], lanes: frozenset[Any], down: bool) -> Target:
        lane = self.processor._lane
        assert lane is not None
        put = lane.put if down else lane.put_up
        if issubclass(frame_type, Control):
            return lambda frame: put(take, frame, True)
        if frame_family(frame_type) in lanes:
            if issubclass(frame_type, Output) and not frame_type.survives_fence:
                floor = self.host.floor
                return lambda frame: DONE if frame.turn <= floor.fence else put(take, frame)
            if down and type(self.processor).take_at_once is not Node.take_at_once:
                return self._at_once_or_into(lane, take, frame_type)
            return lambda frame: put(take, frame)
        # Other families overtake the lane, but not a Control in it, nor the frames behind that.
        return lambda frame: put(take, frame, True) if lane.held else take(frame)

    def _at_once_or_into(self, lane: Lane, take: Target, frame_type: type[Frame]) -> Target:
        processor, put = self.processor, lane.put
        if self.next.resolve(frame_type) is not drop:  # it must not overtake the frames in the lane
            return lambda frame: put(take, frame)
        take_at_once, routes = processor.take_at_once, processor._down

        def at_once(frame: Frame) -> Awaitable[None]:
            if take_at_once(frame):
                return routes[frame.__class__](frame)
            return put(take, frame)

        return at_once


MAX_FAILURES = 50
"""Frames in a row that a handler may fail with. After that the processor is broken, and the call fails."""


def _guard(handler: Target, host: Host, processor: Node) -> Target:
    failures = 0  # in a row

    async def call(frame: Frame) -> None:
        nonlocal failures
        try:
            await handler(frame)
            failures = 0
        except Exception as error:
            failures += 1
            _report(error, host, processor, frame, failures)
        except asyncio.CancelledError as error:
            host.report(stray(error), processor.name, frame)

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
        except Exception as error:
            failures += 1
            _report(error, host, processor, frame, failures)
        except asyncio.CancelledError as error:
            host.report(stray(error), processor.name, frame)

    return call


def _report(error: Exception, host: Host, processor: Node, frame: Frame, failures: int) -> None:
    """Report an error of a handler. A bug (category `internal`) that each of `MAX_FAILURES` frames meets is fatal."""
    if failures == MAX_FAILURES and getattr(error, "category", "internal") == "internal":
        what = str(error) or type(error).__name__
        broken = DuologueError(f"{processor.name} has failed {failures} times in a row: {what}")
        broken.__cause__ = error
        host.report(broken, processor.name, frame, fatal=True)
    else:
        host.report(error, processor.name, frame)


def _guard_control(handler: Target, host: Host, processor: Node, routes: dict[type[Frame], Target]) -> Target:
    guarded = _guard(handler, host, processor)

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
