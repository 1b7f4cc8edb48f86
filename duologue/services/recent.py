"""`Recent`: a dictionary with a bounded number of entries."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


class Recent(dict[str, Value]):
    """A dictionary that drops its oldest entry when a new key exceeds `limit` entries.

    For data about ids that the far end of a connection chooses.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: Value) -> None:
        if len(self) >= self._limit and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, value)
