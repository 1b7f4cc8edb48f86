"""`SonicResponse`: a response, and the contexts of Cartesia's that speak it one after the other."""

from __future__ import annotations

from typing import Any

from ...processors.kernel.tasks import loop_time
from .wire import cartesia_message

KEPT_S = 0.5
"""Seconds after its last audio for which a context gets more text. Cartesia forgets it after 1 s."""


class SonicResponse:
    """Makes the messages for a response: in one context, unless its text pauses for longer than Cartesia keeps one.

    `fields` are those of all its messages.
    """

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.number = 0
        """The number of the context; 0 before the first text."""
        self.begin_s = 0.0
        """Where the context begins, in seconds of the response's audio."""
        self.audio_s = 0.0
        """Seconds of audio that have come."""
        self.over = True
        """True before the first text, and once Cartesia has ended the context."""
        self.ended = False
        """True once all text was sent."""
        self._name, self._fields = name, fields
        self._unflushed = False
        self._owed = 0  # flushes that were not answered
        self._touched_at = 0.0

    @property
    def context(self) -> str:
        """The context's id on the wire."""
        return f"{self._name}.{self.number}"

    @property
    def forgotten(self) -> bool:
        """True if the context takes no more text: all of it was spoken, some time ago."""
        return self.over or not (self._unflushed or self._owed or loop_time() - self._touched_at < KEPT_S)

    def text(self, text: str) -> str:
        """Return the message with a text, in another context if the latest one is forgotten."""
        if self.forgotten:
            self.number, self.begin_s, self.over, self._owed = self.number + 1, self.audio_s, False, 0
        self._unflushed = True
        return self._input(transcript=text)

    def flush(self) -> str:
        """Return the message that makes Cartesia speak the text now."""
        self._unflushed, self._owed = False, self._owed + 1
        return self._input(flush=True)

    def end(self) -> str:
        """Return the message that ends the text."""
        return self._input(**{"continue": False})

    def _input(self, **changes: Any) -> str:
        self.touch()
        return cartesia_message(
            **{"context_id": self.context, "transcript": "", "continue": True, **self._fields, **changes}
        )

    def touch(self) -> None:
        """Note that a message went or came."""
        self._touched_at = loop_time()

    def flushed(self) -> None:
        """Note that the audio of a flush has come."""
        self._owed = max(0, self._owed - 1)
