"""`Allowance`: a limit on a rate, with room for bursts."""

from __future__ import annotations


class Allowance:
    """Grows by `per_s` each second, up to `most`, with which it begins."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._left = most
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Use `amount` of it at loop time `now`. Returns False if less than that is left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
