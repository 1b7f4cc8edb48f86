"""`Intake`: audio on its way into the playout's queue, as far as there is room."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from ...processors.kernel.wake import Wake
from .queue import QueuedSpeech, SpeechQueue


class Intake:
    """Adds audio to a queue of at most `max_s` seconds. Pushes without room wait, first come first served.

    `accept(speech, pcm, sample_rate)` adds a piece.
    """

    def __init__(self, queue: SpeechQueue, max_s: float, accept: Callable[[QueuedSpeech, bytes, int], None]) -> None:
        self._queue, self._max_s, self._accept = queue, max_s, accept
        self._step_s = min(1.0, max_s / 2)  # longer pieces are added in parts of this length
        self.waiting: deque[Wake] = deque()
        """The pushes that wait, the oldest first."""

    def add(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> Awaitable[None] | None:
        """Add a piece at once and return None, or return what to await until there was room for all of it."""
        if self.waiting or not self._fits(len(pcm), sample_rate):
            return self._add_slowly(speech, pcm, sample_rate)
        self._accept(speech, pcm, sample_rate)
        return None

    def _fits(self, size: int, sample_rate: int) -> bool:
        return self._queue.waiting_s + size / (2 * sample_rate) <= self._max_s

    async def _add_slowly(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> None:
        step = 2 * max(1, int(self._step_s * sample_rate))
        first = True
        # A speech that is no longer in the queue was interrupted meanwhile.
        while pcm and speech in self._queue:
            if (first and self.waiting) or not self._fits(min(len(pcm), step), sample_rate):
                await self._wait(first)
                first = False
                continue
            first = False
            size = max(step, 2 * int((self._max_s - self._queue.waiting_s) * sample_rate))
            self._accept(speech, pcm[:size], sample_rate)
            pcm = pcm[size:]
        if self.waiting:
            self.audio_left()

    async def _wait(self, first: bool) -> None:
        room = Wake()
        # A push that was served in part goes on before the others.
        (self.waiting.append if first else self.waiting.appendleft)(room)
        try:
            await room.wait()
        finally:
            if room in self.waiting:
                self.waiting.remove(room)

    def audio_left(self) -> None:
        """The queue has become shorter: let the oldest push go on if there is room for it."""
        if self._queue.waiting_s + self._step_s <= self._max_s:
            self.waiting.popleft().wake()

    def queue_cut(self) -> None:
        """An interruption has emptied the queue: let all pushes look again."""
        while self.waiting:
            self.waiting.popleft().wake()
