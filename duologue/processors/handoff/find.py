"""The place of the engine in a pipeline."""

from __future__ import annotations

from typing import Any

from ...agents.engine import Engine
from ..kernel.groups import Group
from ..kernel.node import Node
from ..switch import Switch


def find_engine(node: Node) -> Switch[Any] | Engine | None:
    """Return the engine in a pipeline, or the switch between several; None if there is none."""
    if isinstance(node, Engine):
        return node
    if isinstance(node, Switch):
        return node if all(isinstance(branch, Engine) for branch in node.branches.values()) else None
    if isinstance(node, Group):
        return next((found for child in node.children if (found := find_engine(child)) is not None), None)
    return None
