"""`Tee`: a branch that gets every frame that passes by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator

from ..frames import Control, Frame
from .kernel.groups import Group, build, check_tree, leaves, take
from .kernel.host import Direction, Target
from .kernel.lane import DONE, Lane
from .kernel.node import Node, Port, drop
from .pipeline import Pipeline
from .processor import Processor


class Tee(Processor, Group):
    """A branch beside the line. It gets every frame that passes, in both directions, and changes nothing.

    A frame enters the branch first and then goes on in the line. A `Control` goes on once it has left the branch, so
    an `End` waits for the work in the branch. A handler in the branch delays the frame like a handler in the line: put
    slow work into a lane (`queued=True`). Frames that leave the branch, upstream or downstream, are dropped. Signals
    reach the branch as they reach every processor.

    Raises ConfigurationError as `Pipeline` does.
    """

    beside = True

    def __init__(self, branch: Iterable[Node]) -> None:
        self._branch = Pipeline(branch)
        self._ports: dict[Direction, _TeePort] = {}
        check_tree(self)
        for leaf in leaves(self):
            leaf._aside = True

    @property
    def children(self) -> tuple[Node, ...]:
        return (self._branch,)

    def build(self, direction: Direction, after: Port) -> Port:
        end = _BranchEnd(after)
        port = self._ports[direction] = _TeePort(build(self._branch, direction, end), end, Lane(self), after, direction)
        return port

    def take(self, direction: Direction) -> list[Frame]:
        take(self._branch, direction)  # dropped: the line has the same frames
        return self._ports[direction].take()


class _Passing:
    """A `Control` that waits in the line until it has left the branch."""

    def __init__(self, frame: Frame, go_on: Target, port: _TeePort) -> None:
        self.frame = frame
        self.out: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.moved = False
        self._go_on = go_on
        self._port = port

    async def __call__(self, frame: Frame) -> None:
        self._port.passing = self
        await self.out
        if not self.moved:
            self._port.passing = None
            await self._go_on(frame)

    def let_go(self) -> None:
        """Let the frame go on: it has left the branch."""
        if not self.out.done():
            self.out.set_result(None)


class _BranchEnd:
    """The end of the branch. It notices each `Control` that leaves."""

    def __init__(self, after: Port) -> None:
        self.inside: list[_Passing] = []
        self._after = after

    def beyond(self) -> Iterator[Node]:
        return self._after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self.left if issubclass(frame_type, Control) else drop

    def left(self, frame: Frame) -> Awaitable[None]:
        """A `Control` leaves the branch. A `Control` that was made in the branch is dropped."""
        if (passing := next((p for p in self.inside if p.frame is frame), None)) is not None:
            self.inside.remove(passing)
            passing.let_go()
        return DONE


class _TeePort:
    """The entry to the branch and to the rest of the line."""

    def __init__(self, branch: Port, end: _BranchEnd, lane: Lane, after: Port, direction: Direction) -> None:
        self.passing: _Passing | None = None
        """The `Control` for which the line waits, or None."""
        self._branch = branch
        self._end = end
        self._lane = lane
        self._after = after
        self._direction = direction

    def beyond(self) -> Iterator[Node]:
        return self._branch.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        into, go_on, lane = self._branch.resolve(frame_type), self._after.resolve(frame_type), self._lane
        put = lane.put if self._direction == "down" else lane.put_up

        def line(frame: Frame) -> Awaitable[None]:
            return put(go_on, frame, True) if lane.held else go_on(frame)

        async def both(frame: Frame) -> None:
            await into(frame)
            await line(frame)

        async def pass_control(frame: Frame) -> None:
            passing = _Passing(frame, go_on, self)
            self._end.inside.append(passing)
            lane.put_held(passing, frame, up=self._direction == "up")
            try:
                await into(frame)
            except BaseException:  # the pusher was cancelled; the line still gets the frame
                self._end.left(frame)
                raise

        if into in (drop, self._end.left):  # nothing in the branch handles this type
            return line
        return pass_control if issubclass(frame_type, Control) else both

    def take(self) -> list[Frame]:
        """Remove and return the frames that wait in the line, oldest first."""
        waiting = self._lane.take(self._direction)
        if (passing := self.passing) is not None:
            waiting.insert(0, passing.frame)
            passing.moved, self.passing = True, None
        for inside in self._end.inside:
            inside.let_go()
        self._end.inside.clear()
        return waiting
