"""`Group`: a node that contains others; the tree of nodes, and its link to a host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ...errors import ConfigurationError
from ...frames import Frame
from .host import Direction, Host, Tap, Target
from .lane import Lane
from .node import EndPort, Node, Port, Routes, drop

"""Called with the processor that pushes, the direction and the frame."""


class Group(Node):
    """A node that contains others. It has no handlers. A linked pipeline has routes only between processors."""

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly inside."""
        raise NotImplementedError

    @property
    def active_children(self) -> tuple[Node, ...]:
        """The nodes directly inside that are open while this group is."""
        return self.children

    @property
    def labelled_children(self) -> list[tuple[str, Node]]:
        """The nodes directly inside, each with its label, "" for none."""
        return [("", child) for child in self.children]

    def __repr__(self) -> str:
        inside = [f"{label}: {child!r}" if label else repr(child) for label, child in self.labelled_children]
        return f"{self.name}[{self._between.join(inside)}]"

    beside: bool = False
    """True for a group whose contents stand beside the line: their frames do not reach it."""
    _between: str = ", "
    """The text between the children in `repr`."""

    def build(self, direction: Direction, after: Port) -> Port:
        """Return the port by which frames enter. Frames that leave the group go to `after`."""
        raise NotImplementedError

    def take(self, direction: Direction) -> list[Frame]:
        """Remove and return the `Input` and `Control` frames that wait inside, oldest (nearest to the exit) first."""
        return [frame for child in from_exit(self.children, direction) for frame in take(child, direction)]


class RowGroup(Group):
    """Nodes in a row. Downstream is from the first to the last."""

    _between = " → "

    def __init__(self, nodes: Iterable[Node]) -> None:
        try:
            self._row = tuple(nodes)
        except TypeError as error:
            raise ConfigurationError(f"{self.name} takes a list of processors, not {nodes!r}") from error
        check_tree(self)

    @property
    def children(self) -> tuple[Node, ...]:
        return self._row

    def build(self, direction: Direction, after: Port) -> Port:
        port = after
        for child in from_exit(self._row, direction):
            port = build(child, direction, port)
        return port


def build(node: Node, direction: Direction, after: Port) -> Port:
    """Return the port into `node`. Frames that it pushes in this direction go to `after`. The node must have a host."""
    if isinstance(node, Group):
        return node.build(direction, after)
    if direction == "down":
        if node.spec().lane_down or node.spec().lane_up:
            node._lane = Lane(node)
        routes = node._down = Routes(node.host, node, direction, after)
    else:
        routes = node._up = Routes(node.host, node, direction, after)
    return routes


def take(node: Node, direction: Direction) -> list[Frame]:
    """Remove and return the `Input` and `Control` frames that wait in the lanes below `node`, oldest first."""
    if isinstance(node, Group):
        return node.take(direction)
    return node._lane.take(direction) if node._lane is not None else []


def from_exit(children: tuple[Node, ...], direction: Direction) -> Iterable[Node]:
    """Return the children of a row, from its exit to its entry."""
    return reversed(children) if direction == "down" else children


def members(node: Node) -> list[Node]:
    """Return the groups of the tree, `node` included, then its processors, in order."""
    return [*_groups(node), *leaves(node)]


def active_members(node: Node) -> list[Node]:
    """Return the `members` that are not in an inactive branch: they are open while `node` is."""
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
    """Checks a tree: every handler must be valid, and every node in one place."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._path: list[Node] = []

    def enter(self, node: Node) -> None:
        """Check a node and the nodes below it."""
        if not isinstance(node, Node):
            raise ConfigurationError(f"{node!r} is not a processor")
        if any(p is node for p in self._path):
            inside = " > ".join(p.name for p in [*self._path, node])
            raise ConfigurationError(f"a cycle: {inside}")
        if id(node) in self._seen:
            raise ConfigurationError(f"{node.name} is used twice; make one instance for each place")
        if node.in_session:
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


class LinkedPipeline:
    """Links a pipeline to its host: gives every processor its routes, sends frames in, calls observers of pushes.

    `bottom` returns, for a frame type, the target of frames that no processor downstream handles. Frames that travel
    upstream are dropped at the top. Raises ConfigurationError if a processor belongs to another session.
    """

    def __init__(self, pipeline: Node, host: Host, bottom: Callable[[type[Frame]], Target]) -> None:
        check_tree(pipeline)
        self._pipeline = pipeline
        self._host = host
        for node in members(pipeline):
            node._join(host)
        try:
            head = build(pipeline, "down", EndPort(bottom))
            tail = build(pipeline, "up", EndPort(lambda frame_type: drop))
        except BaseException:
            for node in members(pipeline):
                node._leave()
            raise
        self._head = Routes(host, pipeline, "down", head)
        self._tail = Routes(host, pipeline, "up", tail)
        self._leaves = leaves(pipeline)
        self._taps: tuple[tuple[Tap, frozenset[type[Frame]]], ...] = ()

    def send(self, frame: Frame) -> Awaitable[None]:
        """Put a frame in at the head."""
        return self._head[frame.__class__](frame)

    def send_up(self, frame: Frame) -> Awaitable[None]:
        """Put a frame in at the tail; it travels upstream."""
        return self._tail[frame.__class__](frame)

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
        for processor in self._leaves:
            processor._down.clear()
            processor._up.clear()
        self._head.clear()
        self._tail.clear()

    def observe(self, tap: Tap, *frame_types: type[Frame]) -> Callable[[], None]:
        """Call `tap(processor, direction, frame)` with every push, or only with those of frames of these types.

        Pushes that nobody observes have no extra cost: taps are part of the cached routes. Returns a function that
        removes it.
        """
        entry = tap, frozenset(frame_types)
        self._set_taps((*self._taps, entry))

        def stop() -> None:
            if entry in self._taps:
                taps = list(self._taps)
                taps.remove(entry)
                self._set_taps(tuple(taps))

        return stop

    def _set_taps(self, taps: tuple[tuple[Tap, frozenset[type[Frame]]], ...]) -> None:
        self._taps = taps
        self._host.tap = self.tap if any(not wanted for _, wanted in taps) else None
        self.reroute()

    def tap_for(self, frame_type: type[Frame]) -> Tap | None:
        """Return the function to call with pushes of frames of this type; None if nobody observes them."""
        return self.tap if any(not wanted or frame_type in wanted for _, wanted in self._taps) else None

    def tap(self, node: Node, direction: Direction, frame: Frame) -> None:
        """Call every observer with a push. An observer's error is reported."""
        for tap, wanted in self._taps:
            if wanted and frame.__class__ not in wanted:
                continue
            try:
                tap(node, direction, frame)
            except Exception as error:
                self._host.report(error, "observe")
