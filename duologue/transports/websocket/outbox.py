"""What waits to be sent to a client, and what the client has played of it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from .serializers import Wired

MAX_MESSAGES = 1_000
"""Messages beside the audio that wait to be sent; one more is refused."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The same in bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message: `data`, or audio that is not serialized yet, given to us `at` a loop time.

    `generation` counts how often audio was taken back before it.
    """

    data: Wired = b""
    pcm: bytes = b""
    generation: int = 0
    at: float = 0.0


class Outbox:
    """Messages and audio in order, until one task has sent them. What waits of the audio may be taken back."""

    def __init__(self) -> None:
        self.unsent = 0
        """Samples that have not been handed to the socket."""
        self.in_flight: Item | None = None
        """What is being sent."""
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._messages = 0
        self._bytes = 0
        self.generation = 0
        """How often audio was taken back."""
        self._news: asyncio.Future[None] | None = None
        self._empty: asyncio.Future[None] | None = None

    def put(self, data: Wired) -> bool:
        """Send a message. False if there is no room for it."""
        if self._messages >= MAX_MESSAGES or self._bytes + len(data) > MAX_MESSAGE_BYTES:
            return False
        self._messages += 1
        self._bytes += len(data)
        self._add(Item(data))
        return True

    def put_audio(self, pcm: bytes, now: float) -> None:
        """Send audio. It is the caller's to see that it does not grow without bound."""
        self.unsent += len(pcm) >> 1
        self._add(Item(pcm=pcm, generation=self.generation, at=now))

    def _add(self, item: Item) -> None:
        self._items.append(item)
        _wake(self._news)

    def drop_audio(self) -> None:
        """Take back the audio that waits. What is being sent cannot be."""
        if self.unsent:
            self._items = deque(item for item in self._items if not item.pcm)
            self.unsent = len(self.in_flight.pcm) >> 1 if self.in_flight is not None else 0
        self.generation += 1

    @property
    def samples_in_flight(self) -> int:
        """Of the audio that is being sent, unless it was taken into account when audio was taken back."""
        item = self.in_flight
        return len(item.pcm) >> 1 if item is not None and item.generation == self.generation else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._items

    async def take(self) -> Item:
        """The oldest; it is in flight until `sent`. For one task."""
        while not self._items:
            _wake(self._empty)
            self._news = self._loop.create_future()
            await self._news
        item = self.in_flight = self._items.popleft()
        return item

    def sent(self) -> None:
        """What was in flight has been handed to the socket."""
        item, self.in_flight = self.in_flight, None
        if item is None:
            return
        if item.pcm:
            self.unsent -= len(item.pcm) >> 1
        else:
            self._messages -= 1
            self._bytes -= len(item.data)

    async def emptied(self) -> None:
        """Wait until all has been sent."""
        while self._items or self.in_flight is not None:
            self._empty = self._loop.create_future()
            await self._empty


class Playback:
    """How much of our audio the far end has played, in samples since `begin_anew`.

    It plays what it gets one piece after the other, so time tells; its own word counts for more once it has given it,
    as far as time allows.
    """

    def __init__(self, sample_rate: int) -> None:
        self.handed = 0
        """Samples that the socket has taken."""
        self._sample_rate = sample_rate
        self._until = 0.0  # loop time at which the far end has played all that it has got
        self._told: int | None = None  # samples that it says it has played; None if it never said
        self._told_before = 0  # samples that it counts and that were not taken back when we began anew

    def add(self, samples: int, now: float, *, counts: bool = True) -> None:
        """The socket has taken a piece. It `counts` unless it was sent before we began anew."""
        self._until = max(now, self._until) + samples / self._sample_rate
        if counts:
            self.handed += samples

    def ahead_s(self, now: float) -> float:
        """How long the far end can go on with what it has."""
        return max(0.0, self._until - now)

    def owes(self, now: float) -> bool:
        """Whether it has not played yet all that it went on to play when we began anew."""
        return self.ahead_s(now) * self._sample_rate > self.handed + 1e-3

    def position(self, now: float) -> int:
        """How much it has played."""
        played = self._by_time(now)
        return played if self._told is None else min(self._told, played)

    def _by_time(self, now: float) -> int:
        return max(0, self.handed - math.ceil(self.ahead_s(now) * self._sample_rate - 1e-3))

    def told(self, ms: float, now: float) -> None:
        """It says so itself. More than it can have played is not believed."""
        samples = int(min(ms, 1e9) * self._sample_rate / 1000) - self._told_before
        self._told = max(0, min(samples, self._by_time(now)))

    @property
    def tells(self) -> bool:
        """Whether it has ever given its word."""
        return self._told is not None

    def begin_anew(self, now: float, *, kept: int | None = None) -> None:
        """Count from here. The far end has dropped what it had not played, or goes on to play `kept` samples."""
        if kept is None:
            self._until = now
            self._told_before = 0
        else:
            self._told_before += kept
        self.handed = 0
        if self._told is not None:
            self._told = 0


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
