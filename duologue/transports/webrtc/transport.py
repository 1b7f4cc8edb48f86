"""`WebRTCTransport`: a call from a browser or a gateway, with audio both ways and messages on a data channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import BadInput, IllegalState
from ..client import OUTPUT_SAMPLE_RATE, ClientTransport, Message, Words
from ..playout.base import AudioSink, PlayoutSettings
from .audio import JitterBuffer, Voice, VoiceTrack
from .messages import IncomingMessages, OutgoingMessages, TooManyMessages
from .peer import Peer, check_aiortc
from .presence import ClientState, ConfirmedVoice, Presence

log = logging.getLogger("duologue")

LINGER_S = 0.2
"""Seconds at the end of a call for the client to play its audio, and for the last messages to leave."""


class WebRTCTransport(ClientTransport):
    """Answers a client's offers, and provides the two ends of its call's pipeline.

    `accept` answers the first offer, `renegotiate` a further offer of the same connection, `restart` the offer of a new
    connection that goes on with the same call. `on_connected` is called when the client connects for the first time,
    `on_abandoned` with a reason if it has not connected after `connect_s` seconds.

    A client without a sign of life for `lost_s` seconds is lost (`ClientChanged`). It may come back within
    `reconnect_s`; meanwhile the agent's speech is on hold. Audio counts as heard if it left before the client's last
    sign of life.

    With `public_candidates_only` the client's addresses in private networks are not tried.

    Messages of the client are dropped with an error message if they are not JSON objects or are longer than
    `message_bytes`; a client that sends more than `messages_per_s` is cut off. Messages to the client wait for the data
    channel. New messages are dropped while `MAX_UNSENT_BYTES` of earlier messages have not been taken.
    """

    kind = "webrtc"

    def __init__(
        self,
        id: str,
        *,
        identity: Any = None,
        data: Any = None,
        ice_servers: Sequence[str] = (),
        public_candidates_only: bool = False,
        connect_s: float = 15.0,
        lost_s: float = 5.0,
        reconnect_s: float = 10.0,
        message_bytes: int = 256 * 1024,
        messages_per_s: int = 500,
        bytes_per_s: int = 1024 * 1024,
        words: Words | None = None,
        settings: PlayoutSettings | None = None,
    ) -> None:
        check_aiortc()
        super().__init__(
            id, identity=identity, data=data, words=words, output_sample_rate=OUTPUT_SAMPLE_RATE, settings=settings
        )
        self.on_connected: Callable[[], None] = lambda: None
        self.on_abandoned: Callable[[str], None] = lambda reason: None
        self._ice_servers, self._public_only = ice_servers, public_candidates_only
        self._connect_s = connect_s
        self._incoming = IncomingMessages(message_bytes, messages_per_s, bytes_per_s)
        self._outgoing = OutgoingMessages(id)
        self._loop = asyncio.get_running_loop()
        self._voice = Voice(OUTPUT_SAMPLE_RATE)
        self._presence = Presence(
            id,
            lost_s=lost_s,
            reconnect_s=reconnect_s,
            packets=lambda: _packets_received(self._peer),
            floor=lambda: self._output.session.floor if self._output.in_session else None,
            changed=self.changed,
            gone=self.hang_up,
            abandoned=lambda reason: self.on_abandoned(reason),
            fill=lambda seconds: self._heard(bytes(2 * int(seconds * self.input_sample_rate))),
        )
        self._confirmed = ConfirmedVoice(self._voice, self._presence)
        self._peer: Peer | None = None
        self._hearing: JitterBuffer | None = None
        self._negotiating = asyncio.Lock()
        self._closings: set[asyncio.Task[None]] = set()

    # -- negotiation -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> ClientState:
        """The state of the client."""
        return self._presence.state

    @property
    def connected(self) -> bool:
        """True while the client is connected and not lost."""
        return self._presence.connected

    async def accept(self, sdp: str, type: str = "offer") -> str:
        """Return the answer to the client's first offer. Raises BadInput if it cannot be answered."""
        async with self._negotiating:
            if self._peer is not None or self.state is ClientState.CLOSED:
                raise IllegalState(f"the connection {self.id!r} has had its offer already")
            answer = await self._new_peer(sdp, type)
            self._presence.expect(self._connect_s)
            return answer

    async def renegotiate(self, sdp: str, type: str = "offer") -> str:
        """Return the answer to a further offer on the same connection. Raises BadInput if it cannot be answered."""
        async with self._negotiating:
            return await self._current().answer(sdp, type)

    async def restart(self, sdp: str, type: str = "offer") -> str:
        """Return the answer to the offer of a new connection, which replaces the previous one. The call goes on.

        Raises BadInput, and changes nothing, if the offer cannot be answered.
        """
        async with self._negotiating:
            old = self._current()
            answer = await self._new_peer(sdp, type)
            self._close_peer(old)
            self._presence.switch()
            return answer

    def is_same_client(self, sdp: str) -> bool:
        """Return True for an offer of the connected client, and False for another client that knows the id."""
        return self._current().is_same(sdp)

    async def add_candidate(
        self, candidate: str, sdp_mid: str | None = None, sdp_mline_index: int | None = None
    ) -> None:
        """Add a candidate that the client sent after its offer; an empty candidate ends them. Raises BadInput."""
        await self._current().add_candidate(candidate, sdp_mid, sdp_mline_index)

    def _current(self) -> Peer:
        if self._peer is None or self.state is ClientState.CLOSED:
            raise IllegalState(f"the connection {self.id!r} is {self.state.value}")
        return self._peer

    async def _new_peer(self, sdp: str, type: str) -> str:
        hearing = JitterBuffer(self.input_sample_rate, self._heard, lambda: self._sign_of_life(peer, audio=True))
        peer = Peer(
            VoiceTrack(self._voice, self._confirmed.packet_left),
            hearing,
            ice_servers=self._ice_servers,
            public_candidates_only=self._public_only,
            on_state=self._peer_changed,
            on_message=lambda data: self._message_came(peer, data),
            on_channel=self._channel_opened,
        )
        try:
            answer = await peer.answer(sdp, type)
        except BaseException:
            self._close_peer(peer)
            raise
        if self.state is ClientState.CLOSED:
            self._close_peer(peer)
            raise IllegalState(f"the connection {self.id!r} was closed")
        self._peer, self._hearing = peer, hearing
        return answer

    def _close_peer(self, peer: Peer) -> None:
        task = self._loop.create_task(peer.close(), name=f"close peer of {self.id}")
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    # -- whether the client is there -------------------------------------------------------------------------------

    def started(self) -> None:
        """Called when the session runs."""
        self._presence.hold_speech()
        super().started()

    def _peer_changed(self, peer: Peer, state: str) -> None:
        if peer is not self._peer or self.state is ClientState.CLOSED:
            return
        if state == "connected":
            self._sign_of_life(peer)
            if self.state is ClientState.NEW:
                self._presence.connect()
                self.on_connected()
        else:
            self._presence.fail(closed=state == "closed")

    def _sign_of_life(self, peer: Peer, *, audio: bool = False) -> None:
        if peer is self._peer:  # not a connection that was replaced
            self._presence.sign_of_life(audio=audio)
            self._confirmed.sign_of_life(self._loop.time())

    def hang_up(self, reason: str = "client disconnected") -> None:
        """End the call once earlier input has been handled: the client has gone, and hears nothing from now on."""
        if not self.hung_up:
            self._presence.stop()
            self._confirmed.gone = True
            super().hang_up(reason)

    # -- audio -----------------------------------------------------------------------------------------------------

    def audio_sink(self) -> AudioSink:
        """Return the sink of the agent's audio, which counts as played once the client has confirmed it."""
        return self._confirmed

    def use_input_rate(self, sample_rate: int) -> None:
        """Convert the caller's audio to this rate from now on."""
        if self._hearing is not None:
            self._hearing.use_rate(sample_rate)
        super().use_input_rate(sample_rate)

    def _heard(self, pcm: bytes) -> None:
        self._presence.fed()
        self.feed(pcm, self.input_sample_rate)

    # -- messages --------------------------------------------------------------------------------------------------

    @property
    def dropped_messages(self) -> int:
        """Number of messages to the client that were dropped."""
        return self._outgoing.dropped

    def send_message(self, message: Message) -> None:
        """Send a JSON object on the data channel. It is kept until the channel is open."""
        if self.state is not ClientState.CLOSED and not self.hung_up:
            self._outgoing.send(message, self._peer)

    def _say(self, message: Message | None) -> None:
        if message is not None:
            self.send_message(message)

    def _channel_opened(self, peer: Peer) -> None:
        if peer is self._peer:
            self._outgoing.channel_opened(peer)

    def _message_came(self, peer: Peer, data: str | bytes) -> None:
        self._sign_of_life(peer)
        if self.hung_up or self.state is ClientState.CLOSED:
            return
        try:
            message = self._incoming.read(data, self._loop.time())
        except BadInput as error:
            self._say(self.words.error(str(error)))
            return
        except TooManyMessages as error:
            self.cut_off(str(error))
            return
        if message is not None:
            self.received_message(message)

    def cut_off(self, reason: str) -> None:
        """Tell the client the reason, and end the call."""
        if not self.hung_up:
            self._say(self.words.error(reason))
            self.hang_up(reason)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection. Closing twice is harmless."""
        if self.state is not ClientState.CLOSED:
            there = self.connected and not self.hung_up
            if there:
                self._say(self.words.end(reason))
            self._presence.close()
            if there and self._peer is not None:
                await asyncio.sleep(LINGER_S)
            if self._peer is not None:
                self._close_peer(self._peer)
        if self._closings:
            await asyncio.wait(self._closings)


async def _packets_received(peer: Peer | None) -> int:
    return await peer.packets_received() if peer is not None else 0
