"""The messages and the audio that wait for a client, and how much of the audio it has played."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from ...processors.kernel.wake import Wake
from ..words import byte_size
from .serializers import Wired

MAX_UNSENT_MESSAGES = 1_000
"""Messages beside the audio that wait to be sent; one more is refused."""
MAX_UNSENT_MESSAGE_BYTES = 4 * 1024 * 1024
"""Bytes of these messages; more are refused."""


@dataclass(slots=True)  # not frozen: there is one for each chunk, and a frozen one takes over twice as long to make
class Outgoing:
    """One message: `data`, or audio that is not serialized yet, which came `at` a loop time.

    `generation` counts how often audio had been taken back when it came. `size` is that of `data` in bytes.
    """

    data: Wired = b""
    size: int = 0
    pcm: bytes = b""
    generation: int = 0
    at: float = 0.0


class Outbox:
    """Messages and audio in order, until one task has sent them. Waiting audio may be taken back."""

    def __init__(self) -> None:
        self.unsent = 0
        """Samples that have not been handed to the socket."""
        self.in_flight: Outgoing | None = None
        """The item that is being sent."""
        self.generation = 0
        """How often audio was taken back."""
        self._items: deque[Outgoing] = deque()
        self._messages = 0
        self._bytes = 0
        self._news, self._empty, self._room = Wake(), Wake(), Wake()

    def put(self, data: Wired) -> bool:
        """Adds a message. Returns False if there is no room for it."""
        size = byte_size(data)
        if self._messages >= MAX_UNSENT_MESSAGES or self._bytes + size > MAX_UNSENT_MESSAGE_BYTES:
            return False
        self._messages += 1
        self._bytes += size
        self._add(Outgoing(data, size))
        return True

    def put_audio(self, pcm: bytes, now: float) -> None:
        """Adds audio. The calling code sees to it that this stays bounded."""
        self.unsent += len(pcm) >> 1
        self._add(Outgoing(pcm=pcm, generation=self.generation, at=now))

    def _add(self, item: Outgoing) -> None:
        self._items.append(item)
        self._news.wake()

    def drop_audio(self) -> None:
        """Takes back the audio that waits. Audio that is being sent stays."""
        if self.unsent:
            self._items = deque(item for item in self._items if not item.pcm)
            self.unsent = len(self.in_flight.pcm) >> 1 if self.in_flight is not None else 0
        self.generation += 1

    @property
    def samples_in_flight(self) -> int:
        """Samples that are being sent, unless they were accounted for when audio was taken back."""
        item = self.in_flight
        return len(item.pcm) >> 1 if item is not None and item.generation == self.generation else 0

    @property
    def is_empty(self) -> bool:
        """True while nothing waits."""
        return not self._items

    async def take(self) -> Outgoing:
        """Waits for the oldest item; it is in flight until `sent`. For one task."""
        while not self._items:
            self._empty.wake()
            await self._news.wait()
        item = self.in_flight = self._items.popleft()
        return item

    def sent(self) -> None:
        """The item in flight has been handed to the socket."""
        item, self.in_flight = self.in_flight, None
        if item is None:
            return
        if item.pcm:
            self.unsent -= len(item.pcm) >> 1
        else:
            self._messages -= 1
            self._bytes -= item.size
            if self.has_room:
                self._room.wake()

    async def emptied(self) -> None:
        """Waits until all has been sent."""
        while self._items or self.in_flight is not None:
            await self._empty.wait()

    @property
    def has_room(self) -> bool:
        """True while less than half of the limits is used: the rest is for messages that cannot wait."""
        return self._messages < MAX_UNSENT_MESSAGES // 2 and self._bytes < MAX_UNSENT_MESSAGE_BYTES // 2

    async def room(self) -> None:
        """Waits until `has_room`. For one task."""
        while not self.has_room:
            await self._room.wait()


class Playback:
    """How much of our audio the far end has played, in samples since `begin_anew`. All times are loop times.

    The far end plays one piece after the other, so the clock tells how much. Once it reports its position, the report
    counts instead, as far as the clock allows.
    """

    def __init__(self, sample_rate: int) -> None:
        self.handed = 0
        """Samples that the socket has taken."""
        self._sample_rate = sample_rate
        self._until = 0.0  # when the far end has played all that it has
        self._told: int | None = None  # samples that it reported as played; None if it never did
        self._told_before = 0  # samples that its reports include from before we began anew

    def add(self, samples: int, now: float, *, counts: bool = True) -> None:
        """The socket has taken a piece. It `counts` unless it was sent before we began anew."""
        self._until = max(now, self._until) + samples / self._sample_rate
        if counts:
            self.handed += samples

    def ahead_s(self, now: float) -> float:
        """Seconds of audio that the far end has not played yet."""
        return max(0.0, self._until - now)

    def owes(self, now: float) -> bool:
        """Returns True while audio that was kept across the last `begin_anew` is still playing."""
        return self.ahead_s(now) * self._sample_rate > self.handed + 1e-3

    def position(self, now: float) -> int:
        """Samples that the far end has played."""
        played = self._by_time(now)
        return played if self._told is None else min(self._told, played)

    def _by_time(self, now: float) -> int:
        return max(0, self.handed - math.ceil(self.ahead_s(now) * self._sample_rate - 1e-3))

    def told(self, ms: float, now: float) -> None:
        """The far end reports its position. More than it can have played is not believed."""
        samples = int(min(ms, 1e9) * self._sample_rate / 1000) - self._told_before
        self._told = max(0, min(samples, self._by_time(now)))

    def begin_anew(self, now: float, *, kept: int | None = None) -> None:
        """Count from here. The far end has dropped what it had not played (None), or plays on `kept` samples."""
        if kept is None:
            self._until = now
            self._told_before = 0
        else:
            self._told_before += kept
        self.handed = 0
        if self._told is not None:
            self._told = 0
