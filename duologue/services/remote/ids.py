"""`Seen` and `Recent`: bounded memories of ids that the far end of a connection chooses."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


class Seen:
    """Tells new ids of the far end from repeated ids. It knows at least the latest `limit` ids, at most twice that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new: set[str] = set()
        self._old: set[str] = set()

    def add(self, key: str) -> bool:
        """Return True for an id that is not known, which then is."""
        if key in self._new or key in self._old:
            return False
        if len(self._new) >= self._limit:
            self._old, self._new = self._new, set()
        self._new.add(key)
        return True


class Recent(dict[str, Value]):
    """A dictionary that drops its oldest entry when a new key exceeds `limit` entries.

    It holds data on ids that the far end of a connection chooses.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: Value) -> None:
        if len(self) >= self._limit and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, value)
