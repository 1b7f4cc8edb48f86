"""Opus both ways: what the agent says as 20 ms packets, what the caller says as ordered PCM.

aiortc would encode 96 kb/s of stereo in a thread, and put the caller's packets through a buffer of 80 ms that grows to
320 ms with the first lost one. Here both are done in place: the sender takes packets that are encoded already, and
the receiver's buffer is replaced by `JitterBuffer`, which hands on what comes in order at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...audio.pcm import fade_out
from ...audio.resample import Resampler
from ...errors import MissingExtra

try:
    import av
    from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
except ImportError as error:
    raise MissingExtra("WebRTC", "webrtc", str(error)) from error

if TYPE_CHECKING:
    from aiortc.rtp import RtpPacket

PERIOD_S = 0.02
RTP_RATE = 48_000
PACKET_SAMPLES = RTP_RATE // 50
BIT_RATE = 32_000
COMPLEXITY = "3"
"""Of libopus, 0 to 10: beyond this, speech at this bit rate gains little and costs up to 40 % more."""
SETTLE = 5
"""Packets of silence that are encoded before one is repeated: by then the encoder has forgotten the speech."""
EARLY_S = 0.02
"""The first packet of speech may leave so much before its time."""
PAYBACK_S = 0.001
"""So much of that is given back with each packet of silence."""
MAX_BEHIND_S = 1.0
"""A loop that was blocked for longer does not send what it missed."""
REORDER = 6
"""Packets that may overtake a missing one before it counts as lost: 120 ms."""
RESYNC = 100
"""A sequence number this far off begins a new stream."""
MAX_FILL_S = 1.0
"""Gaps up to this length are filled, so that what follows keeps its time; longer ones show in the clock."""


class Voice:
    """The agent's audio between the playout and the wire: 20 ms chunks in, Opus packets out.

    `left` counts the samples that have left since the last `clear`.
    """

    def __init__(self, sample_rate: int) -> None:
        self.left = 0
        self.on_write: Callable[[], None] | None = None
        """Called when there is something to say after silence."""
        self._chunk = sample_rate // 50
        self._rate = sample_rate
        self._queue: deque[bytes] = deque()
        self._encoder = _encoder(sample_rate)
        self._silent = 0  # packets of silence on end
        self._silence = b""

    def __len__(self) -> int:
        return len(self._queue)

    def write(self, chunk: bytes) -> None:
        """Say this, 20 ms, when its turn comes."""
        self._queue.append(chunk)
        if self.on_write is not None and len(self._queue) == 1:
            self.on_write()

    def clear(self) -> int:
        """Drop what has not left. Returns how many samples had, since this was last done."""
        self._queue.clear()
        left, self.left = self.left, 0
        return left

    def next_packet(self) -> bytes:
        """The next 20 ms: of speech, if there is any, else of silence."""
        if self._queue:
            self._silent = 0
            self.left += self._chunk
            return self._encode(self._queue.popleft())
        if self._silent < SETTLE:
            self._silent += 1
            self._silence = self._encode(bytes(2 * self._chunk))
        return self._silence

    def _encode(self, chunk: bytes) -> bytes:
        frame = av.AudioFrame(format="s16", layout="mono", samples=self._chunk)
        frame.sample_rate = self._rate
        frame.planes[0].update(chunk)
        return bytes(self._encoder.encode(frame)[0])


class VoiceTrack(MediaStreamTrack):
    """Takes a `Voice`'s packets every 20 ms, for one peer connection.

    Speech after silence leaves at once, up to 20 ms before its time; the silence that follows takes that back, so that
    the stream's clock stays true.
    """

    kind = "audio"

    def __init__(self, voice: Voice, on_sent: Callable[[], None]) -> None:
        super().__init__()
        self._voice, self._on_sent = voice, on_sent
        self._clock = asyncio.get_running_loop()
        self._due = 0.0  # loop time at which the next packet leaves by the stream's clock
        self._early_s = 0.0
        self._pts = -PACKET_SAMPLES
        self._sleeping: asyncio.Future[None] | None = None

    async def recv(self) -> av.Packet[Any]:
        """The next packet, at its time. Raises MediaStreamError once the track has been stopped."""
        if self.readyState != "live":
            raise MediaStreamError
        now = self._clock.time()
        if now - self._due > MAX_BEHIND_S:
            self._due = now
        else:
            self._due += PERIOD_S
            if not len(self._voice):
                self._early_s = max(0.0, self._early_s - PAYBACK_S)
                # Late silence would only put off the speech that follows: its time passes without packets.
                missed = max(0, int((now - self._due) / PERIOD_S))
                self._due += missed * PERIOD_S
                self._pts += missed * PACKET_SAMPLES
            await self._wait(now)
        self._pts += PACKET_SAMPLES
        packet = av.Packet(self._voice.next_packet())
        packet.pts, packet.time_base = self._pts, Fraction(1, RTP_RATE)
        self._on_sent()
        return packet

    async def _wait(self, now: float) -> None:
        if self._due - self._early_s > now:
            self._sleeping = self._clock.create_future()
            timer = self._clock.call_at(self._due - self._early_s, _wake, self._sleeping)
            self._voice.on_write = self._speak
            try:
                await self._sleeping
            finally:
                timer.cancel()
                self._sleeping = self._voice.on_write = None

    def _speak(self) -> None:
        early_s = self._due - self._clock.time()
        if early_s > self._early_s and early_s <= EARLY_S and self._sleeping is not None:
            self._early_s = early_s
            _wake(self._sleeping)


class JitterBuffer:
    """The caller's RTP packets, in order and without holes, as s16le mono at `sample_rate`, to `on_audio`.

    It stands in for the jitter buffer of aiortc's receiver. A packet that comes in order is decoded at once. One that
    is missing is waited for until `REORDER` later ones have come; its time is then filled with what came before it,
    fading away.
    """

    def __init__(self, sample_rate: int, on_audio: Callable[[bytes], None], on_packet: Callable[[], None]) -> None:
        self._on_audio, self._on_packet = on_audio, on_packet
        self._sample_rate = sample_rate
        self._decoder = _decoder()
        self._resampler = Resampler(RTP_RATE, sample_rate)
        self._source: int | None = None
        self._next = 0  # the sequence number that is next, without wrapping
        self._early: dict[int, RtpPacket] = {}
        self._timestamp: int | None = None  # where the last packet ended
        self._last = b""

    def install(self, receiver: Any) -> None:
        """Take the place of the receiver's buffer: its decoder gets nothing any more."""
        if not hasattr(receiver, "_RTCRtpReceiver__jitter_buffer"):
            raise MissingExtra("WebRTC", "webrtc", "this version of aiortc keeps its jitter buffer elsewhere")
        receiver._RTCRtpReceiver__jitter_buffer = self

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """A packet has come. What aiortc's buffer would return: no picture is lost, and there is nothing to decode."""
        self._on_packet()
        distance = _signed(packet.sequence_number - self._next, 16)
        if packet.ssrc != self._source or abs(distance) > RESYNC:
            self._source, self._early, self._timestamp = packet.ssrc, {}, None
            self._next, distance = packet.sequence_number, 0
        if distance >= 0:
            self._early[self._next + distance] = packet
            self._take()
        return False, None

    def _take(self) -> None:
        heard = []
        while self._early:
            packet = self._early.pop(self._next, None)
            if packet is None:
                if len(self._early) < REORDER:
                    break
                self._next = min(self._early)
                continue
            self._next += 1
            heard.append(self._decode(packet))
        if pcm := self._resampler.process(b"".join(heard)):
            self._on_audio(pcm)

    def _decode(self, packet: RtpPacket) -> bytes:
        gap = b""
        if self._timestamp is not None:
            missing = _signed(packet.timestamp - self._timestamp, 32)
            if 0 < missing <= MAX_FILL_S * RTP_RATE:
                gap = self._conceal(missing)
        try:
            frames = self._decoder.decode(av.Packet(packet.payload)) if packet.payload else []
        except av.FFmpegError:
            frames = []
        pcm = b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)
        # What could not be decoded is filled in when the next packet shows that it is missing.
        if pcm or self._timestamp is None:
            self._timestamp = packet.timestamp + len(pcm) // 2
            self._last = pcm
        elif gap:
            self._timestamp = packet.timestamp
        return gap + pcm

    def _conceal(self, samples: int) -> bytes:
        """What was heard last, backwards, which joins on without a step, dying away."""
        import numpy as np

        echo = np.frombuffer(self._last, "<i2")[: -samples - 1 : -1].tobytes()
        self._last = b""
        return fade_out(echo, RTP_RATE, 1000 * PERIOD_S).ljust(2 * samples, b"\0")


def _encoder(sample_rate: int) -> Any:
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", sample_rate
    encoder.bit_rate, encoder.time_base = BIT_RATE, Fraction(1, sample_rate)
    encoder.options = {
        "application": "voip",
        "compression_level": COMPLEXITY,
        "fec": "1",
        "frame_duration": "20",
        "packet_loss": "10",
    }
    return encoder


def _decoder() -> Any:
    decoder: Any = av.CodecContext.create("libopus", "r")
    decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", RTP_RATE
    return decoder


def _signed(difference: int, bits: int) -> int:
    """A difference of numbers that wrap, as the nearest one."""
    half = 1 << (bits - 1)
    return ((difference + half) & ((1 << bits) - 1)) - half


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
