"""Ports where ways part and meet: the two ends of a `Parallel` and of a `Switch`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...frames import Control, Frame, Input
from .lane import DONE, Lane
from .routes import Direction, Port, Target

if TYPE_CHECKING:
    from ...session.session import Session
    from .processor import Processor


MOVED = 1 << 30
"""More copies than ever leave."""


class Fork:
    """Where the branches of a `Parallel` part: every branch gets every frame."""

    def __init__(self, owner: Processor, session: Session, ports: Sequence[Port], join: Join) -> None:
        self._owner = owner
        self._session = session
        self._ports = ports
        self._join = join
        self._parting: asyncio.Task[None] | None = None

    def beyond(self) -> Iterator[Processor]:
        seen: set[int] = set()
        after = list(self._join.after.beyond())
        skip = {id(p) for p in after}
        for port in self._ports:
            for processor in port.beyond():
                if id(processor) not in seen and id(processor) not in skip:
                    seen.add(id(processor))
                    yield processor
        yield from after

    def resolve(self, frame_type: type[Frame]) -> Target:
        targets = [port.resolve(frame_type) for port in self._ports]
        entered = self._join.entered

        async def fan(frame: Frame) -> None:
            entered(frame)
            for target in targets:
                await target(frame)

        if not issubclass(frame_type, Control):
            return fan

        async def part(frame: Frame, before: asyncio.Task[None] | None) -> None:
            waits = self._session.waits
            if before is not None and not waits.in_a_circle(before):
                with waits.noted(before):
                    await asyncio.wait({before})
            await fan(frame)

        async def fan_whole(frame: Frame) -> None:
            # In a task of its own: were the pusher cancelled half-way, some branches would never get it, and it
            # would never leave. One after the other, so that they have the same order in all branches.
            task = self._parting = self._session.start_task(self._owner, part(frame, self._parting))
            with self._session.waits.noted(task):
                await asyncio.wait({task})  # its end, however it ends: a cancelled task is not the pusher's concern

        return fan_whole


class _Barrier:
    """A `Control` that waits until all branches have let it go."""

    def __init__(self, join: Join, leave: Target, frame: Frame) -> None:
        self._join = join
        self._leave = leave
        self.frame = frame
        self.arrived: set[int] = set()
        """The branches that have let it go."""
        self.void = False
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, frame: Frame) -> None:
        await self.open
        if not self.void:
            self._join.remove_barrier(self)
            await self._leave(frame)


class Join:
    """Where the branches of a `Parallel` meet. Remembers the frames that entered, so that one copy of each leaves.

    It remembers at most `limit` frames, the oldest are forgotten: more than the branches' lanes can hold. Frames that
    a branch lets go behind a `Control` that the others still hold wait in a lane of that size.
    """

    def __init__(
        self, owner: Processor, session: Session, direction: Direction, after: Port, branches: int, limit: int
    ) -> None:
        self.after = after
        self._session = session
        self._branches = branches
        self._limit = limit
        self._lane = Lane(owner, session, limit)
        self._up = direction == "up"
        self._put = self._lane.put_up if self._up else self._lane.put
        # id(frame) -> the frame, kept so that the id stays its own.
        self._inside: OrderedDict[int, Frame] = OrderedDict()
        # id(frame) -> times entered, times left, arrivals here, and those from each branch.
        self._counts: dict[int, list[int]] = {}
        # id(frame) -> who takes its copy on at this moment, and what is done when that is done.
        self._leaving: dict[int, tuple[asyncio.Task[Any], asyncio.Future[None]]] = {}
        self._barriers: list[_Barrier] = []

    def port(self, branch: int) -> Port:
        """The exit of one branch."""
        return _JoinPort(self, branch)

    def entered(self, frame: Frame) -> None:
        """A frame goes into the branches."""
        key = id(frame)
        if key in self._inside:
            self._counts[key][0] += 1
            self._inside.move_to_end(key)
        else:
            self._inside[key] = frame
            self._counts[key] = [1, 0, 0, *(0 for _ in range(self._branches))]
            if len(self._inside) > self._limit:
                oldest, _ = self._inside.popitem(last=False)
                del self._counts[oldest]

    def resolve(self, frame_type: type[Frame], branch: int) -> Target:
        """What takes a frame that comes out of a branch."""
        leave = self.after.resolve(frame_type)
        lane = self._lane

        def arrive(frame: Frame) -> Awaitable[None]:
            counts = self._counts.get(id(frame))
            if counts is not None:
                self._count(frame, counts, branch)
                # The nth copy leaves when some branch has let go of n.
                if counts[3 + branch] <= counts[1]:
                    return self._arrive_again(branch, leave, frame)
                counts[1] += 1
            if lane.held:
                return self._in_turn(branch, leave, frame)
            leaving = leave(frame)
            return leaving if counts is None or leaving is DONE else self._go(frame, leaving)

        def arrive_control(frame: Frame) -> Awaitable[None]:
            counts = self._counts.get(id(frame))
            if counts is None:
                return arrive(frame)
            if counts[3 + branch] < counts[0] and counts[1] < MOVED:
                self._count(frame, counts, branch)
                self._at_barrier(branch, leave, frame)
            return DONE

        return arrive_control if issubclass(frame_type, Control) else arrive

    async def _go(self, frame: Frame, leaving: Awaitable[None]) -> None:
        key, task = id(frame), asyncio.current_task()
        assert task is not None
        gone = self._leaving[key] = (task, asyncio.get_running_loop().create_future())
        try:
            await leaving
        finally:
            gone[1].set_result(None)
            if self._leaving.get(key) is gone:
                del self._leaving[key]

    async def _gone(self, frame: Frame) -> None:
        """Wait until another copy has gone where this one would: what comes behind this one must not overtake it."""
        waits = self._session.waits
        task, gone = self._leaving[id(frame)]
        if not waits.in_a_circle(task):
            with waits.noted(task):
                await asyncio.wait({gone})

    def _count(self, frame: Frame, counts: list[int], branch: int) -> None:
        counts[2] += 1
        counts[3 + branch] += 1
        if counts[2] >= counts[0] * self._branches:
            del self._inside[id(frame)], self._counts[id(frame)]

    def _arrive_again(self, branch: int, leave: Target, frame: Frame) -> Awaitable[None]:
        """A copy that is not to leave. It pulls forward one that waits behind what has not passed this branch yet."""
        if id(frame) in self._leaving:
            return self._gone(frame)
        ahead = self._next_barrier(branch) if self._lane.held else None
        if ahead is not None and self._lane.withdraw(frame, behind=ahead):
            return self._lane.put_before(ahead, leave, frame, up=self._up)
        return DONE

    def _next_barrier(self, branch: int) -> _Barrier | None:
        """The first `Control` that a branch has not let go yet, after those that it has."""
        passed = [place for place, barrier in enumerate(self._barriers) if branch in barrier.arrived]
        ahead = self._barriers[passed[-1] + 1 if passed else 0 :]
        return ahead[0] if ahead else None

    def _in_turn(self, branch: int, leave: Target, frame: Frame) -> Awaitable[None]:
        """Let a frame leave in its place among the `Control`s that its branch has let go already."""
        ahead = self._next_barrier(branch)
        if ahead is not None:
            return self._lane.put_before(ahead, leave, frame, up=self._up)
        return self._put(leave, frame, True)

    def _at_barrier(self, branch: int, leave: Target, frame: Frame) -> None:
        barrier = next((b for b in self._barriers if b.frame is frame and branch not in b.arrived), None)
        if barrier is None:
            barrier = _Barrier(self, leave, frame)
            self._barriers.append(barrier)
            self._lane.put_held(barrier, frame, up=self._up)
        barrier.arrived.add(branch)
        if len(barrier.arrived) == self._branches and not barrier.open.done():  # done: cancelled with the session
            barrier.open.set_result(None)

    def remove_barrier(self, barrier: _Barrier) -> None:
        """A `Control` waits no more."""
        self._barriers.remove(barrier)

    def take(self) -> list[Frame]:
        """Remove and return what has left the branches but not gone on."""
        closed = [barrier for barrier in self._barriers if not barrier.open.done()]
        return self._lane.take("up" if self._up else "down", keep=closed)

    def forget(self, moved: Sequence[Frame]) -> None:
        """These frames have been taken out of the branches: what is still under way of them does not leave."""
        for frame in moved:
            if (counts := self._counts.get(id(frame))) is not None:
                counts[1] = MOVED
        gone = {id(frame) for frame in moved}
        for barrier in [barrier for barrier in self._barriers if id(barrier.frame) in gone]:
            self.remove_barrier(barrier)
            self._lane.drop([barrier])
            barrier.void = True
            if not barrier.open.done():
                barrier.open.set_result(None)


class _JoinPort:
    """The exit of one branch of a `Parallel`."""

    def __init__(self, join: Join, branch: int) -> None:
        self._join = join
        self._branch = branch

    def beyond(self) -> Iterator[Processor]:
        return self._join.after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._join.resolve(frame_type, self._branch)


class Gate:
    """The two ends of a `Switch` in one direction: an entry to the active branch, and an exit from each branch.

    After a change of branches the frames that waited in the old one stand in a lane at the entry, and what comes later
    queues behind them. Of a branch that is no longer active, what it still has of the caller's words leaves, and each
    `Control` that came in before the change; its own words do not.
    """

    def __init__(self, owner: Processor, session: Session, direction: Direction, after: Port, active: str) -> None:
        self.active = active
        self._after = after
        self._up = direction == "up"
        self._lane = Lane(owner, session)
        self._put = self._lane.put_up if self._up else self._lane.put
        self._entries: Mapping[str, Port] = {}
        # For each branch: the `Control` frames inside it.
        self._controls: dict[str, dict[int, Frame]] = {}

    def connect(self, entries: Mapping[str, Port]) -> None:
        """Set the ports into the branches."""
        self._entries = entries
        self._controls = {name: {} for name in entries}

    def beyond(self) -> Iterator[Processor]:
        return self._entries[self.active].beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        # Whoever resolved this before a change may call it after: so it looks, at each call, where it leads.
        name, lane, put, deliver = self.active, self._lane, self._put, self._deliver
        into = self._into(frame_type)

        def enter(frame: Frame) -> Awaitable[None]:
            return into(frame) if self.active == name and not lane.held else put(deliver, frame, True)

        return enter

    def _into(self, frame_type: type[Frame]) -> Target:
        target = self._entries[self.active].resolve(frame_type)
        if not issubclass(frame_type, Control):
            return target
        inside = self._controls[self.active]

        def enter(frame: Frame) -> Awaitable[None]:
            inside[id(frame)] = frame
            return target(frame)

        return enter

    async def _deliver(self, frame: Frame) -> None:
        await self._into(type(frame))(frame)

    def exit(self, name: str) -> Port:
        """The exit of one branch."""
        return _Exit(self, name, self._after)

    def leaves(self, name: str, frame_type: type[Frame]) -> Target:
        """What takes a frame that comes out of a branch."""
        leave = self._after.resolve(frame_type)
        if issubclass(frame_type, Input):
            return leave
        if issubclass(frame_type, Control):
            inside = self._controls[name]

            def leave_control(frame: Frame) -> Awaitable[None]:
                came_in = inside.pop(id(frame), None) is not None
                return leave(frame) if came_in or self.active == name else DONE

            return leave_control
        return lambda frame: leave(frame) if self.active == name else DONE

    def change(self, name: str, waiting: Sequence[Frame]) -> None:
        """Make another branch the active one; the frames that waited in the old one go there first."""
        for frame in waiting:
            self._controls[self.active].pop(id(frame), None)
        self.active = name
        self._lane.put_all(self._deliver, waiting, up=self._up)

    def take(self) -> list[Frame]:
        """Remove and return what waits at the entry."""
        return self._lane.take("up" if self._up else "down")


class _Exit:
    """The exit of one branch of a `Switch`."""

    def __init__(self, gate: Gate, name: str, after: Port) -> None:
        self._gate = gate
        self._name = name
        self._after = after

    def beyond(self) -> Iterator[Processor]:
        return self._after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._gate.leaves(self._name, frame_type)


def merged(ways: Sequence[list[Frame]]) -> list[Frame]:
    """Frames that went several ways side by side, each once, in an order that every way agrees with."""
    left = [way for way in ways if way]
    out: list[Frame] = []
    while left:
        heads = [way[0] for way in left]
        later = {id(frame) for way in left for frame in way[1:]}
        # Two ways may disagree, where two pushers ran a race: then the first way is right.
        head = next((frame for frame in heads if id(frame) not in later), heads[0])
        out.append(head)
        left = [rest for way in left if (rest := [frame for frame in way if frame is not head])]
    return out
