"""`Switch`: several branches of a pipeline, of which one is active."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

from ..errors import ConfigurationError
from ..frames import Control, Frame, Input
from .kernel.groups import Group, active_members, build, check_tree, members, take
from .kernel.host import Direction, Target
from .kernel.lane import DONE, Lane
from .kernel.node import Node, Port
from .processor import Processor

N = TypeVar("N", bound=Processor)


class Switch(Processor, Group, Generic[N]):
    """Named branches, of which one is active. The others are closed, and neither get nor push frames.

    `active` names the branch that is active at first, by default the first in the mapping. Raises
    ConfigurationError for an empty mapping and an unknown name.
    """

    def __init__(self, branches: Mapping[str, N], active: str = "") -> None:
        if not branches:
            raise ConfigurationError("Switch needs at least one branch")
        if not isinstance(branches, Mapping):
            raise ConfigurationError(f"Switch takes branches by name, not {branches!r}")
        self._branches = dict(branches)
        self._active = active or next(iter(self._branches))
        self._require(self._active)
        self._selecting = asyncio.Lock()
        self._gates: dict[Direction, _SwitchGate] = {}
        check_tree(self)

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(self._branches.values())

    @property
    def labelled_children(self) -> list[tuple[str, Node]]:
        return [(f"{name} (active)" if name == self._active else name, node) for name, node in self._branches.items()]

    @property
    def active_children(self) -> tuple[Node, ...]:
        return (self._branches[self._active],)

    @property
    def branches(self) -> Mapping[str, N]:
        """All branches by name."""
        return self._branches

    @property
    def active(self) -> str:
        """The name of the active branch."""
        return self._active

    def _require(self, name: str) -> N:
        if name not in self._branches:
            raise ConfigurationError(f"Switch has no branch {name!r}; it has {', '.join(self._branches)}")
        return self._branches[name]

    async def select(self, name: str) -> None:
        """Make another branch the active one. See `change`.

        Raises ConfigurationError for an unknown name, IllegalState if the session does not run, and the error of a
        processor that cannot be opened. On an error the old branch stays active.
        """
        async with self.change(name) as change:
            with change.step():
                pass

    @asynccontextmanager
    async def change(self, name: str) -> AsyncIterator[BranchChange]:
        """A context manager around a change of branches. A second change waits for the first.

        Inside the block the new branch is open while the old one still works; `change.step()` makes the new branch
        active, and the end of the block closes the old one. Without a step, or if the block raises before it, the old
        branch stays active and the new one is closed again. Raises the same errors as `select`.
        """
        new, host = self._require(name), self.host
        async with self._selecting:
            host.require_running("change a branch")
            old = self._branches[self._active]
            change = BranchChange(self, self._active, name)
            # Nothing is open inside an inactive branch: there only the choice changes.
            opens = change.needed and host.is_open(self)
            if opens:
                await host.open_branch(active_members(new))
            try:
                yield change
            finally:
                if opens:
                    await host.close_branch(members(old if change.done else new))

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        waiting = {direction: self.take(direction) for direction in self._gates}
        self._active = name
        try:
            yield
        finally:
            for direction, gate in self._gates.items():
                gate.change(name, waiting[direction])
            self.host.reroute()

    def build(self, direction: Direction, after: Port) -> Port:
        gate = self._gates[direction] = _SwitchGate(self, direction, after, self._active)
        gate.connect({n: build(branch, direction, gate.exit(n)) for n, branch in self._branches.items()})
        return gate

    def take(self, direction: Direction) -> list[Frame]:
        return take(self._branches[self._active], direction) + self._gates[direction].take()


class BranchChange:
    """A change of branches in progress: see `Switch.change`."""

    def __init__(self, switch: Switch[Any], old: str, new: str) -> None:
        self.old = old
        self.new = new
        self.done = False
        """True once the new branch is active."""
        self._switch = switch

    @property
    def needed(self) -> bool:
        """False if the branch was active already. The step then changes nothing."""
        return self.old != self.new

    @contextmanager
    def step(self) -> Iterator[None]:
        """Make the new branch the active one, in one step of the event loop.

        `Input` and `Control` frames that wait in the old branch's lanes move to the new branch, in order and ahead of
        later frames. Frames that a handler of the old branch is working on stay there: `Input` that it pushes still
        leaves the branch, `Output` is dropped. The block moves state that the branches keep outside their lanes; it
        must not await.
        """
        if not self.needed:
            yield
            return
        self.done = True
        with self._switch._step(self.new):
            yield


class _SwitchGate:
    """The two ends of a `Switch` in one direction: an entry to the active branch, and an exit from each branch.

    After a change the frames that waited in the old branch wait in a lane at the entry, and later frames queue behind
    them. A branch that is no longer active still lets out its `Input`, and each `Control` that entered before the
    change, but not its `Output`.
    """

    def __init__(self, owner: Node, direction: Direction, after: Port, active: str) -> None:
        self.active = active
        self._after = after
        self._up = direction == "up"
        self._lane = Lane(owner)
        self._put = self._lane.put_up if self._up else self._lane.put
        self._entries: Mapping[str, Port] = {}
        # The `Control` frames inside each branch.
        self._controls: dict[str, dict[int, Frame]] = {}

    def connect(self, entries: Mapping[str, Port]) -> None:
        """Set the ports that lead into the branches."""
        self._entries = entries
        self._controls = {name: {} for name in entries}

    def beyond(self) -> Iterator[Node]:
        return self._entries[self.active].beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        # A route from before a change may be used after it: it looks up the active branch at each call.
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
        """Return the exit of one branch."""
        return _Exit(self, name, self._after)

    def leaves(self, name: str, frame_type: type[Frame]) -> Target:
        """Return the target that takes frames of this type from a branch."""
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
        """Make another branch the active one; the `waiting` frames of the old one enter it first."""
        for frame in waiting:
            self._controls[self.active].pop(id(frame), None)
        self.active = name
        self._lane.put_all(self._deliver, waiting, up=self._up)

    def take(self) -> list[Frame]:
        """Remove and return the frames that wait at the entry."""
        return self._lane.take("up" if self._up else "down")


class _Exit:
    """The exit of one branch of a `Switch`."""

    def __init__(self, gate: _SwitchGate, name: str, after: Port) -> None:
        self._gate = gate
        self._name = name
        self._after = after

    def beyond(self) -> Iterator[Node]:
        return self._after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._gate.leaves(self._name, frame_type)
