"""`WebRTCClient`: a WebRTC client for tests that calls as a browser does, and keeps the audio that it receives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

from ..audio.pcm import downmix
from ..errors import DeadlineExceeded, DuologueError, MissingExtra

try:
    import av
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
    from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
except ImportError as error:
    raise MissingExtra("WebRTC", "webrtc", str(error)) from error

from ..transports.webrtc.peer import close_connection, guard_sending

Json = dict[str, Any]
SendRequest = Callable[[str, str, Json], Awaitable[Any]]
"""`await request(method, path, body)` sends an HTTP request and returns the answer's JSON. Raises if it is refused."""

HEARD_RATE = 48_000
PACKET_S = 0.02
PING_S = 1.0
MAX_HEARD_S = 600.0
"""Seconds of audio that a client keeps; beyond that the oldest is dropped."""
DEADLINE_S = 60.0
"""The longest wait of a test, in seconds."""


class Microphone(MediaStreamTrack):
    """The client's audio in real time: mono s16le at `sample_rate`, and silence without audio."""

    kind = "audio"

    def __init__(self, sample_rate: int = 16_000) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.said = 0
        """The number of samples sent, silence included."""
        self._pcm = bytearray()
        self._began: float | None = None
        self._paused = False

    def say(self, pcm: bytes) -> None:
        """Append audio."""
        self._pcm += pcm

    def pause(self) -> None:
        """Stop sending, silence included."""
        self._paused = True

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms when they are due."""
        if self._paused:
            await asyncio.get_running_loop().create_future()
        if self.readyState != "live":
            raise MediaStreamError
        count = self.sample_rate // 50
        now = time.monotonic()
        if self._began is None:
            self._began = now
        await asyncio.sleep(max(0.0, self._began + self.said / self.sample_rate - now))
        frame = av.AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(bytes(self._pcm[: 2 * count]).ljust(2 * count, b"\0"))
        del self._pcm[: 2 * count]
        frame.sample_rate, frame.pts, frame.time_base = self.sample_rate, self.said, Fraction(1, self.sample_rate)
        self.said += count
        return frame


class WebRTCClient:
    """A client with small-webrtc's signalling or FastRTC's. It needs real time.

        async with WebRTCClient(request) as client:
            client.microphone.say(pcm)
            await client.send({"type": …})
            await client.until(lambda message: message["type"] == "bot-ready")
            client.heard     # [(arrival, s16le mono at 48 kHz)]

    `codecs` are the names of the audio codecs that it offers, by default all.
    `request` sends an HTTP request to the server. Methods that wait raise DeadlineExceeded after 10 s.
    """

    def __init__(
        self,
        request: SendRequest,
        *,
        path: str = "/api/offer",
        signalling: Literal["small", "fastrtc"] = "small",
        id: str = "client",
        data: Any = None,
        microphone: Microphone | None = None,
        pings: bool = True,
        listen: bool = True,
        channel: bool = True,
        codecs: Sequence[str] = (),
    ) -> None:
        self.microphone = microphone or Microphone()
        self.messages: list[Json] = []
        """All messages of the data channel."""
        self.heard: deque[tuple[float, bytes]] = deque(maxlen=int(MAX_HEARD_S / PACKET_S))
        """Pieces of 20 ms of audio, each with the time of its arrival (`time.monotonic`)."""
        self.heard_rate = HEARD_RATE
        """The sample rate of these pieces in Hz: 8,000 if the server sends G.711."""
        self.places: deque[int] = deque(maxlen=self.heard.maxlen)
        """The number of each of these pieces among the sent pieces: numbers of lost pieces are missing."""
        self.id = id if signalling == "fastrtc" else ""
        """The server's id of this connection."""
        self._request, self._path, self._signalling, self._data = request, path, signalling, data
        self._codecs = {f"audio/{codec}" for codec in codecs}
        self._pings, self._listens, self._has_channel = pings, listen, channel
        self._pc: RTCPeerConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._channel: Any = None

    async def __aenter__(self) -> WebRTCClient:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def state(self) -> str:
        """The state of the peer connection."""
        return self._pc.connectionState if self._pc is not None else "new"

    async def offer(self, *, restart: bool = False) -> Json:
        """Begin a connection. Returns the body of its first request."""
        self._pc = pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        audio = pc.addTransceiver(self.microphone, direction="sendrecv")
        if self._codecs:
            known = RTCRtpSender.getCapabilities("audio").codecs
            audio.setCodecPreferences([codec for codec in known if codec.mimeType in self._codecs])
        label = "chat"
        if self._signalling == "small":
            pc.addTransceiver("video", direction="sendrecv")
        else:
            label = "text"
        if self._has_channel:
            self._channel = pc.createDataChannel(label)
            self._channel.on("message", self._message_came)
            self._channel.on("open", self._wake)
        pc.on("track", self._track_came)
        pc.on("connectionstatechange", self._wake)
        await pc.setLocalDescription(await pc.createOffer())
        body: Json = {"sdp": pc.localDescription.sdp, "type": "offer"}
        if self._signalling == "fastrtc":
            return {**body, "webrtc_id": self.id}
        body |= {"pc_id": self.id or None, "restart_pc": restart}
        return body if self._data is None else {**body, "requestData": self._data}

    async def take(self, answer: Json) -> None:
        """Take the server's answer. Raises DuologueError for a refusal in FastRTC's form."""
        if answer.get("status") == "failed":
            raise DuologueError(f"refused: {answer['meta']}")
        self.id = answer.get("pc_id", self.id)
        assert self._pc is not None
        await self._pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        guard_sending(self._pc)

    async def connect(self, *, restart: bool = False) -> None:
        """Call, and wait until audio and messages can flow. Errors of `request` are passed on."""
        before, tasks = self._pc, self._tasks
        self._tasks = []
        try:
            answer = await self._request("POST", self._path, await self.offer(restart=restart))
            await self.take(answer)
            await self.wait_for(lambda: self.state in ("connected", "failed", "closed"), "the connection")
            if self.state != "connected":
                raise DuologueError(f"the connection is {self.state}")
            if self._has_channel:
                await self.wait_for(lambda: self._channel.readyState == "open", "the data channel")
        except BaseException:
            await self.close()
            raise
        finally:
            for task in tasks:
                task.cancel()
            if before is not None:
                await close_connection(before)
        if self._pings and self._has_channel:
            self._tasks.append(asyncio.create_task(self._ping(), name="pings"))

    async def restart(self) -> None:
        """Open a new peer connection for the same call, with the rest of the microphone's audio."""
        self.microphone = _again(self.microphone)
        await self.connect(restart=True)

    async def renegotiate(self) -> None:
        """Send another offer on the same connection."""
        assert self._pc is not None
        await self._pc.setLocalDescription(await self._pc.createOffer())
        body = {"sdp": self._pc.localDescription.sdp, "type": "offer", "pc_id": self.id, "restart_pc": False}
        await self.take(await self._request("POST", self._path, body))

    def send(self, message: Any) -> None:
        """Send a message: a string unchanged, anything else as JSON."""
        self._channel.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def flush(self) -> None:
        """Wait until the network has taken the messages that were sent.

        A sender that is faster than its network fills the buffers of the machine: it loses packets, and in the end
        the connection.
        """
        while self._channel.bufferedAmount:
            await asyncio.sleep(0.001)

    async def until(self, wanted: Callable[[Json], bool], what: str = "a message") -> Json:
        """Return the first message, past or future, for which `wanted` returns True."""
        found: list[Json] = []

        def look() -> bool:
            found[:] = [message for message in self.messages if wanted(message)][:1]
            return bool(found)

        await self.wait_for(look, what)
        return found[0]

    async def wait_for(self, condition: Callable[[], bool], what: str = "", within_s: float = DEADLINE_S) -> None:
        """Wait until `condition` returns True. It is called after each message and each piece of audio."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"{what or 'the condition'} did not come within {within_s:g} s") from None

    def heard_pcm(self, since: float = 0.0) -> bytes:
        """Return the audio since a time: mono s16le at 48 kHz."""
        return b"".join(pcm for at, pcm in self.heard if at >= since)

    def cut(self) -> None:
        """Cut the network: packets no longer pass in either direction, and neither end notices."""
        self.degrade(loss=1.0)

    def degrade(self, *, loss: float = 0.0, jitter_s: float = 0.0, seed: int = 0) -> None:
        """Lose a fraction of the packets in both directions, and delay each of the others by up to `jitter_s`."""
        self.mend()
        rng, loop = random.Random(seed), asyncio.get_running_loop()

        def through(transport: Any, deliver: Callable[..., None]) -> Callable[..., None]:
            def arrive(*args: Any) -> None:
                if not transport.is_closing():
                    deliver(*args)

            def leave(*args: Any) -> None:
                if rng.random() >= loss:
                    loop.call_later(rng.random() * jitter_s, arrive, *args)

            return leave

        for protocol in self._protocols():
            transport = protocol.transport
            transport.sendto = through(transport, transport.sendto)
            protocol.datagram_received = through(transport, protocol.datagram_received)

    def mend(self) -> None:
        """Undo `cut` or `degrade`. Lost packets stay lost."""
        for protocol in self._protocols():
            vars(protocol.transport).pop("sendto", None)
            vars(protocol).pop("datagram_received", None)

    def _protocols(self) -> list[Any]:
        assert self._pc is not None
        ice = {transceiver.receiver.transport.transport for transceiver in self._pc.getTransceivers()}
        return [protocol for transport in ice for protocol in transport._connection._protocols]

    async def close(self) -> None:
        """Hang up. Closing twice is harmless."""
        self._stop_tasks()
        if self._pc is not None:
            await close_connection(self._pc)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _ping(self) -> None:
        while self._channel.readyState == "open":
            self._channel.send(f"ping: {time.time_ns() // 1_000_000}")
            await asyncio.sleep(PING_S)

    def _message_came(self, data: str | bytes) -> None:
        self.messages.append(json.loads(data))
        self._wake()

    def _track_came(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._listens:
            self._tasks.append(asyncio.create_task(self._listen(track), name="listening"))

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                pcm = bytes(frame.planes[0])
                channels = len(frame.layout.channels)
                pcm = pcm[: 2 * channels * frame.samples]
                self.heard.append((time.monotonic(), pcm if channels == 1 else downmix(pcm, channels)))
                self.heard_rate = frame.sample_rate
                self.places.append(round(frame.pts / (HEARD_RATE * PACKET_S)))
                self._wake()

    def _wake(self) -> None:
        self._news.set()


def _again(microphone: Microphone) -> Microphone:
    """Return a new microphone with the rest of the audio, because a track ends with its connection."""
    new = Microphone(microphone.sample_rate)
    new.say(bytes(microphone._pcm))
    return new
