"""Reads the fields of wire messages, and remembers a bounded number of things by their ids."""

from __future__ import annotations

from typing import Any, TypeVar

from ...errors import BadInput

T = TypeVar("T")

_MAX = 1e15  # of any number: far beyond what time or tokens can be, and exact as a float


class Memory(dict[str, T]):
    """A dictionary that forgets what was put in first when there is no room."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def __setitem__(self, key: str, value: T) -> None:
        if len(self) >= self._room and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, value)


def string(fields: dict[str, Any], name: str, default: str | None = None) -> str:
    """A text; the default for null and nothing. Raises BadInput for anything else."""
    value = fields.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise BadInput(f"{name} is missing" if value is None else f"{name} is no string")
    return value


def number(fields: dict[str, Any], name: str) -> float | None:
    """A number; None for null and nothing. Raises BadInput for anything else."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX < value < _MAX:
        raise BadInput(f"{name} is no number")
    return float(value)


def count(fields: dict[str, Any], name: str) -> int:
    """A number of things; 0 for null and nothing. Raises BadInput for anything else."""
    value = number(fields, name) or 0.0
    if value < 0:
        raise BadInput(f"{name} is negative")
    return int(value)


def member(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """An object; an empty one for null and nothing. Raises BadInput for anything else."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(f"{name} is no object")
    return value


def members(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; an empty one for null and nothing. Raises BadInput for anything else."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BadInput(f"{name} is no list of objects")
    return value
