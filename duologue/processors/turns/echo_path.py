"""`EchoPath`: what is known of the way from the agent's loudspeaker into the caller's microphone."""

from __future__ import annotations

_SAME_S = 0.03  # delays that differ by less are one
_SEEN = 3  # echoes at one delay make it known
_LOUDER_DB = 6.0  # an echo is at most this much louder than those before it
_FOLLOWS = 0.3  # how far the loss follows the latest echo


class EchoPath:
    """Learns the delay and the loss of an echo from those that are plain, and knows the others by them.

    A distorting loudspeaker and a room make some moments of an echo unlike what was played: a threshold of likeness
    that catches them all would take the caller for an echo too.
    """

    def __init__(self) -> None:
        self._delay_s = self._loss_db = 0.0
        self._seen = 0  # echoes in a row at about this delay

    def explains(self, alike: float, delay_s: float, loss_db: float, threshold: float) -> bool:
        """Return True if a sound is an echo, by its likeness, at this delay and loss, to what was played."""
        same = self._seen > 0 and abs(delay_s - self._delay_s) < _SAME_S
        if alike >= threshold:
            self._loss_db = self._loss_db + _FOLLOWS * (loss_db - self._loss_db) if same else loss_db
            self._seen = self._seen + 1 if same else 1
            self._delay_s = delay_s
            return True
        expected = same and self._seen >= _SEEN and loss_db > self._loss_db - _LOUDER_DB
        return expected and alike >= threshold / 2
