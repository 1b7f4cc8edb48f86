"""The wiring of a pipeline: its picture as text, and the check that every node can work in its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .groups import Group, RowGroup
from .node import Node


def check_wiring(pipeline: Node) -> None:
    """Let every node of the tree check its place. Raises ConfigurationError with the reason and the mend."""
    _check_below(pipeline, (), ())


def _check_below(node: Node, before: Sequence[Node], after: Sequence[Node]) -> None:
    node.check_place(before, after)
    if not isinstance(node, Group):
        return
    children = node.children
    for place, child in enumerate(children):
        if isinstance(node, RowGroup):
            _check_below(child, (*before, *_along(children[:place])), (*_along(children[place + 1 :]), *after))
        else:  # branches: each has its place in the line by itself
            _check_below(child, before, after)


def _along(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes of the line in order, groups before their contents, without the branches of a `Tee`."""
    line: list[Node] = []
    for node in nodes:
        line.append(node)
        if isinstance(node, Group) and not node.beside:
            line += _along(node.children)
    return line


def draw(node: Node) -> str:
    """Return the tree as text: a line for each node, the contents of a group indented below it."""
    return "\n".join(_drawn_lines(node))


def _drawn_lines(node: Node) -> list[str]:
    lines = [node.name]
    if isinstance(node, Group):
        for label, child in node.labelled_children:
            first, *rest = _drawn_lines(child)
            lines += [f"  {label}: {first}" if label else f"  {first}", *(f"  {line}" for line in rest)]
    return lines
