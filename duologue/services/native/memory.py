"""`Notes`: what a native engine's model is told besides what the caller says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .dialect import Dialect

if TYPE_CHECKING:
    from .engine import SpeechToSpeech

MAX_NOTES = 256
"""Notes that wait until the model does not speak; the oldest go."""

Telling = Callable[[Dialect], list[str]]


class Notes:
    """Notes are not told into an answer: there are providers that break it off for a text.

    They wait until it is quiet, at most until an answer is asked for. A new connection needs none of them: what they
    say is in the log.
    """

    def __init__(self, engine: SpeechToSpeech) -> None:
        self._engine = engine
        self._waiting: deque[Telling] = deque(maxlen=MAX_NOTES)

    def add(self, note: Telling) -> None:
        """Tell this as soon as it is quiet."""
        self._waiting.append(note)
        self.tell_if_quiet()

    def tell(self) -> None:
        """An answer is about to be asked for: tell all."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for note in waiting:
            self._engine.send(note)

    def tell_if_quiet(self) -> None:
        """Something has changed."""
        if self._waiting and not self._engine.answers_or_is_about_to():
            self.tell()

    def clear(self) -> None:
        """Whoever comes next knows all of it."""
        self._waiting.clear()
