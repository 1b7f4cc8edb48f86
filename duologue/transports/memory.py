"""`MemoryTransport`: a call inside the process, for tests, simulations and embedding."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from ..frames import Input
from .base import TransportInput, TransportOutput
from .playout.base import PlayoutSettings

MAX_RECEIVED = 3_000
"""Chunks of 20 ms that `received` keeps for a slow reader. Beyond that the oldest chunks are dropped."""


class MemoryTransport:
    """The two ends of a pipeline, and the far end of the call as methods.

    `send` takes the caller's audio. The agent's audio goes to `on_audio` and `received`, each chunk with the time at
    which the caller hears it. Like a telephone, the far end plays one chunk after the other, and drops unplayed chunks
    when `on_clear` is called. Audio both ways is s16le mono at `sample_rate`; times are session times in seconds.

    Waiting audio is bounded as in `TransportInput` and `Playout`. Raises ConfigurationError for a rate of which 20 ms
    are not a whole number of samples.
    """

    def __init__(self, sample_rate: int = 16_000, settings: PlayoutSettings | None = None) -> None:
        self.sample_rate = sample_rate
        self._input = TransportInput()
        self._output = _MemoryOutput(sample_rate, settings)

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline."""
        return self._output

    # -- the far end -----------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self._output.ended

    def now(self) -> float:
        """Return the session time in seconds; 0 before the session runs."""
        return self._output.now()

    def send(self, pcm: bytes) -> None:
        """Let the caller say `pcm`, whose last sample is spoken now."""
        self._input.feed(pcm, self.sample_rate)

    def send_frame(self, frame: Input) -> None:
        """Let the caller press a key (`Dtmf`) or type (`UserText`)."""
        self._input.feed_frame(frame)

    def hang_up(self, reason: str = "caller hung up") -> None:
        """Let the caller hang up. They hear nothing from now on; the call ends once their last words are handled."""
        self._output.disconnect()
        self._input.hang_up(reason)

    def on_audio(self, listener: Callable[[bytes, float], None]) -> None:
        """Call `listener(pcm, at)` with each chunk of the agent's audio, which is heard from `at` on."""
        self._output.audio_listeners.append(listener)

    def on_clear(self, listener: Callable[[float], None]) -> None:
        """Call `listener(at)` when audio that would have been heard after `at` is dropped."""
        self._output.clear_listeners.append(listener)

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the call is over."""
        self._output.end_listeners.append(listener)

    async def received(self) -> AsyncIterator[tuple[bytes, float]]:
        """Yield the agent's audio (pcm, at) from now on until the call is over."""
        queue: deque[tuple[bytes, float]] = deque(maxlen=MAX_RECEIVED)
        news = asyncio.Event()

        def add(pcm: bytes, at: float) -> None:
            queue.append((pcm, at))
            news.set()

        self.on_audio(add)
        self.on_end(news.set)
        try:
            while True:
                while queue:
                    yield queue.popleft()
                if self.ended:
                    return
                news.clear()
                await news.wait()
        finally:
            self._output.audio_listeners.remove(add)
            self._output.end_listeners.remove(news.set)


class _MemoryOutput(TransportOutput):
    """Plays to the far end's listeners."""

    def __init__(self, sample_rate: int, settings: PlayoutSettings | None) -> None:
        super().__init__(sample_rate, settings)
        self.audio_listeners: list[Callable[[bytes, float], None]] = []
        self.clear_listeners: list[Callable[[float], None]] = []
        self.end_listeners: list[Callable[[], None]] = []
        self.ended = False
        self._until = 0.0  # session time at which the far end has played all its audio

    @property
    def name(self) -> str:
        return "MemoryTransport"

    def now(self) -> float:
        return self.session.now() if self.in_session else 0.0

    def write(self, chunk: bytes) -> None:
        at = max(self.session.now(), self._until)
        self._until = at + len(chunk) / (2 * self.sample_rate)
        for listener in list(self.audio_listeners):
            listener(chunk, at)

    def clear(self) -> None:
        self._until = self.session.now()
        for listener in list(self.clear_listeners):
            listener(self._until)

    async def close(self) -> None:
        await super().close()
        self.ended = True
        for listener in list(self.end_listeners):
            listener()
