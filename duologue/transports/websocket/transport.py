"""`WebSocketTransport`: a call whose audio and messages come over one WebSocket."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from time import thread_time
from typing import Any

import anyio

from ...errors import check_limits
from ...frames import UserText
from ..client import SHUTTING_DOWN, ClientTransport, Message, byte_size
from ..pace import Allowance, Crowd, Pace
from ..playout.base import AudioSink, PlayoutSettings
from ..playout.in_flight import CONFIRM_S
from .connection import ClientSocket, Closed
from .sender import Sender
from .serializers import Audio, DuologueSerializer, Malformed, Ping, Played, Serializer, Stop, TypedText, Wired

log = logging.getLogger("duologue")

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Bytes of the largest message that any endpoint takes. The server itself should refuse larger messages."""
RATE_WINDOW_S = 3.0
"""Seconds over which message rates are averaged."""
MAX_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes that a far end may send at once, beyond its rate. One that sends more is cut off."""
NO_ROOM_S = 0.01
"""Seconds between two looks whether a far end that asks for much takes it."""
YIELD_BYTES = 8 * 1024
MESSAGE_COST = 512
"""After messages of this many bytes, each counted with its cost, the reader lets other tasks run: a far end that sends
without a pause would otherwise stop all other calls."""
MAX_MALFORMED = 50
"""Malformed messages allowed at once, and one more each second. A far end that sends more is cut off."""
CLOSE_S = 1.5
"""Seconds within which the last messages must be sent, and then again for the closing handshake."""
WATCH_S = 0.25
"""Seconds between two checks that the client is still there."""
MARGIN_S = 0.5
"""Speech is put on hold this many seconds before unplayed audio would count as lost."""
_SERVICE_RESTART = 1012  # the close code of a server that stops


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """The limits of one connection. Raises ConfigurationError for a limit that is not positive."""

    lost_s: float = 5.0
    """Seconds for which a far end takes nothing, or sends nothing although it has pinged before, until it is lost."""
    message_bytes: int = 256 * 1024
    """Size of a message in bytes, text as UTF-8. A far end that sends a longer message is cut off (1009)."""
    messages_per_s: float = 500.0
    """Average over a few seconds. A far end that sends more is cut off (1008)."""
    bytes_per_s: float = 1024 * 1024
    """Average beyond the first 16 MiB. A far end that sends more is cut off (1008)."""
    unsent_s: float = 1.5
    """Seconds of audio that the far end may be behind, at most 1.5. Beyond that the speech is on hold."""

    def __post_init__(self) -> None:
        check_limits(self)


class Exceeded(Exception):
    """The far end went beyond a limit. `code` is the close code of the connection, `reason` the close reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class WebSocketTransport(ClientTransport):
    """The server's end of a call over a WebSocket, in the dialect of `serializer` (JSON with a `type` by default).

    With Starlette: `WebSocketTransport(StarletteWire(socket))`, from `duologue.web.sockets`. `open` begins to send and
    receive; from then on the connection belongs to the transport until `close`. If a client reads slowly, the agent's
    speech is on hold until the client has caught up, and no audio is dropped.
    """

    kind = "websocket"

    def __init__(
        self,
        wire: ClientSocket,
        serializer: Serializer | None = None,
        *,
        id: str = "",
        identity: Any = None,
        data: Any = None,
        limits: WebSocketLimits | None = None,
        settings: PlayoutSettings | None = None,
    ) -> None:
        self.serializer = serializer or DuologueSerializer()
        rate = self.serializer.output_sample_rate
        super().__init__(
            id or uuid.uuid4().hex,
            identity=identity,
            data=data,
            words=self.serializer.words,
            output_sample_rate=rate,
            settings=settings,
        )
        self.limits = limits or WebSocketLimits()
        self._limit_s = min(self.limits.unsent_s, CONFIRM_S - MARGIN_S)
        self._wire: ClientSocket = wire
        self._loop = asyncio.get_running_loop()
        self._guard = Guard(self.limits)
        self._pace = Pace(Crowd.here(), self._loop.time())
        self._sender = Sender(
            wire,
            self.serializer,
            limit_s=self._limit_s,
            lead_s=self._output.settings.lead_ms / 1000,
            floor=lambda: self._output.session.floor,
            on_full=lambda: self._cut(1013, "client reads too slowly"),
            on_failed=self._failed,
        )
        self._heard_at = 0.0  # loop time of the latest message
        self._pings = False
        self._cut_off = False
        self._reader: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def malformed(self) -> int:
        """The number of the client's messages that could not be understood."""
        return self._guard.malformed

    def open(self) -> None:
        """Begin to send and receive: the connection is open."""
        self._heard_at = self._loop.time()
        self._sender.start(f"websocket {self.id}: writer")
        self._reader = self._loop.create_task(self._read(), name=f"websocket {self.id}: reader")
        self._watch_timer = self._loop.call_later(WATCH_S, self._watch)

    # -- to the client ---------------------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        """Send a JSON object to the client, without waiting. Does nothing if the client is gone.

        A client with too many waiting messages is cut off (1013). Raises TypeError for a message that is not JSON.
        """
        self._sender.put(self.serializer.message(message))

    def send_event(self, kind: str, **fields: Any) -> None:
        """Send an event to the client, if its dialect has one of this kind."""
        self._sender.put(self.serializer.event(kind, **fields))

    def audio_sink(self) -> AudioSink:
        """Return the sender, which puts the speech on hold if the client is too far behind."""
        return self._sender

    # -- from the client -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        now, since_yield = self._loop.time, 0
        while not self._sender.closed:
            if since_yield > YIELD_BYTES:
                since_yield = 0
                await asyncio.sleep(0)
            while not (self._sender.outbox.has_room or self._sender.closed):
                await asyncio.sleep(NO_ROOM_S)  # nothing is asked of us that cannot be sent
            try:
                data = await self._wire.receive()
            except Closed as closed:
                self._sender.closed = True
                self.hang_up(SHUTTING_DOWN if closed.code == _SERVICE_RESTART else "client disconnected")
                return
            self._heard_at, begun = now(), thread_time()
            try:
                size = len(data) if isinstance(data, bytes) else byte_size(data)
                since_yield += size + MESSAGE_COST
                self._guard.message(size, self._heard_at)
                self._take(data, self._heard_at)
            except Exceeded as exceeded:
                self._cut(exceeded.code, exceeded.reason)
            except Exception as error:
                self._failed(error)
            # The time of this thread leaves out that of others; on a virtual clock no work takes time.
            took_s = min(now() - self._heard_at, thread_time() - begun)
            if pause_s := self._pace.pause_s(took_s, self._heard_at):
                await asyncio.sleep(pause_s)

    def _take(self, data: Wired, now: float) -> None:
        try:
            received = self.serializer.parse(data)
        except Malformed as malformed:
            self._guard.mistake(malformed, now)
            self._sender.put(self.serializer.error(malformed.code, str(malformed)))
            return
        if isinstance(received, Audio):
            self.feed(received.pcm, received.sample_rate)
        elif isinstance(received, dict):
            self.received_message(received)
        elif isinstance(received, Played):
            self._sender.told(received.ms)
        elif isinstance(received, TypedText):
            self.feed_frame(UserText(text=received.text))
        elif isinstance(received, Ping):
            self._pings = True
            self._sender.put(self.serializer.pong())
        elif isinstance(received, Stop):
            self.hang_up()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Check that the client is still there and takes the audio."""
        now, lost_s = self._loop.time(), self.limits.lost_s
        if self._sender.stuck_s(now) >= lost_s or (self._pings and now - self._heard_at >= lost_s):
            self._sender.closed = True
            self.hang_up("client lost")
            return
        self._sender.hold_if_stuck(now)
        self._watch_timer = self._loop.call_later(WATCH_S, self._watch)

    def _failed(self, error: Exception) -> None:
        log.error("call %s: the connection failed", self.id, exc_info=error)
        self._cut(1011, "internal error")

    def _cut(self, code: int, reason: str) -> None:
        """Cut the client off: it receives the reason, and the call ends."""
        if self._cut_off or self._closing is not None:
            return
        self._cut_off = True
        log.warning("call %s: the client was cut off: %s", self.id, reason)
        self._sender.put(self.serializer.error(reason.replace(" ", "_"), reason))
        self._begin_closing(code, reason)
        # Later: the playout may be sending to the client now.
        self._loop.call_soon(self.hang_up, reason)

    def cut_off(self, reason: str) -> None:
        """Tell the client the reason, close the connection (1008), and end the call."""
        self._cut(1008, reason)

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection.

        The code is 1000, or 1001 if the server stops, or 1011 on an error.
        """
        if self._closing is None:
            if error:
                self._sender.put(self.serializer.error("internal_error", "the call has ended because of an error"))
            self._begin_closing(1011 if error else 1001 if reason == SHUTTING_DOWN else 1000, reason)
        assert self._closing is not None
        await asyncio.shield(self._closing)

    def _begin_closing(self, code: int, reason: str) -> None:
        gone = self._sender.closed
        self._sender.put(self.serializer.event("session_ended", reason=reason))
        self._sender.closed = True
        if self._closing is None:  # sending the event above may have begun it
            closing = self._close(code, reason, gone)
            self._closing = self._loop.create_task(closing, name=f"websocket {self.id}: closing")

    async def _close(self, code: int, reason: str, gone: bool) -> None:
        self._sender.drop_audio()
        if not gone:
            with anyio.move_on_after(CLOSE_S):
                await self._sender.emptied()
        tasks = [task for task in (self._sender.task, self._reader) if task is not None]
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._sender.task is not None:
            self._sender.task.cancel()
        with anyio.move_on_after(CLOSE_S):
            await self._wire.close(code, reason.encode()[:120].decode(errors="ignore"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Guard:
    """Enforces the limits of one connection. Each method raises Exceeded; `now` is loop time in seconds."""

    def __init__(self, limits: WebSocketLimits) -> None:
        self.malformed = 0
        """Number of malformed messages."""
        self._message_bytes = limits.message_bytes
        self._messages = Allowance(limits.messages_per_s, limits.messages_per_s * RATE_WINDOW_S)
        self._bytes = Allowance(limits.bytes_per_s, MAX_BYTES_AT_ONCE)
        self._mistakes = Allowance(1.0, MAX_MALFORMED)

    def message(self, size: int, now: float) -> None:
        """Count a message of `size` bytes."""
        if size > self._message_bytes:
            if size > MAX_MESSAGE_BYTES:
                log.warning("the server lets a message of %d bytes through: give it `uvicorn_options`", size)
            raise Exceeded(1009, "message too big")
        if not self._messages.take(1, now):
            raise Exceeded(1008, "too many messages")
        if not self._bytes.take(size, now):
            raise Exceeded(1008, "too many bytes")

    def mistake(self, malformed: Malformed, now: float) -> None:
        """Count a malformed message."""
        self.malformed += 1
        if not self._mistakes.take(1, now):
            raise Exceeded(1003 if malformed.code.endswith("_message") else 1008, "too many malformed messages")
