"""`Group`: a node made of others; and walks through the tree that they make."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import ConfigurationError
from ...frames import Frame
from .host import Direction
from .lane import Lane
from .node import Node
from .routes import LeafPort, Port, Routes


class Group(Node):
    """A node made of others. It has no handlers of its own, and vanishes when the pipeline is linked."""

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly inside."""
        raise NotImplementedError

    @property
    def active_children(self) -> tuple[Node, ...]:
        """The nodes directly inside that are open while this group is."""
        return self.children

    def build(self, direction: Direction, after: Port) -> Port:
        """Return the port that frames enter by, given the one that they leave to."""
        raise NotImplementedError

    def take(self, direction: Direction) -> list[Frame]:
        """Remove and return the `Input` and `Control` that wait inside, the oldest (nearest to the exit) first."""
        return [frame for child in from_exit(self.children, direction) for frame in take(child, direction)]


def build(node: Node, direction: Direction, after: Port) -> Port:
    """Return the port into `node`; frames that it pushes in this direction go `after`. It must have its host."""
    if isinstance(node, Group):
        return node.build(direction, after)
    if direction == "down":
        if node.spec().lane_down or node.spec().lane_up:
            node._lane = Lane(node)
        node._down = Routes(node.host, node, direction, after)
    else:
        node._up = Routes(node.host, node, direction, after)
    return LeafPort(node.host, node, direction, after)


def take(node: Node, direction: Direction) -> list[Frame]:
    """Remove and return the `Input` and `Control` that wait in the lanes below `node`, oldest first."""
    if isinstance(node, Group):
        return node.take(direction)
    return node._lane.take(direction) if node._lane is not None else []


def from_exit(children: tuple[Node, ...], direction: Direction) -> Iterable[Node]:
    """Return the children of a row in the order from its exit to its entry."""
    return reversed(children) if direction == "down" else children


def members(node: Node) -> list[Node]:
    """Return the groups of the tree, `node` included, and then its processors, in order."""
    return [*_groups(node), *leaves(node)]


def active_members(node: Node) -> list[Node]:
    """Return the same as `members` without the inactive branches: what is open while `node` is."""
    return [*_groups(node, active=True), *active_leaves(node)]


def leaves(node: Node) -> list[Node]:
    """Return the processors below `node`, in order."""
    if not isinstance(node, Group):
        return [node]
    return [leaf for child in node.children for leaf in leaves(child)]


def active_leaves(node: Node) -> list[Node]:
    """Return the processors below `node` that are not in an inactive branch, in order."""
    if not isinstance(node, Group):
        return [node]
    return [leaf for child in node.active_children for leaf in active_leaves(child)]


def _groups(node: Node, *, active: bool = False) -> list[Group]:
    if not isinstance(node, Group):
        return []
    children = node.active_children if active else node.children
    return [node, *(group for child in children for group in _groups(child, active=active))]


def check_tree(node: Node) -> None:
    """Raise ConfigurationError, with the names, if the tree below `node` cannot be linked."""
    _Check().enter(node)


class _Check:
    """Walks a tree: every handler must be right, and every node in one place."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._path: list[Node] = []

    def enter(self, node: Node) -> None:
        """Check a node and all below it."""
        if not isinstance(node, Node):
            raise ConfigurationError(f"{node!r} is not a processor")
        if any(p is node for p in self._path):
            inside = " > ".join(p.name for p in [*self._path, node])
            raise ConfigurationError(f"a cycle: {inside}")
        if id(node) in self._seen:
            raise ConfigurationError(f"{node.name} is used twice; make one instance for each place")
        if node._host is not None:
            raise ConfigurationError(f"{node.name} already belongs to a session; make a new instance")
        self._seen.add(id(node))
        self._path.append(node)
        spec = node.spec()
        if isinstance(node, Group):
            if spec.down or spec.up or spec.signals:
                raise ConfigurationError(
                    f"{node.name} is made of processors and cannot have handlers: put one inside it"
                )
            for child in node.children:
                self.enter(child)
        self._path.pop()
