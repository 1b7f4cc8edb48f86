"""`Sender`: sends messages and audio to one client, and puts the speech on hold while the client is behind."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...processors.kernel.tasks import Wake
from ...session.floor import Floor, Hold
from ..client import byte_size
from .connection import ClientSocket, Closed
from .serializers import Serializer, Wired

MAX_UNSENT_MESSAGES = 1_000
"""Messages beside the audio that may wait to be sent. Beyond that they are refused."""
MAX_UNSENT_MESSAGE_BYTES = 4 * 1024 * 1024
"""Bytes of these messages that may wait. Beyond that they are refused."""
AT_ONCE_S = 0.002
"""Seconds after which a socket that has not taken a message counts as full."""
SLOW_CLIENT = "slow client"
"""The owner's name of the holds that `Sender` begins."""


class Sender:
    """Sends messages and audio to one client in order, and accounts for what the client has played.

    When the client is more than `limit_s` seconds later than the playout's lead of `lead_s` allows, the speech is put
    on hold: unsent audio goes back to the playout, and the client plays the audio that it has. The hold ends when the
    client has played nearly all of that. `floor` returns the session's floor. `on_full` is called when a message does
    not fit into the queue, `on_failed` with an error that is not `Closed`.
    """

    def __init__(
        self,
        wire: ClientSocket,
        serializer: Serializer,
        *,
        limit_s: float,
        lead_s: float,
        floor: Callable[[], Floor],
        on_full: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.closed = False
        """True once messages and audio are no longer accepted."""
        self.task: asyncio.Task[None] | None = None
        self._wire, self._serializer = wire, serializer
        self._limit_s, self._lead_s = limit_s, lead_s
        self._floor, self._on_full, self._on_failed = floor, on_full, on_failed
        self._loop = asyncio.get_running_loop()
        self._rate = serializer.output_sample_rate
        self.outbox = Outbox()
        self._playback = Playback(self._rate)
        self._hold: Hold | None = None  # while the client is behind
        self._sending_since: float | None = None
        self._void_before = 0  # the client drops audio of an earlier generation
        self._to_clear = False  # True while the client may have audio that it should drop

    def start(self, name: str) -> None:
        """Begin to send."""
        self.task = self._loop.create_task(self._run(), name=name)

    def put(self, data: Wired | None) -> None:
        """Send a message. Does nothing for None, a message that the dialect does not have."""
        if data is not None and not self.closed and not self.outbox.put(data):
            self._on_full()

    def write(self, chunk: bytes) -> None:
        """Send a chunk of audio. If the client is too far behind, the speech is put on hold just after this."""
        if self.closed:
            return
        now = self._loop.time()
        self._to_clear = True
        self.outbox.put_audio(chunk, now)
        if self._late_s(now) > self._limit_s:
            # Later: the playout has still to account for this chunk.
            self._loop.call_soon(self._hold_if_late)

    def told(self, ms: float) -> None:
        """Record the milliseconds that the client reports as played."""
        self._playback.told(ms, self._loop.time())

    def position(self) -> int:
        """Return the number of samples that the client has played since the last `clear`."""
        return self._playback.position(self._loop.time())

    def stuck_s(self, now: float) -> float:
        """Return the seconds for which the socket has not taken the message that is being sent."""
        return now - self._sending_since if self._sending_since is not None else 0.0

    def room(self) -> Awaitable[None] | None:
        """Return None while the client takes its messages in time, else an awaitable that waits for that."""
        return None if self.closed or self.outbox.has_room else self.outbox.room()

    # -- the speech of a client that is behind ---------------------------------------------------------------------

    def _late_s(self, now: float) -> float:
        """Return the delay, in seconds beyond the lead, with which the client hears audio that is written now."""
        return self.outbox.unsent / self._rate + self._playback.ahead_s(now) - self._lead_s

    def _hold_if_late(self) -> None:
        if self._late_s(self._loop.time()) > self._limit_s:
            self._hold_speech()

    def hold_if_stuck(self, now: float) -> None:
        """Put the speech on hold if the socket has not taken the audio that is being sent for too long."""
        if self.stuck_s(now) > self._limit_s and self.outbox.unsent:
            self._hold_speech()

    def _hold_speech(self) -> None:
        if not self.closed and (self._hold is None or not self._hold.out):
            # No expiry: a client that does not catch up is lost, and the call ends.
            self._hold = self._floor().hold(SLOW_CLIENT, patience_s=None)
            self._release_if_sent(self._loop.time())

    def _release_if_sent(self, now: float) -> None:
        """Once everything is sent, let the hold end when the client has played nearly all of it."""
        if self._hold is not None and not self.outbox.unsent:
            self._hold.release_after(max(0.0, self._playback.ahead_s(now) - self._lead_s))

    def clear(self) -> int | None:
        """Make the client drop the audio that it has not played. On hold for a slow client, drop only unsent audio.

        Returns the number of samples written since the last `clear` that it has played, or will play.
        """
        now, floor = self._loop.time(), self._floor()
        blocked = self.stuck_s(now) > AT_ONCE_S
        behind = SLOW_CLIENT in floor.held_by or (floor.held and (blocked or self._playback.owes(now)))
        void = floor.turn <= floor.fence  # after an interruption, keep nothing
        message = None if behind and not void else self._serializer.clear()
        if message is None:  # the client plays the audio that it has or that is in flight
            kept = self._playback.handed + self.outbox.samples_in_flight
            self.outbox.drop_audio()
            self._playback.begin_anew(now, kept=kept)
            return kept
        # While the socket is blocked, this message arrives after the client has played all its audio.
        kept = self._playback.handed if blocked else self._playback.position(now)
        self.outbox.drop_audio()
        self._void_before = self.outbox.generation
        self._playback.begin_anew(now)
        if self._to_clear:
            self._to_clear = False
            self.put(message)
        return kept

    # -- the task --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        outbox, playback, wire, serializer = self.outbox, self._playback, self._wire, self._serializer
        now = self._loop.time
        late = False  # True if the socket did not take this message, or earlier messages, at once
        while True:
            late = late and not outbox.is_empty
            item = await outbox.take()
            began = self._sending_since = now()
            try:
                await wire.send(serializer.audio(item.pcm) if item.pcm else item.data)
            except Closed:
                return  # the reader gets Closed too
            except Exception as error:
                self._on_failed(error)
                return
            self._sending_since = None
            outbox.sent()
            taken = now()
            late = late or taken - began > AT_ONCE_S
            if item.pcm and item.generation >= self._void_before:
                counts = item.generation == outbox.generation
                playback.add(len(item.pcm) >> 1, taken if late else item.at, counts=counts)
            self._release_if_sent(taken)

    def drop_audio(self) -> None:
        """Drop the unsent audio."""
        self.outbox.drop_audio()

    async def emptied(self) -> None:
        """Wait until everything has been sent, or sending has ended."""
        if self.task is not None and not self.task.done():
            await self.outbox.emptied()


@dataclass(slots=True)  # not frozen: creating a frozen one for each chunk would take over twice as long
class Outgoing:
    """One message: `data`, or audio that is not serialized yet, from loop time `at`.

    `generation` is the outbox's generation at that time. `size` is the size of `data` in bytes.
    """

    data: Wired = b""
    size: int = 0
    pcm: bytes = b""
    generation: int = 0
    at: float = 0.0


class Outbox:
    """Keeps messages and audio in order until one task has sent them. Waiting audio may be taken back."""

    def __init__(self) -> None:
        self.unsent = 0
        """Number of samples that have not been handed to the socket."""
        self.in_flight: Outgoing | None = None
        """The item that is being sent."""
        self.generation = 0
        """Number of times that audio was taken back."""
        self._items: deque[Outgoing] = deque()
        self._messages = 0
        self._bytes = 0
        self.has_room = True
        """True while less than half of the limits is used. The rest is for messages that cannot wait."""
        self._news, self._empty, self._room = Wake(), Wake(), Wake()

    def put(self, data: Wired) -> bool:
        """Add a message. Returns False if the outbox is full."""
        size = byte_size(data)
        if self._messages >= MAX_UNSENT_MESSAGES or self._bytes + size > MAX_UNSENT_MESSAGE_BYTES:
            return False
        self._count(1, size)
        self._add(Outgoing(data, size))
        return True

    def put_audio(self, pcm: bytes, now: float) -> None:
        """Add audio. The calling code bounds the amount."""
        self.unsent += len(pcm) >> 1
        self._add(Outgoing(pcm=pcm, generation=self.generation, at=now))

    def _add(self, item: Outgoing) -> None:
        self._items.append(item)
        self._news.wake()

    def drop_audio(self) -> None:
        """Take back the waiting audio. Audio that is being sent stays."""
        if self.unsent:
            self._items = deque(item for item in self._items if not item.pcm)
            self.unsent = len(self.in_flight.pcm) >> 1 if self.in_flight is not None else 0
        self.generation += 1

    @property
    def samples_in_flight(self) -> int:
        """Number of samples that are being sent, if audio was not taken back meanwhile."""
        item = self.in_flight
        return len(item.pcm) >> 1 if item is not None and item.generation == self.generation else 0

    @property
    def is_empty(self) -> bool:
        """True while the outbox is empty."""
        return not self._items

    async def take(self) -> Outgoing:
        """Wait for the oldest item, which is in flight until `sent`. For one task."""
        while not self._items:
            self._empty.wake()
            await self._news.wait()
        item = self.in_flight = self._items.popleft()
        return item

    def sent(self) -> None:
        """Record that the item in flight was handed to the socket."""
        item, self.in_flight = self.in_flight, None
        if item is None:
            return
        if item.pcm:
            self.unsent -= len(item.pcm) >> 1
        else:
            self._count(-1, -item.size)
            if self.has_room:
                self._room.wake()

    async def emptied(self) -> None:
        """Wait until everything has been sent."""
        while self._items or self.in_flight is not None:
            await self._empty.wait()

    def _count(self, messages: int, size: int) -> None:
        self._messages += messages
        self._bytes += size
        self.has_room = self._messages < MAX_UNSENT_MESSAGES // 2 and self._bytes < MAX_UNSENT_MESSAGE_BYTES // 2

    async def room(self) -> None:
        """Wait until `has_room`. For one task."""
        while not self.has_room:
            await self._room.wait()


class Playback:
    """The audio that the far end has played, in samples since `begin_anew`. All times are loop times.

    The far end plays one piece after the other, so the amount follows from the clock. Once the far end reports its
    position, the report counts instead, but not more than the clock allows.
    """

    def __init__(self, sample_rate: int) -> None:
        self.handed = 0
        """Number of samples that the socket has taken."""
        self._sample_rate = sample_rate
        self._until = 0.0  # when the far end has played all its audio
        self._told: int | None = None  # samples that it reported as played; None without a report
        self._told_before = 0  # samples in its reports from before `begin_anew`

    def add(self, samples: int, now: float, *, counts: bool = True) -> None:
        """Record that the socket has taken a piece. It `counts` unless it was sent before `begin_anew`."""
        self._until = max(now, self._until) + samples / self._sample_rate
        if counts:
            self.handed += samples

    def ahead_s(self, now: float) -> float:
        """Return the seconds of audio that the far end has not played yet."""
        return max(0.0, self._until - now)

    def owes(self, now: float) -> bool:
        """Return True while audio that was kept at the last `begin_anew` is still playing."""
        return self.ahead_s(now) * self._sample_rate > self.handed + 1e-3

    def position(self, now: float) -> int:
        """Return the number of samples that the far end has played."""
        played = self._by_time(now)
        return played if self._told is None else min(self._told, played)

    def _by_time(self, now: float) -> int:
        return max(0, self.handed - math.ceil(self.ahead_s(now) * self._sample_rate - 1e-3))

    def told(self, ms: float, now: float) -> None:
        """Record the position that the far end reports, limited to the amount that it can have played."""
        samples = int(min(ms, 1e9) * self._sample_rate / 1000) - self._told_before
        self._told = max(0, min(samples, self._by_time(now)))

    def begin_anew(self, now: float, *, kept: int | None = None) -> None:
        """Count from here. The far end has dropped its unplayed audio (None), or still plays `kept` samples."""
        if kept is None:
            self._until = now
            self._told_before = 0
        else:
            self._told_before += kept
        self.handed = 0
        if self._told is not None:
            self._told = 0
