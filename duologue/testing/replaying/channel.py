"""`Channel`: the answers to one question of a call, and `ReplayedWire`: those of one connection."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from ... import errors
from ...frames import Frame
from ...processors.kernel.lane import DONE
from ...services.remote.dialect import WireMessage
from ...services.remote.errors import ConnectionLost
from ...session.boundary import within
from ...trace.recording import PACKAGE, is_request
from .script import Given

if TYPE_CHECKING:
    from .replaying import Replaying

_OURS = frozenset({"closed", "refused", "slow", "written"})
"""The records of what happened to the session's own messages."""
REQUEST_S = 30.0
"""Seconds for which an answer waits for its request, which comes later than in the recorded call, or never."""


class Channel:
    """The answers that the recorded call got to one question, in order, for the same question of the replay."""

    def __init__(self, replaying: Replaying, name: str, number: int) -> None:
        self.replaying, self.name, self.number = replaying, name, number
        self.asked_t = 0.0
        """The loop time of the question in the recorded call."""
        self.late_s = 0.0
        """How much later the replay has asked."""
        self.open = False
        self._early: list[Given] = []
        self._came: deque[Given] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def ask(self) -> None:
        """The replay asks. Answers to a question that comes late keep their distance from it."""
        self.open = True
        if self._early:
            self.late_s = max(0.0, self.replaying.time() - self.asked_t)
        early, self._early = self._early, []
        for given in early:
            self._later(given)

    def _later(self, given: Given) -> None:
        self.replaying.loop.call_at(given.t + self.late_s, self.take, given)

    def deliver(self, given: Given) -> None:
        """Take an answer at its time."""
        if not self.open:
            self._early.append(given)
        elif self.late_s:
            self._later(given)
        else:
            self.take(given)

    @property
    def unasked(self) -> bool:
        """True if answers came to a question that the replay has not asked."""
        return bool(self._early)

    def take(self, given: Given) -> None:
        """Take an answer now."""
        self._came.append(given)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Given:
        """Return the next answer. The code outside of the session begins here."""
        with within(None):
            while not self._came:
                self._waiter = self.replaying.loop.create_future()
                await self._waiter
        return self._came.popleft()

    async def outcome(self) -> Given:
        """Return the answer. A cancellation takes effect when it did in the recorded call."""
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                given = await self.next()
            except asyncio.CancelledError as error:
                if not self.replaying.comes_to(self):
                    raise
                cancelled = error
                continue
            if "cancelled" in given.data:
                raise cancelled or asyncio.CancelledError
            return given

    @property
    def is_behind(self) -> bool:
        """True if the task in `next` has been woken, and does not go on yet."""
        return self._waiter is not None and self._waiter.done() and bool(self._came)

    @property
    def waits(self) -> bool:
        """True while a task waits in `next`."""
        return self._waiter is not None and not self._waiter.done()


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

    @property
    def is_behind(self) -> bool:
        """True if the reader has been woken, and has not read yet."""
        return self._channel.is_behind

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
            with within(self._replaying):
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
        with within(None):
            given = await self._later(self._written, number)
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
        given = await self._channel.next()
        if "lost" in given.data:
            raise error_of(given.data["lost"])
        return message_of(given.data)

    async def ping(self) -> None:
        """Return when the recorded provider answered, or at once if it was not asked."""
        self._pings += 1
        if self._pings > self._pings_known and not self._replaying.comes(self._channel, "ping", self._pings):
            return
        with within(None):
            given = await self._later(self._pongs, self._pings)
        self._pongs.pop(self._pings, None)
        if "error" in given.data:
            raise error_of(given.data["error"])

    async def close(self) -> None:
        """End the connection, which takes as long as in the recorded call."""
        self.closed = True
        if self._overdue is not None:
            self._overdue.cancel()
        if self._replaying.comes(self._channel, "closed", True):
            with within(None):
                await self._closing.wait()


class ReplayedHead:
    """An answer over HTTP from the file."""

    def __init__(self, channel: Channel, given: Given) -> None:
        self._channel = channel
        self.status = int(given.data["status"])
        self.headers = [(str(name), str(value)) for name, value in given.data["headers"]]

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body."""
        while True:
            given = await self._channel.next()
            if "lost" in given.data:
                raise error_of(given.data["lost"])
            if "end" in given.data:
                return
            piece = message_of(given.data)
            yield piece if isinstance(piece, bytes) else piece.encode()

    async def close(self) -> None:
        """Read no more of it."""


def message_of(data: dict[str, Any]) -> WireMessage:
    """Return the message of a record."""
    if "text" in data:
        return str(data["text"])
    return str(data["utf8"]).encode() if "utf8" in data else b64decode(data["bytes"])


def value_of(plain: Any) -> Any:
    """Return the value of a call from its record."""
    if isinstance(plain, dict) and plain.keys() == {"$frame"}:
        return frame_of(plain["$frame"])
    if isinstance(plain, dict) and plain.keys() == {"$bytes"}:
        return b64decode(plain["$bytes"])
    if isinstance(plain, dict) and plain.keys() == {"$error"}:
        return error_of(plain["$error"])
    if isinstance(plain, dict) and plain.keys() == {"$struct", "fields"}:
        return _struct_of(plain["$struct"], plain["fields"])
    if isinstance(plain, list):
        return [value_of(each) for each in plain]
    if isinstance(plain, dict):
        return {name: value_of(each) for name, each in plain.items()}
    return plain


def _struct_of(name: str, fields: dict[str, Any]) -> Any:
    module, _, path = name.partition(":")
    kind = getattr(import_module(module), path, None) if module.startswith(PACKAGE) else None
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise errors.BadInput(f"the recorded {name!r} is of no type in this program")
    return kind(**{name: _tuple(value_of(value)) for name, value in fields.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def frame_of(plain: dict[str, Any]) -> Frame:
    """Return a frame from its record. Raises BadInput for one of an unknown type."""
    kind = next((kind for kind in _frame_types(Frame) if kind.__struct_config__.tag == plain.get("type")), None)
    if kind is None:
        raise errors.BadInput(f"the recorded frame {plain.get('type')!r} is of no type in this program")
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise errors.BadInput(f"the recorded frame {plain.get('type')!r} does not fit: {error}") from error


def _frame_types(kind: type[Frame]) -> list[type[Frame]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _frame_types(sub))]


def error_of(plain: dict[str, Any]) -> Exception:
    """Return an error like the recorded one."""
    name, message = str(plain.get("type", "")), str(plain.get("message", ""))
    if name == "ConnectionLost":
        more = {key: plain[key] for key in ("code", "fatal", "retry_after_s") if key in plain}
        return ConnectionLost(message, **more)
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, errors.DuologueError) and known not in _WITH_FIELDS:
        return known(message)
    return type(name or "Exception", (Exception,), {})(message)


_WITH_FIELDS = (errors.MissingExtra, errors.IncompatiblePackage)
