"""Composition: one after another (`Pipeline`), side by side (`Parallel`), one of several (`Switch`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from ..errors import ConfigurationError
from ..frames import Control, Frame, Input
from .base import Processor
from .lane import DONE, Lane
from .routing import Direction, LeafPort, Link, Port, Routes, Target, drop

if TYPE_CHECKING:
    from ..session.session import Session

P = TypeVar("P", bound=Processor)


class Group(Processor):
    """A processor made of others. It has no handlers of its own, and vanishes when the pipeline is linked."""

    @property
    def children(self) -> tuple[Processor, ...]:
        """The processors directly inside."""
        raise NotImplementedError

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        """The port that frames enter by, given the one that they leave to."""
        raise NotImplementedError


def register(link: Link, node: Processor) -> None:
    """Check the tree below `node`: every handler right, every processor in one place."""
    link.enter(node)
    spec = node.spec()
    if isinstance(node, Group):
        if spec.down or spec.up or spec.signals:
            raise ConfigurationError(f"{node.name} is made of processors and cannot have handlers: put one inside it")
        for child in node.children:
            register(link, child)
    link.leave()


def build(session: Session, node: Processor, direction: Direction, after: Port) -> Port:
    """The port into `node`; what it pushes in this direction goes `after`."""
    if isinstance(node, Group):
        return node.build(session, direction, after)
    if direction == "down" and (node.spec().lane_down or node.spec().lane_up):
        node._lane = Lane(node, session)
    routes = Routes(session, node, direction, after)
    if direction == "down":
        node._down = routes
    else:
        node._up = routes
    return LeafPort(session, node, direction, after)


class Pipeline(Group):
    """Processors in a row. Downstream is from the first to the last.

    Raises ConfigurationError, with the names, for something that is no processor, a processor used twice, a cycle
    and a handler with a wrong signature.
    """

    def __init__(self, processors: Iterable[Processor]) -> None:
        self._processors = tuple(processors)
        check(self)

    @property
    def children(self) -> tuple[Processor, ...]:
        return self._processors

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        port = after
        for child in reversed(self.children) if direction == "down" else self.children:
            port = build(session, child, direction, port)
        return port


class Parallel(Group):
    """Branches side by side. Each gets every frame; one copy of each comes out.

    What several branches let through leaves once, as soon as the first lets it go. A `Control` leaves when all
    branches have let it go. What a branch makes itself always leaves.
    """

    def __init__(self, *branches: Iterable[Processor] | Processor) -> None:
        if len(branches) < 2:
            raise ConfigurationError(f"Parallel needs at least two branches, not {len(branches)}")
        self._branches = tuple(b if isinstance(b, Processor) else Pipeline(b) for b in branches)
        check(self)

    @property
    def children(self) -> tuple[Processor, ...]:
        return self._branches

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        join = _Join(after, len(self._branches), 1024 + 2 * sum(leaf.capacity for leaf in leaves(self)))
        return _Fan([build(session, branch, direction, join) for branch in self._branches], join)


class _Join:
    """Where branches meet. Remembers the frames that entered, so that one copy of each leaves.

    It remembers at most `limit` frames, the oldest are forgotten: more than the branches' lanes can hold.
    """

    def __init__(self, after: Port, branches: int, limit: int) -> None:
        self.after = after
        self._branches = branches
        self._limit = limit
        # id(frame) -> the frame, kept so that the id stays its own; times entered; times left; arrivals here.
        self._inside: OrderedDict[int, list[object]] = OrderedDict()
        self._counts: dict[int, list[int]] = {}

    def beyond(self) -> Iterator[Processor]:
        return self.after.beyond()

    def entered(self, frame: Frame) -> None:
        key = id(frame)
        if key in self._inside:
            self._counts[key][0] += 1
            self._inside.move_to_end(key)
        else:
            self._inside[key] = [frame]
            self._counts[key] = [1, 0, 0]
            if len(self._inside) > self._limit:
                oldest, _ = self._inside.popitem(last=False)
                del self._counts[oldest]

    def resolve(self, frame_type: type[Frame]) -> Target:
        leave = self.after.resolve(frame_type)
        barrier = issubclass(frame_type, Control)

        def arrive(frame: Frame) -> Awaitable[None]:
            key = id(frame)
            counts = self._counts.get(key)
            if counts is None:
                return leave(frame)
            counts[2] += 1
            due = counts[2] // self._branches if barrier else min(counts[2], counts[0])
            if counts[2] >= counts[0] * self._branches:
                del self._inside[key], self._counts[key]
            if due <= counts[1]:
                return DONE
            counts[1] += 1
            return leave(frame)

        return arrive


class _Fan:
    """Where branches part."""

    def __init__(self, ports: list[Port], join: _Join) -> None:
        self._ports = ports
        self._join = join

    def beyond(self) -> Iterator[Processor]:
        seen: set[int] = set()
        after = list(self._join.beyond())
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

        return fan


class Switch(Group, Generic[P]):
    """Named branches of which one is active; the others are closed and disconnected.

    `active` is the name of the first one, by default the first in the mapping.
    """

    def __init__(self, branches: Mapping[str, P], active: str = "") -> None:
        if not branches:
            raise ConfigurationError("Switch needs at least one branch")
        self._branches = dict(branches)
        self._active = active or next(iter(self._branches))
        self._require(self._active)
        self._gate: anyio.Event | None = None
        check(self)

    @property
    def children(self) -> tuple[Processor, ...]:
        return tuple(self._branches.values())

    @property
    def branches(self) -> Mapping[str, P]:
        """All branches by name."""
        return self._branches

    @property
    def active(self) -> str:
        """The name of the active branch."""
        return self._active

    def _require(self, name: str) -> P:
        if name not in self._branches:
            raise ConfigurationError(f"Switch has no branch {name!r}; it has {', '.join(self._branches)}")
        return self._branches[name]

    async def select(self, name: str) -> None:
        """Make another branch the active one.

        It is opened first; if that fails the old one stays active and the error is raised. `Input` that still waits
        in the old branch's lanes moves to the new one, ahead of what comes later. Raises ConfigurationError for an
        unknown name.
        """
        new, session = self._require(name), self.session
        if name == self._active:
            return
        old_name, old = self._active, self._branches[self._active]
        await session.open_branch(new)
        gate = self._gate = anyio.Event()
        self._active = name
        session.reroute()
        try:
            waiting: list[Input] = []
            for leaf in reversed(leaves(old)):  # those nearest to the exit are the oldest
                if leaf._lane is not None:
                    waiting += leaf._lane.take_input()
            into = self._entries["down"][name]
            for frame in waiting:
                await into.resolve(type(frame))(frame)
        finally:
            self._gate = None
            session.reroute()
            gate.set()
            await session.close_branch(old, old_name)

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        entries = {
            name: build(session, branch, direction, _BranchExit(self, name, after))
            for name, branch in self._branches.items()
        }
        if direction == "down":
            self._entries: dict[Direction, dict[str, Port]] = {}
        self._entries[direction] = entries
        return _BranchEntry(self, entries)


class _BranchEntry:
    def __init__(self, switch: Switch[P], entries: dict[str, Port]) -> None:
        self._switch = switch
        self._entries = entries

    def beyond(self) -> Iterator[Processor]:
        return self._entries[self._switch.active].beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        gate = self._switch._gate
        if gate is None:
            return self._entries[self._switch.active].resolve(frame_type)

        async def wait(frame: Frame) -> None:
            await gate.wait()
            await self._entries[self._switch.active].resolve(frame_type)(frame)

        return wait


class _BranchExit:
    def __init__(self, switch: Switch[P], name: str, after: Port) -> None:
        self._switch = switch
        self._name = name
        self._after = after

    def beyond(self) -> Iterator[Processor]:
        return self._after.beyond()

    def resolve(self, frame_type: type[Frame]) -> Target:
        return self._after.resolve(frame_type) if self._switch.active == self._name else drop


def leaves(node: Processor) -> list[Processor]:
    """The processors below `node` that are not groups, in order."""
    if not isinstance(node, Group):
        return [node]
    return [leaf for child in node.children for leaf in leaves(child)]


def active_leaves(node: Processor) -> list[Processor]:
    """As `leaves`, without the inactive branches of a `Switch`."""
    if isinstance(node, Switch):
        return active_leaves(node.branches[node.active])
    if not isinstance(node, Group):
        return [node]
    return [leaf for child in node.children for leaf in active_leaves(child)]


def groups(node: Processor) -> list[Group]:
    """The groups of the tree that are not in an inactive branch, `node` included."""
    if isinstance(node, Switch):
        return [node, *groups(node.branches[node.active])]
    if isinstance(node, Group):
        return [node, *(group for child in node.children for group in groups(child))]
    return []


def all_groups(node: Processor) -> list[Group]:
    """As `groups`, with the inactive branches."""
    if not isinstance(node, Group):
        return []
    return [node, *(group for child in node.children for group in all_groups(child))]


def check(node: Group) -> None:
    """Refuse what could not be linked, when it is built. Raises ConfigurationError."""
    register(Link(), node)
