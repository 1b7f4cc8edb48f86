"""`Pipeline`: processors in a row."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigurationError
from .kernel.groups import Group, build, check_tree, from_exit
from .kernel.host import Direction
from .kernel.node import Node
from .kernel.routes import Port
from .processor import Processor


class Pipeline(Processor, Group):
    """Processors in a row. Downstream is from the first to the last.

    Raises ConfigurationError, with the names, for an object that is not a processor, a processor used twice, a cycle
    and a handler with a wrong signature.
    """

    def __init__(self, processors: Iterable[Node]) -> None:
        self._processors = _several(self, processors)
        check_tree(self)

    @property
    def children(self) -> tuple[Node, ...]:
        return self._processors

    def build(self, direction: Direction, after: Port) -> Port:
        port = after
        for child in from_exit(self.children, direction):
            port = build(child, direction, port)
        return port


def _several(owner: Node, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes as a tuple. Raises ConfigurationError if `nodes` is not iterable."""
    try:
        return tuple(nodes)
    except TypeError as error:
        raise ConfigurationError(f"{owner.name} takes a list of processors, not {nodes!r}") from error
