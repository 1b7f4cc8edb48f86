"""`ReplayedWire` and `ReplayedHead`: a connection, and an answer over HTTP, whose pieces come from the file."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from ...processors.kernel.lane import DONE
from ...services.remote.dialect import WireMessage
from ...session.boundary import as_code_of
from ...trace.recording import is_request
from .channel import Channel
from .script import Given
from .values import error_of, message_of

_OURS = frozenset({"closed", "refused", "slow", "written"})
"""The records of what happened to the session's own messages."""
REQUEST_S = 30.0
"""Seconds for which an answer waits for its request, which comes later than in the recorded call, or never."""


class ReplayedWire:
    """A connection whose messages come from the file. A message waits for the request that it answers."""

    ready = True

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._replaying = channel.replaying
        self._take: Callable[[WireMessage], bool] | None = None
        self._messages = self._sent = 0
        self._written: dict[int, asyncio.Future[Given]] = {}
        self._held: deque[Given] = deque()
        self._overdue: asyncio.TimerHandle | None = None
        self._pings = self._pings_known = 0
        self._pongs: dict[int, asyncio.Future[Given]] = {}
        self.closed = False
        self._closing = asyncio.Event()

    def listen(self, take: Callable[[WireMessage], bool]) -> None:
        """Offer messages to `take`."""
        self._take = take

    def deliver(self, given: Given) -> None:
        """Take what came on the connection, at its time."""
        data = given.data
        if "closed" in data:
            self._closing.set()
        if "written" in data:
            self._later(self._written, data["written"]).set_result(given)
        if self.closed or not data.keys().isdisjoint(_OURS):
            return
        if "ping" in data:
            self._pings_known = max(self._pings_known, data["ping"])
        elif "pong" in data:
            pong = self._later(self._pongs, data["pong"])
            if not pong.done():
                pong.set_result(given)
        elif self._held or data["sent"][0] > self._sent:
            self._held.append(given)
            if self._overdue is None:
                self._overdue = self._replaying.loop.call_later(REQUEST_S, self._give_up)
        else:
            self._enter(given)

    def _later(self, futures: dict[int, asyncio.Future[Given]], number: int) -> asyncio.Future[Given]:
        return futures.setdefault(number, self._replaying.loop.create_future())

    def _enter(self, given: Given) -> None:
        if given.data.get("pushed") and self._take is not None and self._channel.waits:
            with as_code_of(self._replaying):
                if self._take(message_of(given.data)):
                    return
        self._channel.take(given)

    def send(self, message: WireMessage) -> Awaitable[None]:
        """Take a message of the session. Raises the error that the recorded call got in this place."""
        if is_request(message):
            self._sent += 1
            if self._held:
                self._release()
        self._messages += 1
        refused = self._replaying.due_now(self._channel, "refused", self._messages)
        if refused is not None:
            raise error_of(refused.data["error"])
        slow = self._replaying.due_now(self._channel, "slow", self._messages)
        return DONE if slow is None else self._send_on(self._messages)

    async def _send_on(self, number: int) -> None:
        try:
            with as_code_of(None):
                given = await self._later(self._written, number)
        finally:
            self._replaying.steps.step()
        if "error" in given.data:
            raise error_of(given.data["error"])

    def _release(self) -> None:
        """Let in what has waited for this request, at the same distances from it as in the recorded call."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        now = self._replaying.time()
        wanted, asked_t = self._held[0].data["sent"]
        if wanted > self._sent:
            self._overdue = self._replaying.loop.call_later(REQUEST_S, self._give_up)
            return
        held, self._held = self._held, deque()
        for given in held:
            at = max(now, now + given.t - asked_t) if given.data["sent"][0] <= self._sent else given.t
            self._replaying.loop.call_at(at, self.deliver, given)

    def _give_up(self) -> None:
        wanted, _ = self._held[0].data["sent"]
        self._held.clear()
        what = f"{self._channel.name} waits for request {wanted} on connection {self._channel.number}, which never came"
        self._replaying.diverge(what)
        lost = {"lost": {"type": "ConnectionLost", "message": f"the replay differs: {what}", "fatal": True}}
        self._channel.take(Given(self._replaying.time(), None, "wire", self._channel.name, lost))

    async def receive(self) -> WireMessage:
        """Return the next message."""
        given = await self._channel.piece()
        if "lost" in given.data:
            raise error_of(given.data["lost"])
        return message_of(given.data)

    async def ping(self) -> None:
        """Return when the recorded provider answered, or at once if it was not asked."""
        self._pings += 1
        if self._pings > self._pings_known and not self._replaying.comes(self._channel, "ping", self._pings):
            return
        try:
            with as_code_of(None):
                given = await self._later(self._pongs, self._pings)
        finally:
            self._replaying.steps.step()
        self._pongs.pop(self._pings, None)
        if "error" in given.data:
            raise error_of(given.data["error"])

    async def close(self) -> None:
        """End the connection, which takes as long as in the recorded call."""
        self.closed = True
        if self._overdue is not None:
            self._overdue.cancel()
        try:
            if self._replaying.comes(self._channel, "closed", True):
                with as_code_of(None):
                    await self._closing.wait()
        finally:
            self._replaying.steps.step()


class ReplayedHead:
    """An answer over HTTP from the file."""

    def __init__(self, channel: Channel, given: Given) -> None:
        self._channel = channel
        self.status = int(given.data["status"])
        self.headers = [(str(name), str(value)) for name, value in given.data["headers"]]

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body."""
        while True:
            given = await self._channel.piece()
            if "lost" in given.data:
                raise error_of(given.data["lost"])
            if "end" in given.data:
                return
            piece = message_of(given.data)
            yield piece if isinstance(piece, bytes) else piece.encode()

    async def close(self) -> None:
        """Read no more of it."""
        self._channel.replaying.steps.step()
