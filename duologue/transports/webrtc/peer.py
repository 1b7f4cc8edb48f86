"""`Peer`: an RTCPeerConnection that answers a client's offers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import BadInput, ConfigurationError, MissingExtra
from ...images.addresses import is_public_ip

try:
    import aiortc
    from aiortc import (
        RTCCertificate,
        RTCConfiguration,
        RTCDtlsTransport,
        RTCIceServer,
        RTCIceTransport,
        RTCPeerConnection,
        RTCRtpReceiver,
        RTCRtpSender,
        RTCSessionDescription,
        RTCTransportStats,
    )
    from aiortc.rtcdtlstransport import RTCDtlsFingerprint
    from aiortc.sdp import candidate_from_sdp
except ImportError as error:
    raise MissingExtra("WebRTC", "webrtc", str(error)) from error

from ..client import byte_size
from .audio import JitterBuffer, VoiceTrack
from .codecs import RTP_RATES, CodecName, offered_codec
from .sdp import fingerprints, has_bundle, has_fingerprint

log = logging.getLogger("duologue")

MAX_SDP = 32 * 1024
"""Characters of an offer: an offer is parsed in the event loop."""
MAX_MEDIA = 8
"""Media sections that an offer may have. Each takes sockets until they are bundled."""
MAX_ADDRESSES = 20
"""Addresses of a client that are tried over the whole connection, from its offers and later. Others are ignored.

The server sends packets to each of them, and they may belong to others."""
MAX_PEER_CANDIDATES = 100
"""Candidates that a client may send after its offer."""
MAX_UNSENT_BYTES = 1024 * 1024
"""Bytes of messages that wait for the client to take them. Beyond that new messages are dropped."""
CHECKS_S = 0.03
HANDSHAKE_LOOKS = 10
CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"
)
"""aiortc's suites, and those for clients whose certificate is RSA, such as GStreamer."""
PEER_CLOSE_S = 3.0
"""Seconds within which a connection must be closed."""


@functools.cache
def check_aiortc() -> None:
    """Check that the installed aiortc has the private attributes that are used here.

    Raises ConfigurationError, naming the package, its version and the attribute, if one is missing.
    """
    attributes: list[tuple[type, str]] = [
        (RTCRtpReceiver, "_RTCRtpReceiver__jitter_buffer"),
        (RTCIceTransport, "_connection"),
        (RTCPeerConnection, "_RTCPeerConnection__certificates"),
        (RTCCertificate, "_create_ssl_context"),
        (RTCDtlsTransport, "_send_data"),
    ]
    for owner, attribute in attributes:
        if attribute not in vars(owner) and attribute not in owner.__init__.__code__.co_names:  # type: ignore[misc]
            raise ConfigurationError(
                f"WebRTC cannot be used with aiortc {aiortc.__version__}: its {owner.__name__} has no "
                f"attribute {attribute}. Install a version that has it, such as aiortc 1.16"
            )


class Certificate(RTCCertificate):
    """A certificate that more clients accept than aiortc's own."""

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:  # noqa: N802 - aiortc's name
        """Return one fingerprint: libdatachannel often refuses a certificate that has several."""
        return [one for one in super().getFingerprints() if one.algorithm == "sha-256"]

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> Any:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context


class Peer:
    """Answers offers. `on_state` receives the connection's state: "connected", "failed" or "closed" (by the client).

    `on_message` receives the messages on the first data channel, `on_channel` is called when that channel is open.
    """

    def __init__(
        self,
        track: VoiceTrack,
        hearing: JitterBuffer,
        *,
        ice_servers: Sequence[str] = (),
        public_candidates_only: bool = False,
        on_state: Callable[[Peer, str], None],
        on_message: Callable[[str | bytes], None],
        on_channel: Callable[[Peer], None],
    ) -> None:
        # Not None, which means a public STUN server.
        servers = [RTCIceServer(urls=list(ice_servers))] if ice_servers else []
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._pc._RTCPeerConnection__certificates = [Certificate.generateCertificate()]  # type: ignore[attr-defined]
        _guard_connecting(self._pc)
        self._track, self._hearing, self._public_only = track, hearing, public_candidates_only
        self._addresses: set[tuple[str, str]] = set()
        self._on_state, self._on_message, self._on_channel = on_state, on_message, on_channel
        self._channel: Any = None
        self._fingerprints: set[str] = set()
        self._candidates = 0
        self._answering: asyncio.Task[str] | None = None
        self._closing = False
        self._audio = self._pc.addTransceiver(track, direction="sendrecv")
        self._codec: CodecName | None = None
        hearing.install(self._audio.receiver)
        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("datachannel", self._channel_opened)

    async def answer(self, sdp: str, type: str) -> str:
        """Return the answer to an offer, with all our candidates. Raises BadInput if it cannot be answered."""
        if type != "offer":
            raise BadInput(f"type is {type!r}: an offer is wanted")
        if len(sdp) > MAX_SDP:
            raise BadInput(f"the offer has {len(sdp)} characters: at most {MAX_SDP} are taken")
        if sdp.count("\nm=") > MAX_MEDIA:
            raise BadInput(f"the offer has {sdp.count(chr(10) + 'm=')} media sections: at most {MAX_MEDIA} are taken")
        if "\nm=audio" not in sdp:
            raise BadInput("the offer has no audio")
        if not has_bundle(sdp):
            raise BadInput("the offer's BUNDLE group begins with a media section that it does not have")
        if self._codec is None:
            self._use_codec(sdp)
        if not has_fingerprint(sdp):
            raise BadInput("the offer's audio has no fingerprint")
        # In its own task: a client that withdraws its request must not leave sockets half open.
        self._answering = asyncio.get_running_loop().create_task(self._answer(sdp, type))
        return await asyncio.shield(self._answering)

    async def _answer(self, sdp: str, type: str) -> str:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(self._with_few_addresses(sdp), type))
            for transceiver in self._pc.getTransceivers():
                if transceiver is not self._audio:
                    transceiver.direction = "inactive"
            await self._pc.setLocalDescription(await self._pc.createAnswer())
        except Exception as error:  # the parser raises any error for a malformed line
            raise BadInput(f"the offer cannot be answered: {type_name(error)}: {error}") from error
        guard_sending(self._pc)
        self._fingerprints = fingerprints(sdp)
        return str(self._pc.localDescription.sdp)

    def _use_codec(self, sdp: str) -> None:
        """Use the best codec of the first offer, alone: a client cannot change to another one in mid-call."""
        codec = offered_codec(sdp)
        if codec is None:
            raise BadInput(f"the offer's audio has none of the codecs {', '.join(RTP_RATES)}")
        self._codec = self._track.codec = codec
        self._hearing.use_codec(codec)
        known = RTCRtpSender.getCapabilities("audio").codecs
        self._audio.setCodecPreferences([each for each in known if each.mimeType == f"audio/{codec}"])

    def _with_few_addresses(self, sdp: str) -> str:
        """Return an offer without the candidates that are not tried."""
        lines = sdp.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("a=candidate:") or self._tries(line))

    def _tries(self, candidate: str) -> bool:
        """Return True for a candidate whose address is tried, or which is malformed."""
        parts = candidate.split()
        if len(parts) < 8:
            return True
        address = (parts[4], parts[5])
        if address in self._addresses:
            return True
        if parts[2].lower() != "udp" or (self._public_only and not is_public_ip(parts[4])):
            return False
        if len(self._addresses) >= MAX_ADDRESSES:
            return False
        self._addresses.add(address)
        return True

    def is_same(self, sdp: str) -> bool:
        """Return True for an offer of the client of this connection."""
        return fingerprints(sdp) == self._fingerprints

    async def add_candidate(self, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None) -> None:
        """Add a candidate of the client; an empty candidate ends them. Raises BadInput for a malformed candidate."""
        self._candidates += 1
        if self._candidates > MAX_PEER_CANDIDATES:
            raise BadInput(f"more than {MAX_PEER_CANDIDATES} candidates")
        text = candidate.removeprefix("a=").removeprefix("candidate:").strip()
        try:
            if not text:
                await self._pc.addIceCandidate(None)
                return
            if not self._tries(text):
                return
            parsed = candidate_from_sdp(text)
            parsed.sdpMid, parsed.sdpMLineIndex = sdp_mid, sdp_mline_index
            await self._pc.addIceCandidate(parsed)
        except (AssertionError, ValueError, IndexError) as error:
            raise BadInput(f"candidate {text[:100]!r} cannot be used: {error}") from error

    async def packets_received(self) -> int:
        """Return the number of packets from the client: audio, messages and reports."""
        stats = await self._audio.receiver.getStats()
        return sum(each.packetsReceived for each in stats.values() if isinstance(each, RTCTransportStats))

    @property
    def can_send(self) -> bool:
        """True while there is an open data channel."""
        return self._channel is not None and self._channel.readyState == "open"

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be sent on the data channel."""
        return int(self._channel.bufferedAmount) if self.can_send else 0

    def send(self, text: str) -> bool:
        """Send a message. Returns False if too much waits already, or if the message is too long for the client."""
        if self.unsent_bytes + byte_size(text) > MAX_UNSENT_BYTES:
            return False
        try:
            self._channel.send(text)
        except ValueError:  # too long for the client
            return False
        return True

    async def close(self) -> None:
        """Close the connection, within `PEER_CLOSE_S`. Closing twice is harmless."""
        self._closing = True
        if self._answering is not None:
            await asyncio.gather(self._answering, return_exceptions=True)
        await close_connection(self._pc)

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if not self._closing and state in ("connected", "failed", "closed"):
            self._on_state(self, state)

    def _channel_opened(self, channel: Any) -> None:
        if self._channel is not None and self._channel.readyState == "open":
            return  # only the first channel is used
        self._channel = channel
        channel.on("message", self._on_message)
        self._on_channel(self)


async def close_connection(pc: RTCPeerConnection) -> None:
    """Close a peer connection within `PEER_CLOSE_S`, with the tasks that aioice leaves if it was connecting."""
    connecting = pc.connectionState in ("new", "connecting")
    for _ in range(HANDSHAKE_LOOKS):  # closing during the handshake would make aiortc's task fail
        if pc.connectionState != "connecting" or pc.iceConnectionState != "completed":
            break
        await asyncio.sleep(CHECKS_S)
    lower = [transceiver.receiver.transport for transceiver in pc.getTransceivers()]
    transports = {transport.transport for transport in lower if transport is not None}
    try:
        await asyncio.wait_for(pc.close(), PEER_CLOSE_S)
    except TimeoutError:
        log.warning("a peer connection could not be closed in %g s", PEER_CLOSE_S)
    except Exception as error:  # aiortc raises several for a connection whose offer made no sense
        log.warning("a peer connection was not closed as it should be: %s", type_name(error))
        for transport in transports:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(transport.stop(), PEER_CLOSE_S)
    if connecting:
        # The connecting task checks every 20 ms, and may have begun its consent checks before it sees the end.
        await asyncio.sleep(CHECKS_S)
        for transport in transports:
            await transport._connection.close()


def _guard_connecting(pc: RTCPeerConnection) -> None:
    """Log the failure of a task of aiortc's, whose exception nobody retrieves: a section that cannot be connected."""
    connect = pc._RTCPeerConnection__connect  # type: ignore[attr-defined]

    async def guarded() -> None:
        try:
            await connect()
        except Exception as error:
            log.info("a media section of an offer could not be connected: %s", type_name(error))

    pc._RTCPeerConnection__connect = guarded  # type: ignore[attr-defined]


def guard_sending(pc: RTCPeerConnection) -> None:
    """Drop messages for a client that has gone: aiortc sends them in tasks whose exception nobody retrieves."""
    transport = pc.sctp.transport if pc.sctp is not None else None
    if transport is None or "_send_data" in vars(transport):
        return
    send = transport._send_data

    async def guarded(data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await send(data)

    transport._send_data = guarded  # type: ignore[method-assign]


def type_name(error: Exception) -> str:
    """Return the name of an error's type."""
    return type(error).__name__
