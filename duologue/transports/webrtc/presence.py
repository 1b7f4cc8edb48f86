"""`Presence`: follows a WebRTC client by its signs of life; `ConfirmedVoice`: the audio that it has surely played."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Literal

from ...errors import IllegalState
from ...session.floor import Floor, Hold
from .audio import Voice

STALLED_S = 1.0
"""Seconds without a sign of life after which the speech is on hold. Audio that may be unheard is played again."""
MUTED_S = 0.5
"""Seconds without audio, while other packets arrive, after which a client is muted. They do not confirm playback."""
AHEAD_OF_EAR_S = 0.1
"""Seconds of audio in a client's jitter buffer, which may never be played when the network is cut."""
JITTER_SETTLE_S = 0.4
"""Seconds of silence for a client that is back, in which its jitter buffer settles."""
WATCH_S = 0.25
"""Seconds between two checks of the connection."""
LOST_CLIENT = "lost client"
"""The owner's name of the holds that `Presence` begins."""


class ClientState(Enum):
    """The states of a client."""

    NEW = "new"
    """It has not connected yet."""
    THERE = "connected"
    SILENT = "silent"
    """Nothing has come for `STALLED_S`, or a new connection takes the old one's place. The speech is on hold."""
    LOST = "lost"
    """Nothing has come for `lost_s`, or the connection failed; this was announced. The speech is on hold."""
    BACK = "back"
    """It gives signs of life again. The speech is on hold for `JITTER_SETTLE_S` more."""
    CLOSED = "closed"


_MOVES: dict[ClientState, set[ClientState]] = {
    ClientState.NEW: {ClientState.THERE, ClientState.CLOSED},
    ClientState.THERE: {ClientState.SILENT, ClientState.LOST, ClientState.CLOSED},
    ClientState.SILENT: {ClientState.BACK, ClientState.LOST, ClientState.CLOSED},
    ClientState.LOST: {ClientState.BACK, ClientState.CLOSED},
    ClientState.BACK: {ClientState.THERE, ClientState.SILENT, ClientState.LOST, ClientState.CLOSED},
    ClientState.CLOSED: set(),
}
_AWAY = (ClientState.SILENT, ClientState.LOST, ClientState.BACK)


class Presence:
    """Follows one client from its first connection to the end, and holds the agent's speech while it is away.

    A client without a sign of life for `lost_s` seconds is lost; it may come back within `reconnect_s`. `packets`
    returns the number of packets that its connection has received, `floor` the session's floor, or None before there is
    a session. `changed` receives each state that is announced, `gone` the reason for which the call ends, `abandoned`
    the reason for which it does not begin. `fill` receives the seconds of silence that replace missing audio.
    """

    def __init__(
        self,
        id: str,
        *,
        lost_s: float,
        reconnect_s: float,
        packets: Callable[[], Awaitable[int]],
        floor: Callable[[], Floor | None],
        changed: Callable[[Literal["lost", "reconnected"], str], None],
        gone: Callable[[str], None],
        abandoned: Callable[[str], None],
        fill: Callable[[float], None],
    ) -> None:
        self.state = ClientState.NEW
        self._id = id
        self._lost_s, self._reconnect_s = lost_s, reconnect_s
        self._packets_received, self._floor = packets, floor
        self._changed, self._gone, self._abandoned, self._fill = changed, gone, abandoned, fill
        self._loop = asyncio.get_running_loop()
        self._seen_at = self._heard_at = self._fed_at = self._loop.time()  # sign of life, audio, audio passed on
        self._lost_at = 0.0
        self._packets = 0
        self._hold: Hold | None = None
        self._watching: asyncio.Task[None] | None = None
        self._connect_timer: asyncio.TimerHandle | None = None
        self._settle_timer: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """True from the first connection on, except while the client is lost or closed."""
        return self.state in (ClientState.THERE, ClientState.SILENT, ClientState.BACK)

    @property
    def away(self) -> bool:
        """True while the client may not hear the agent: the speech is on hold."""
        return self.state in _AWAY

    @property
    def muted(self) -> bool:
        """True while the client sends other packets, but not audio."""
        return self._seen_at - self._heard_at > MUTED_S

    def _move(self, state: ClientState) -> None:
        if state not in _MOVES[self.state]:
            raise IllegalState(f"the client of {self._id!r} cannot go from {self.state.value} to {state.value}")
        self.state = state

    # -- what happens to the connection ----------------------------------------------------------------------------

    def expect(self, within_s: float) -> None:
        """Abandon the call if the client does not connect within `within_s` seconds: its offer was answered."""
        reason = f"not connected within {within_s:g} s"
        self._connect_timer = self._loop.call_later(within_s, self._abandon, reason)

    def _abandon(self, reason: str) -> None:
        self._stop_connect_timer()
        self._abandoned(reason)

    def _stop_connect_timer(self) -> None:
        if self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None

    def connect(self) -> None:
        """Record that the client has connected for the first time."""
        self._stop_connect_timer()
        self._move(ClientState.THERE)
        self._fed_at = self._loop.time()
        self._watching = self._loop.create_task(self._watch(), name=f"watch the client of {self._id}")

    def switch(self) -> None:
        """Record that a new connection replaces the old one."""
        self._packets, self._lost_at = 0, self._loop.time()
        if self.state in (ClientState.THERE, ClientState.BACK):
            self._move(ClientState.SILENT)
            self.hold_speech()

    def fail(self, *, closed: bool) -> None:
        """Record that the connection failed, or that the client has `closed` it: a hang-up unless it was silent."""
        if closed and self.state is ClientState.THERE:
            self._gone("client disconnected")
        elif self.connected:
            self._lose("the connection failed")
        elif closed and self.state is ClientState.NEW:  # after a failure it may try again in time
            self._abandon("client disconnected")

    def close(self) -> None:
        """Record that the connection ends. Closing twice is harmless."""
        self.stop()
        if self.state is not ClientState.CLOSED:
            self._move(ClientState.CLOSED)

    def stop(self) -> None:
        """Stop watching the client."""
        self._stop_connect_timer()
        if self._watching is not None:
            self._watching.cancel()
        if self._settle_timer is not None:
            self._settle_timer.cancel()

    # -- signs of life ---------------------------------------------------------------------------------------------

    def fed(self) -> None:
        """Record that audio of the client was passed on."""
        self._fed_at = self._loop.time()

    def sign_of_life(self, *, audio: bool = False) -> None:
        """Record that something has come from the client."""
        self._seen_at = self._loop.time()
        if audio:
            self._heard_at = self._seen_at
        if self.state is ClientState.SILENT or self.state is ClientState.LOST:
            lost = self.state is ClientState.LOST
            self._move(ClientState.BACK)
            self._settle_timer = self._loop.call_later(JITTER_SETTLE_S, self._settled)
            if lost:
                self._changed("reconnected", "")

    def _settled(self) -> None:
        self._settle_timer = None
        if self.state is not ClientState.BACK:
            return
        if self._loop.time() - self._seen_at > JITTER_SETTLE_S / 2 and not self.muted:
            self._move(ClientState.SILENT)  # it was back only for a moment
            return
        self._move(ClientState.THERE)
        if self._hold is not None:
            self._hold.release()

    async def _watch(self) -> None:
        while True:
            due = self._loop.time() + WATCH_S
            await asyncio.sleep(WATCH_S)
            if self._loop.time() - due <= WATCH_S:  # else the loop was blocked, and packets may be unread
                packets = await self._packets_received()
                if packets != self._packets:
                    self._packets = packets
                    self.sign_of_life()
                self._look(self._loop.time())

    def _look(self, now: float) -> None:
        quiet_s = now - self._seen_at
        if self.state is ClientState.LOST:
            if now - self._lost_at >= self._reconnect_s:
                self._gone("client lost")
            return
        if quiet_s >= self._lost_s:
            self._lose(f"nothing heard for {self._lost_s:g} s")
        elif quiet_s >= STALLED_S and not self.muted and self.state is ClientState.THERE:
            self._move(ClientState.SILENT)
            self.hold_speech()
        if (missing_s := now - self._fed_at) >= STALLED_S:
            # A caller who is muted or cut off is silent, so that their turn can end.
            self._fill(missing_s)

    def _lose(self, reason: str) -> None:
        self._move(ClientState.LOST)
        self._lost_at = self._loop.time()
        self.hold_speech()
        self._changed("lost", reason)

    def hold_speech(self) -> None:
        """Put the agent's speech on hold if the client is away and there is a session: see `Floor.hold`."""
        if self.away and (self._hold is None or not self._hold.out) and (floor := self._floor()) is not None:
            # No expiry: the client comes back, or the call ends after `reconnect_s`.
            self._hold = floor.hold(LOST_CLIENT, patience_s=None, lasting=True)


class ConfirmedVoice:
    """The agent's audio on its way to one client. A sign of life of the client confirms that audio was played.

    Audio that left within `AHEAD_OF_EAR_S` before the sign of life is not confirmed by it.
    """

    def __init__(self, voice: Voice, presence: Presence) -> None:
        self.gone = False
        """True once the client has gone for good, and plays nothing more."""
        self._voice, self._presence = voice, presence
        self._confirmed = 0  # samples since `clear`
        self._left: deque[tuple[float, int]] = deque()  # (loop time, samples that had left then)

    def write(self, chunk: bytes) -> None:
        """Queue 20 ms of audio to be sent."""
        self._voice.write(chunk)

    def clear(self) -> int:
        """Drop the audio that has not left. If the client is away, also drop the audio that it may not have received.

        Returns the number of samples that it has received.
        """
        left = self._voice.clear()
        got = min(self._confirmed, left) if self._presence.away or self.gone else left
        self._confirmed = 0
        self._left.clear()
        return got

    def position(self) -> int:
        """Return the number of samples that the client has surely played."""
        return self._confirmed

    def sign_of_life(self, now: float) -> None:
        """Record a sign of life of the client at loop time `now`."""
        self._left.append((now, self._voice.left))
        while self._left[0][0] <= now - AHEAD_OF_EAR_S:
            self._confirmed = self._left.popleft()[1]

    def packet_left(self) -> None:
        """Record that a packet has left. A muted client cannot confirm it, and counts as hearing it at once."""
        if self._presence.muted and not self._presence.away:
            self._confirmed = self._voice.left
