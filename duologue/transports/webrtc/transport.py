"""`WebRTCTransport`: a call from a browser, with Opus both ways and messages on a data channel."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ...errors import BadInput, IllegalState
from ..client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE, ClientTransport
from ..playout.base import PlayoutBase
from ..playout.playout import PlayoutSettings
from ..words import Message, Words, byte_size
from .audio import JitterBuffer, Voice, VoiceTrack
from .peer import Peer

log = logging.getLogger("duologue")

STALLED_S = 1.0
"""A client that has sent nothing for so long is not spoken to: what it may not have heard is said again."""
MUTED_S = 0.5
"""A client of which other things have come, but no audio for so long, is muted: these do not time what it hears."""
AHEAD_OF_EAR_S = 0.1
"""How long audio waits in a client's jitter buffer: what is in there when the network is cut may never be played."""
SETTLE_S = 0.4
"""A client that is back gets silence for so long, so that its jitter buffer has settled when the speech goes on."""
WATCH_S = 0.25
"""How often the connection is looked at."""
BURST_S = 3.0
"""A client may send the messages of so long at once."""
MAX_WAITING = 1_000
"""Messages that wait for the data channel. Beyond that the oldest are dropped."""
LINGER_S = 0.2
"""At the end of a call, for what the client has got to be heard, and the last messages to leave."""

State = Literal["new", "connected", "lost", "closed"]


class WebRTCTransport(ClientTransport):
    """Answers a client's offers, and is the two ends of its call's pipeline.

    `accept` answers the first offer, `renegotiate` further ones of the same connection, `restart` one of a new
    connection that goes on with the same call. `on_connected` is called when the client is connected first,
    `on_abandoned` with a reason when it never will be: after `connect_s`.

    A client from which nothing has come for `lost_s` is lost (`ClientChanged`). It may come back for `reconnect_s`;
    meanwhile the agent's speech waits. What was heard is what had left when the client last gave a sign of life.

    Messages of the client are dropped with an error message if they are no JSON objects or longer than
    `message_bytes`; a client that sends more than `messages_per_s` is cut off. Messages to the client wait for the data
    channel; those for which there is no room (`MAX_UNSENT_BYTES`), because the client does not take them, are dropped.
    """

    kind = "webrtc"

    def __init__(
        self,
        id: str,
        *,
        identity: Any = None,
        data: Any = None,
        ice_servers: Sequence[str] = (),
        connect_s: float = 15.0,
        lost_s: float = 5.0,
        reconnect_s: float = 10.0,
        message_bytes: int = 256 * 1024,
        messages_per_s: int = 500,
        words: Words | None = None,
        settings: PlayoutSettings | None = None,
    ) -> None:
        super().__init__(
            id, identity=identity, data=data, words=words, output_sample_rate=OUTPUT_SAMPLE_RATE, settings=settings
        )
        self.on_connected: Callable[[], None] = _nothing
        self.on_abandoned: Callable[[str], None] = _ignore
        self.dropped_messages = 0
        """Messages to the client that were dropped."""
        self._ice_servers = ice_servers
        self._connect_s, self._lost_s, self._reconnect_s = connect_s, lost_s, reconnect_s
        self._message_bytes, self._messages_per_s = message_bytes, messages_per_s
        self._allowance = messages_per_s * BURST_S
        self._loop = asyncio.get_running_loop()
        self._voice = Voice(OUTPUT_SAMPLE_RATE)
        self._peer: Peer | None = None
        self._negotiating = asyncio.Lock()
        self._closings: set[asyncio.Task[None]] = set()
        self._state: State = "new"
        self._timer: asyncio.TimerHandle | None = None
        self._seen_at = self._heard_at = self._fed_at = self._message_at = self._loop.time()
        self._lost_at = 0.0
        self._switching = False  # a new connection takes the place of the old one
        self._packets = 0  # that have come from the client
        self._held = False  # the speech waits for the client
        self._resuming: asyncio.TimerHandle | None = None
        self._left: deque[tuple[float, int]] = deque()  # signs of life, and how many samples had left then
        self._confirmed = 0  # samples that had left when the client last gave a sign of life, and were played since
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)

    # -- negotiation -----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the client is there."""
        return self._state == "connected"

    async def accept(self, sdp: str, type: str = "offer") -> str:
        """The answer to the client's first offer. Raises BadInput if it cannot be answered."""
        async with self._negotiating:
            if self._peer is not None or self._state == "closed":
                raise IllegalState(f"the connection {self.id!r} has had its offer already")
            answer = await self._new_peer(sdp, type)
            self._timer = self._loop.call_later(self._connect_s, self._too_late)
            return answer

    async def renegotiate(self, sdp: str, type: str = "offer") -> str:
        """The answer to a further offer on the same connection. Raises BadInput if it cannot be answered."""
        async with self._negotiating:
            return await self._current().answer(sdp, type)

    async def restart(self, sdp: str, type: str = "offer") -> str:
        """The answer to the offer of a new connection, which takes the place of the one before; the call goes on.

        Raises BadInput, and leaves everything as it was, if it cannot be answered.
        """
        async with self._negotiating:
            old = self._current()
            answer = await self._new_peer(sdp, type)
            self._close_peer(old)
            self._switching, self._packets = True, 0
            self._lost_at = self._loop.time()
            if self._state == "connected":
                self._hold()
            return answer

    def is_same_client(self, sdp: str) -> bool:
        """Whether an offer comes from the client that is connected, and not from another one that knows the id."""
        return self._current().is_same(sdp)

    async def add_candidate(
        self, candidate: str, sdp_mid: str | None = None, sdp_mline_index: int | None = None
    ) -> None:
        """A candidate of the client's that came after its offer; an empty one ends them. Raises BadInput."""
        await self._current().add_candidate(candidate, sdp_mid, sdp_mline_index)

    def _current(self) -> Peer:
        if self._peer is None or self._state == "closed":
            raise IllegalState(f"the connection {self.id!r} is {self._state}")
        return self._peer

    async def _new_peer(self, sdp: str, type: str) -> str:
        peer = Peer(
            VoiceTrack(self._voice, self._sent),
            JitterBuffer(INPUT_SAMPLE_RATE, self._heard, self._packet_came),
            ice_servers=self._ice_servers,
            on_state=self._peer_changed,
            on_message=self._message_came,
            on_channel=self._channel_opened,
        )
        try:
            answer = await peer.answer(sdp, type)
        except BaseException:
            self._close_peer(peer)
            raise
        if self._state == "closed":
            self._close_peer(peer)
            raise IllegalState(f"the connection {self.id!r} was closed")
        self._peer = peer
        return answer

    def _close_peer(self, peer: Peer) -> None:
        task = self._loop.create_task(peer.close(), name=f"close peer of {self.id}")
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    # -- whether the client is there -------------------------------------------------------------------------------

    def _peer_changed(self, peer: Peer, state: str) -> None:
        if peer is not self._peer or self._state == "closed":
            return
        if state == "connected":
            self._switching = False
            self._sign_of_life()
            if self._state == "new":
                self._begin()
        elif self._state == "new":
            if state == "closed":  # one that failed may be tried again, until it is too late
                self._abandon("client disconnected")
        elif state == "closed" and self._state == "connected" and not self._held:
            self.hang_up("client disconnected")
        elif self._state == "connected":
            self._lose("the connection failed")

    def _begin(self) -> None:
        self._state, self._fed_at = "connected", self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._watch_again(self._loop.time())
        self.on_connected()

    def _too_late(self) -> None:
        self._abandon(f"not connected within {self._connect_s:g} s")

    def _abandon(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.on_abandoned(reason)

    def _watch_again(self, now: float) -> None:
        self._timer = self._loop.call_at(now + WATCH_S, self._watch, now + WATCH_S)

    def _watch(self, due: float) -> None:
        now = self._loop.time()
        self._watch_again(now)
        if now - due > WATCH_S:
            return  # we were busy: what the client has sent meanwhile is not read yet
        if self._peer is not None and (packets := self._peer.packets_received) != self._packets:
            self._packets = packets
            self._sign_of_life(ago_s=WATCH_S)
        quiet_s = now - self._seen_at
        if self._state == "lost":
            if now - self._lost_at >= self._reconnect_s:
                self.hang_up("client lost")
            elif not self._held:
                self._hold()
            return
        if quiet_s >= self._lost_s:
            self._lose(f"nothing heard for {self._lost_s:g} s")
        elif quiet_s >= STALLED_S and not self._muted:
            self._hold()
        if (missing_s := now - self._fed_at) >= STALLED_S:
            # A caller who is muted or cut off is silent: a turn of hers must be able to end.
            self._feed(bytes(2 * int(missing_s * INPUT_SAMPLE_RATE)), now)

    def _lose(self, reason: str) -> None:
        self._state, self._lost_at = "lost", self._loop.time()
        self._hold()
        self.changed("lost", reason)

    @property
    def _muted(self) -> bool:
        return self._seen_at - self._heard_at > MUTED_S

    def _packet_came(self) -> None:
        self._heard_at = self._loop.time()
        self._sign_of_life()

    def _sign_of_life(self, ago_s: float = 0.0) -> None:
        """The client is there, or was up to `ago_s` ago: then what left meanwhile may not have reached it."""
        if self._switching:
            return  # that was the old connection
        self._seen_at = self._loop.time()
        if not ago_s:
            self._left.append((self._seen_at, self._voice.left))
            while self._left[0][0] <= self._seen_at - AHEAD_OF_EAR_S:
                self._confirmed = self._left.popleft()[1]
        if self._held and self._resuming is None:
            self._resuming = self._loop.call_later(SETTLE_S, self._resume)
        if self._state == "lost":
            self._state = "connected"
            self.changed("reconnected")

    def _resume(self) -> None:
        self._resuming = None
        if self._loop.time() - self._seen_at > SETTLE_S:
            return  # it was there for a moment only
        self._held = False
        if (playout := self._playout) is not None:
            playout.resume()

    def _hold(self) -> None:
        """Take back what the client may not have heard, until it is back; again, if something else has let it go."""
        self._held = True
        playout = self._playout
        if playout is not None and not playout.paused and self._output.session.floor.agent_speaking:
            playout.pause()

    def hang_up(self, reason: str = "client disconnected") -> None:
        """The client has gone: it hears nothing any more; the call ends when what was said has been dealt with."""
        if self.hung_up:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().hang_up(reason)

    # -- audio -----------------------------------------------------------------------------------------------------

    @property
    def _playout(self) -> PlayoutBase | None:
        return self._output._playout

    def write_audio(self, chunk: bytes) -> None:
        """Send 20 ms of the agent's audio, when its turn comes."""
        self._voice.write(chunk)
        if self._held:
            self._loop.call_soon(self._hold_again)

    def _hold_again(self) -> None:
        if self._held and not self.hung_up:
            self._hold()

    def clear_audio(self) -> int:
        """Drop what has not left, or what the client may not have got. Returns how many samples it has got."""
        left = self._voice.clear()
        heard = min(self._confirmed, left) if self._held or self.hung_up else left
        self._confirmed = 0
        self._left.clear()
        return heard

    def audio_position(self) -> int:
        """How many samples had left when the client last gave a sign of life."""
        return self._confirmed

    def _sent(self) -> None:
        if self._muted and not self._held:
            self._confirmed = self._voice.left

    def _heard(self, pcm: bytes) -> None:
        self._feed(pcm, self._loop.time())

    def _feed(self, pcm: bytes, now: float) -> None:
        self._fed_at = now
        self.feed(pcm, INPUT_SAMPLE_RATE)

    # -- messages --------------------------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        """Send a JSON object on the data channel; wait for that, if it is not open yet."""
        if self._state == "closed" or self.hung_up:
            return
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        if self._peer is None or not self._peer.can_send:
            self.dropped_messages += len(self._waiting) == MAX_WAITING
            self._waiting.append(text)
        elif not self._peer.send(text):
            if not self.dropped_messages:
                log.warning("call %s: the client does not take its messages: some are dropped", self.id)
            self.dropped_messages += 1

    def _say(self, message: Message | None) -> None:
        if message is not None:
            self.send_message(message)

    def _channel_opened(self, peer: Peer) -> None:
        if peer is self._peer:
            waiting, self._waiting = self._waiting, deque(maxlen=MAX_WAITING)
            for text in waiting:
                self.dropped_messages += not peer.send(text)

    def _message_came(self, data: str | bytes) -> None:
        now = self._loop.time()
        self._sign_of_life()
        if self.hung_up or self._state == "closed":
            return
        rate = self._messages_per_s
        self._allowance = min(BURST_S * rate, self._allowance + (now - self._message_at) * rate) - 1
        self._message_at = now
        if self._allowance < 0:
            self._say(self.words.error(f"more than {rate} messages a second"))
            self.hang_up("client sends too many messages")
            return
        try:
            message = self._parse(data)
        except BadInput as error:
            self._say(self.words.error(str(error)))
            return
        if message is not None and message.get("type") != "signalling":
            self.received_message(message)

    def _parse(self, data: str | bytes) -> Message | None:
        """The JSON object, or None for a ping."""
        if (size := byte_size(data)) > self._message_bytes:
            raise BadInput(f"a message of {size} bytes: at most {self._message_bytes} are taken")
        if isinstance(data, str) and data.startswith("ping"):
            return None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadInput("a message is not JSON") from error
        if not isinstance(message, dict):
            raise BadInput(f"a message is no JSON object but {type(message).__name__}")
        return message

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection. Closing twice is harmless."""
        if self._state != "closed":
            there = self._state == "connected" and not self.hung_up
            if there:
                self._say(self.words.end(reason))
            self._state = "closed"
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if there and self._peer is not None:
                await asyncio.sleep(LINGER_S)
            if self._peer is not None:
                self._close_peer(self._peer)
        if self._closings:
            await asyncio.wait(self._closings)


def _nothing() -> None: ...


def _ignore(reason: str) -> None: ...
