"""`TurnTranscripts`: matches the caller's turns with their texts. Either may come first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...protocols.openai_realtime.response import ServerItem

MAX_UNMATCHED = 100
"""Turns without a transcript, and transcripts without a turn. Beyond this number the oldest are forgotten."""


@dataclass(slots=True)
class _KnownTurn:
    item: ServerItem
    start_ms: float
    end_ms: float
    texts: list[str] = field(default_factory=list)
    told: bool = False


class TurnTranscripts:
    """Calls `tell(item, text, seconds)` once for each turn, and `forget(log_id)` for the texts of deleted turns.

    All times are positions in the client's audio, in ms.
    """

    def __init__(self, tell: Callable[[ServerItem, str, float], None], forget: Callable[[str], None]) -> None:
        self._tell, self._forget = tell, forget
        self._turns: deque[_KnownTurn] = deque(maxlen=MAX_UNMATCHED)
        self._said: deque[tuple[str, float, float, str]] = deque(maxlen=MAX_UNMATCHED)

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Add a turn."""
        self._turns.append(_KnownTurn(item, start_ms, end_ms))

    def said(self, text: str, start_ms: float, end_ms: float, log_id: str = "") -> None:
        """Add the text of the speech between two positions, "" if it was not understood, and its id in the log."""
        self._said.append((text, start_ms, end_ms, log_id))

    def settle(self) -> None:
        """Match the texts that were added, which are complete. They cover all turns that began before their end."""
        if not self._turns:
            return
        while self._said:
            text, start_ms, end_ms, log_id = self._said.popleft()
            covered = [turn for turn in self._turns if turn.start_ms < end_ms] or [self._turns[0]]
            for turn in covered:
                turn.told = True
            if text:
                best = max(covered, key=lambda turn: min(turn.end_ms, end_ms) - max(turn.start_ms, start_ms))
                best.texts.append(text)
                best.item.sources += (log_id,)
                if best.item.deleted:
                    self._forget(log_id)
        while self._turns and self._turns[0].told:
            turn = self._turns.popleft()
            self._tell(turn.item, " ".join(turn.texts), (turn.end_ms - turn.start_ms) / 1000)
