"""`WebSocketTransport`: a call whose audio and messages come over one WebSocket."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import anyio

from ...frames import UserText
from ..client import SHUTTING_DOWN, ClientTransport
from ..playout.in_flight import CONFIRM_S
from ..playout.playout import PlayoutSettings
from ..words import Message, byte_size
from .connection import Closed, Wire
from .limits import Exceeded, Guard, WebSocketLimits
from .outbox import Outbox, Playback
from .serializers import Audio, F1Serializer, Malformed, Ping, Played, Serializer, Stop, TypedText, Wired

log = logging.getLogger("duologue")

CLOSE_S = 1.5
"""How long the last messages may take on their way, and the closing handshake as well."""
AT_ONCE_S = 0.002
"""A socket that takes longer to take a message is full."""
LOOK_S = 0.25
"""How often it is seen to whether the client is still there."""
MARGIN_S = 0.5
"""Speech is held so long before what a client has not played would count as lost: it may tell that late."""
_SERVICE_RESTART = 1012  # with which servers close all connections when they stop


class WebSocketTransport(ClientTransport):
    """The server's end of a call over a WebSocket, in the dialect of `serializer` (JSON with a `type` by default).

    With Starlette: `WebSocketTransport(StarletteWire(socket))`. `open` begins to send and receive; from then on the
    connection is the transport's until `close`. Nothing of the agent's speech is dropped for a client that reads
    slowly: the speech is held until the client has caught up.
    """

    kind = "websocket"

    def __init__(
        self,
        wire: Wire,
        serializer: Serializer | None = None,
        *,
        id: str = "",
        identity: Any = None,
        data: Any = None,
        limits: WebSocketLimits | None = None,
        settings: PlayoutSettings | None = None,
    ) -> None:
        self.serializer = serializer or F1Serializer()
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
        self._wire: Wire = wire
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._guard = Guard(self.limits)
        self._outbox = Outbox()
        self._playback = Playback(rate)
        self._void_before = 0  # audio of an earlier generation in the outbox is dropped by the client as it comes
        self._to_clear = False  # the client may have audio that it has not been told to drop
        self._hold_due = False
        self._holding = False  # the playout is being paused by ourselves
        self._held = False
        self._sending_since: float | None = None
        self._heard_at = 0.0
        self._pings = False
        self._cut_off = False
        self._over = False  # nothing more goes to the client
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._release_timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def malformed(self) -> int:
        """How many messages of the client meant nothing."""
        return self._guard.malformed

    def open(self) -> None:
        """The connection stands: begin to send and receive."""
        loop = self._loop
        self._heard_at = loop.time()
        self._writer = loop.create_task(self._write(), name=f"websocket {self.id}: writer")
        self._reader = loop.create_task(self._read(), name=f"websocket {self.id}: reader")
        self._look_timer = loop.call_later(LOOK_S, self._look)

    # -- to the client ---------------------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        """Send a JSON object to the client. Does not wait; a client that is gone gets nothing.

        A client for which too much waits is cut off (1013). Raises TypeError for what is not JSON.
        """
        self._put(self.serializer.message(message))

    def send_event(self, kind: str, **fields: Any) -> None:
        """Tell the client of something that has happened, if its dialect has words for it."""
        self._put(self.serializer.event(kind, **fields))

    def _put(self, data: Wired | None) -> None:
        if data is not None and not self._over and not self._outbox.put(data):
            self._cut(1013, "client reads too slowly")

    def write_audio(self, chunk: bytes) -> None:
        """Send 20 ms of the agent's audio. If the client is too far behind, the speech is held from now on."""
        if self._over:
            return
        now = self._loop.time()
        self._to_clear = True
        self._outbox.put_audio(chunk, now)
        if not self._hold_due and self._late_s(now) > self._limit_s:
            # Not from within the playout, which is about to account for this chunk.
            self._hold_due = True
            self._loop.call_soon(self._hold)

    @property
    def _limit_s(self) -> float:
        return min(self.limits.unsent_s, CONFIRM_S - MARGIN_S)

    def _late_s(self, now: float) -> float:
        """How much later than meant the client hears what is sent now."""
        lead_s = self._output.settings.lead_ms / 1000
        return self._outbox.unsent / self._rate + self._playback.ahead_s(now) - lead_s

    def _hold(self) -> None:
        self._hold_due = False
        playout = self._output.playout
        if self._over or playout.paused:
            return
        self._holding = True
        try:
            playout.pause()
        finally:
            self._holding = False
        if not self._outbox.unsent:
            self._caught_up(self._loop.time())

    def _caught_up(self, now: float) -> None:
        """All has been sent: a speech that is held goes on when the client has played nearly all of it."""
        if self._release_timer is None:
            delay_s = max(0.0, self._playback.ahead_s(now) - self._output.settings.lead_ms / 1000)
            self._release_timer = self._loop.call_later(delay_s, self._release)

    def _release(self) -> None:
        self._release_timer = None
        if self._held and not self._outbox.unsent and not self._over:
            self._held = False
            self._output.playout.resume()

    def clear_audio(self) -> int | None:
        """Drop what the client has not played. For a pause of a client that is behind, only what was not sent."""
        now = self._loop.time()
        blocked = self._sending_since is not None and now - self._sending_since > AT_ONCE_S
        owed = blocked or self._playback.owes(now)
        goes_on = self._holding or (owed and self._output.playout.paused)
        self._held = self._holding
        clear = None if goes_on else self.serializer.clear()
        if clear is None:  # the client goes on to play what it has got, and what is on its way to it
            kept = self._playback.handed + self._outbox.samples_in_flight
            self._outbox.drop_audio()
            self._playback.begin_anew(now, kept=kept)
            return kept
        # If the socket takes nothing, the client does not hear of this before it has played what it has got.
        kept = self._playback.handed if blocked else self._playback.position(now)
        self._outbox.drop_audio()
        self._void_before = self._outbox.generation
        self._playback.begin_anew(now)
        if self._to_clear:
            self._to_clear = False
            self._put(clear)
        return kept

    def audio_position(self) -> int | None:
        """How much the client has played since the last `clear_audio`."""
        return self._playback.position(self._loop.time())

    async def _write(self) -> None:
        outbox, playback, wire, serializer = self._outbox, self._playback, self._wire, self.serializer
        now = self._loop.time
        late = False  # the socket did not take at once what was sent, or what was sent before
        while True:
            late = late and not outbox.is_empty
            item = await outbox.take()
            began = self._sending_since = now()
            try:
                await wire.send(serializer.audio(item.pcm) if item.pcm else item.data)
            except Closed:
                return  # the reader hears of it too
            except Exception:
                log.exception("call %s: a message could not be sent to the client", self.id)
                self._cut(1011, "internal error")
                return
            self._sending_since = None
            outbox.sent()
            taken = now()
            late = late or taken - began > AT_ONCE_S
            if item.pcm and item.generation >= self._void_before:
                counts = item.generation == outbox.generation
                playback.add(len(item.pcm) >> 1, taken if late else item.at, counts=counts)
            if self._held and not outbox.unsent:
                self._caught_up(taken)

    # -- from the client -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        now = self._loop.time
        while not self._over:
            try:
                data = await self._wire.receive()
            except Closed as closed:
                self._over = True
                self.hang_up(SHUTTING_DOWN if closed.code == _SERVICE_RESTART else "client disconnected")
                return
            self._heard_at = now()
            try:
                self._guard.message(byte_size(data), self._heard_at)
                self._take(data, self._heard_at)
            except Exceeded as exceeded:
                self._cut(exceeded.code, exceeded.reason)
            except Exception:
                log.exception("call %s: a message of the client could not be dealt with", self.id)
                self._cut(1011, "internal error")

    def _take(self, data: Wired, now: float) -> None:
        try:
            received = self.serializer.parse(data)
        except Malformed as malformed:
            self._guard.mistake(malformed, now)
            self._put(self.serializer.error(malformed.code, str(malformed)))
            return
        if isinstance(received, Audio):
            self._guard.audio(received, now)
            self.feed(received.pcm, received.sample_rate)
        elif isinstance(received, dict):
            self.received_message(received)
        elif isinstance(received, Played):
            self._playback.told(received.ms, now)
        elif isinstance(received, TypedText):
            self.feed_frame(UserText(text=received.text))
        elif isinstance(received, Ping):
            self._pings = True
            self._put(self.serializer.pong())
        elif isinstance(received, Stop):
            self.hang_up()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Is the client still there, and does it take the audio?"""
        now, lost_s = self._loop.time(), self.limits.lost_s
        stuck_s = now - self._sending_since if self._sending_since is not None else 0.0
        if stuck_s >= lost_s or (self._pings and now - self._heard_at >= lost_s):
            self._over = True
            self.hang_up("client lost")
            return
        if stuck_s > self._limit_s and self._outbox.unsent and not self._hold_due:
            self._hold()
        self._look_timer = self._loop.call_later(LOOK_S, self._look)

    def _cut(self, code: int, reason: str) -> None:
        """The client may not go on: it is told why, and the call ends."""
        if self._cut_off or self._closing is not None:
            return
        self._cut_off = True
        log.warning("call %s: the client was cut off: %s", self.id, reason)
        self._put(self.serializer.error(reason.replace(" ", "_"), reason))
        self._begin_closing(code, reason)
        # Not from within the playout, which may be about to tell the client something.
        self._loop.call_soon(self.hang_up, reason)

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection.

        With 1000, with 1001 if the server stops, with 1011 on an error.
        """
        if self._closing is None:
            if error:
                self._put(self.serializer.error("internal_error", "the call has ended because of an error"))
            self._begin_closing(1011 if error else 1001 if reason == SHUTTING_DOWN else 1000, reason)
        assert self._closing is not None
        await asyncio.shield(self._closing)

    def _begin_closing(self, code: int, reason: str) -> None:
        self._put(self.serializer.event("session_ended", reason=reason))
        gone, self._over = self._over, True
        if self._closing is None:  # the client may have been cut off for what was still to be told
            closing = self._close(code, reason, gone)
            self._closing = self._loop.create_task(closing, name=f"websocket {self.id}: closing")

    async def _close(self, code: int, reason: str, gone: bool) -> None:
        self._outbox.drop_audio()
        if not gone and self._writer is not None and not self._writer.done():
            with anyio.move_on_after(CLOSE_S):
                await self._outbox.emptied()
        tasks = [task for task in (self._writer, self._reader) if task is not None]
        for timer in (self._look_timer, self._release_timer):
            if timer is not None:
                timer.cancel()
        if self._writer is not None:
            self._writer.cancel()
        with anyio.move_on_after(CLOSE_S):
            await self._wire.close(code, reason.encode()[:120].decode(errors="ignore"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
