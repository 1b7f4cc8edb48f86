"""Composition: one after another (`Pipeline`), side by side (`Parallel`), one of several (`Switch`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from ...errors import ConfigurationError
from ...frames import Frame
from .junctions import Fork, Gate, Join, merged
from .lane import Lane
from .processor import Processor
from .routes import Direction, LeafPort, Link, Port, Routes

if TYPE_CHECKING:
    from ...session.session import Session

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

    def take(self, direction: Direction) -> list[Frame]:
        """Remove and return the `Input` and `Control` that wait inside, the oldest (nearest to the exit) first."""
        return [frame for child in _from_exit(self.children, direction) for frame in take(child, direction)]


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


def take(node: Processor, direction: Direction) -> list[Frame]:
    """Remove and return the `Input` and `Control` that wait in the lanes below `node`, oldest first."""
    if isinstance(node, Group):
        return node.take(direction)
    return node._lane.take(direction) if node._lane is not None else []


def _from_exit(children: tuple[Processor, ...], direction: Direction) -> Iterable[Processor]:
    return reversed(children) if direction == "down" else children


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
        self._processors = _several(self, processors)
        check(self)

    @property
    def children(self) -> tuple[Processor, ...]:
        return self._processors

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        port = after
        for child in _from_exit(self.children, direction):
            port = build(session, child, direction, port)
        return port


class Parallel(Group):
    """Branches side by side. Each gets every frame; one copy of each comes out.

    What several branches let through leaves once, as soon as the first lets it go. A `Control` leaves when all
    branches have let it go, and nothing from behind it leaves before. What a branch makes itself always leaves.
    Frames that come out of different branches may change places, a `Control` never does.
    """

    def __init__(self, *branches: Iterable[Processor] | Processor) -> None:
        if len(branches) < 2:
            raise ConfigurationError(f"Parallel needs at least two branches, not {len(branches)}")
        self._branches = tuple(b if isinstance(b, Processor) else Pipeline(b) for b in branches)
        self._joins: dict[Direction, Join] = {}
        check(self)

    @property
    def children(self) -> tuple[Processor, ...]:
        return self._branches

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        limit = 1024 + 2 * sum(leaf.capacity for leaf in leaves(self))
        join = self._joins[direction] = Join(self, session, direction, after, len(self._branches), limit)
        ports = [build(session, branch, direction, join.port(n)) for n, branch in enumerate(self._branches)]
        return Fork(self, session, ports, join)

    def take(self, direction: Direction) -> list[Frame]:
        join = self._joins[direction]
        moved = merged([join.take(), *(take(branch, direction) for branch in self._branches)])
        join.forget(moved)
        return moved


class Switch(Group, Generic[P]):
    """Named branches of which one is active; the others are closed, get nothing and say nothing.

    `active` is the name of the first one, by default the first in the mapping. Raises ConfigurationError for an empty
    mapping and an unknown name.
    """

    def __init__(self, branches: Mapping[str, P], active: str = "") -> None:
        if not branches:
            raise ConfigurationError("Switch needs at least one branch")
        if not isinstance(branches, Mapping):
            raise ConfigurationError(f"Switch takes branches by name, not {branches!r}")
        self._branches = dict(branches)
        self._active = active or next(iter(self._branches))
        self._require(self._active)
        self._selecting = asyncio.Lock()
        self._gates: dict[Direction, Gate] = {}
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

    async def select(
        self,
        name: str,
        *,
        drain: Callable[[], Awaitable[None]] | None = None,
        move: Callable[[], None] | None = None,
    ) -> None:
        """Make another branch the active one. One change at a time: a second one waits for the first.

        The branch is opened first; if that fails the old one stays active and the error is raised. Then, in one step,
        `Input` and `Control` that still wait in the old branch's lanes move to the new one, in their order and ahead
        of what comes later. What a handler of the old branch is at work on stays there: its `Input` still leaves, its
        `Output` is dropped. Raises ConfigurationError for an unknown name, IllegalState if the session does not run.

        `drain` is awaited when the new branch is open and the old one still works; if it raises, that one stays.
        `move` is called in the step itself: it moves what the branches keep outside their lanes.
        """
        new, session = self._require(name), self.session
        async with self._selecting:
            session.require_running("change a branch")
            if name == self._active:
                return
            old = self._branches[self._active]
            # In a branch that is not active itself, nothing is open: only the choice changes.
            is_open = session.is_open(self)
            if is_open:
                await session.open_branch(new)
            if drain is not None:
                try:
                    await drain()
                except BaseException:
                    await session.close_branch(new)
                    raise
            waiting = {direction: self.take(direction) for direction in self._gates}
            self._active = name
            try:
                if move is not None:
                    move()
            finally:
                for direction, gate in self._gates.items():
                    gate.change(name, waiting[direction])
                session.reroute()
                if is_open:
                    await session.close_branch(old)

    def build(self, session: Session, direction: Direction, after: Port) -> Port:
        gate = self._gates[direction] = Gate(self, session, direction, after, self._active)
        gate.connect({n: build(session, branch, direction, gate.exit(n)) for n, branch in self._branches.items()})
        return gate

    def take(self, direction: Direction) -> list[Frame]:
        return take(self._branches[self._active], direction) + self._gates[direction].take()


def _several(owner: Processor, processors: Iterable[Processor]) -> tuple[Processor, ...]:
    try:
        return tuple(processors)
    except TypeError as error:
        raise ConfigurationError(f"{owner.name} takes a list of processors, not {processors!r}") from error


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
