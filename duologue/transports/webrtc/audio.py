"""Audio both ways: the agent's as encoded 20 ms packets, the caller's as PCM in order.

aiortc would encode 96 kb/s of stereo in a thread, and delay the caller's packets in a buffer of 80 ms, which grows to
320 ms with the first lost packet. Here the sender gets packets that are encoded already, and `JitterBuffer` replaces
the receiver's buffer and passes on packets at once if they come in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ...audio.pcm import fade_out
from ...audio.resample import Resampler
from ...errors import MissingExtra
from ...processors.kernel.tasks import Wake
from .codecs import RTP_RATES, CodecName, make_decoder, make_encoder

try:
    import av
    from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
    from aiortc.rtp import RtpPacket
except ImportError as error:
    raise MissingExtra("WebRTC", "webrtc", str(error)) from error

PACKET_S = 0.02
RTP_RATE = 48_000  # of the timestamps that the track gives to aiortc, whatever the codec
PACKET_SAMPLES = RTP_RATE // 50
SETTLE = 5
"""Packets of silence until the encoder has forgotten the speech. Then the last packet is repeated."""
EARLY_SPEECH_S = 0.02
"""Seconds by which the first packet of speech may leave before its time."""
PAYBACK_S = 0.001
"""Seconds of that lead which each packet of silence gives back."""
MAX_BEHIND_S = 1.0
"""If the event loop was blocked for longer than this, in seconds, the missed packets are not sent."""
REORDER = 6
"""Packets that may overtake a missing one before it counts as lost: 120 ms of audio."""
REORDER_S = 0.2
"""The same limit in seconds: the client may send nothing after a lost packet."""
RESYNC = 100
"""A sequence number that is this far from the expected one begins a new stream."""
MAX_FILL_S = 1.0
"""Gaps up to this length, in seconds, are filled, so that later audio keeps its time. Longer gaps are not."""


class Voice:
    """The agent's audio between the playout and the wire: 20 ms chunks in, encoded packets out.

    `left` is the number of samples that have left since the last `clear`.
    """

    def __init__(self, sample_rate: int) -> None:
        self.left = 0
        self.on_write: Callable[[], None] | None = None
        """Called when speech follows silence."""
        self._chunk = sample_rate // 50
        self._rate = sample_rate
        self._queue: deque[bytes] = deque()
        self._codec: CodecName = "opus"
        self._encoder = make_encoder(self._codec, sample_rate)
        self._silent = 0  # consecutive packets of silence
        self._silence = b""

    def __len__(self) -> int:
        return len(self._queue)

    def write(self, chunk: bytes) -> None:
        """Queue 20 ms of audio."""
        self._queue.append(chunk)
        if self.on_write is not None and len(self._queue) == 1:
            self.on_write()

    def clear(self) -> int:
        """Drop the audio that has not left. Returns the number of samples that have left since the last `clear`."""
        self._queue.clear()
        left, self.left = self.left, 0
        return left

    def next_packet(self, codec: CodecName = "opus") -> bytes:
        """Return the next 20 ms as a packet of a codec: speech if there is any, else silence."""
        if codec != self._codec:
            self._codec, self._silent = codec, 0
            self._encoder = make_encoder(codec, self._rate)
        if self._queue:
            self._silent = 0
            self.left += self._chunk
            return self._encoder.encode(self._queue.popleft())
        if self._silent < SETTLE:
            self._silent += 1
            self._silence = self._encoder.encode(bytes(2 * self._chunk))
        return self._silence


class VoiceTrack(MediaStreamTrack):
    """Sends an `Voice`'s packets every 20 ms over one peer connection.

    Speech after silence leaves at once, up to 20 ms before its time. The silence after it makes up for that, so that
    the stream's clock stays right.
    """

    kind = "audio"

    def __init__(self, voice: Voice, on_sent: Callable[[], None]) -> None:
        super().__init__()
        self._voice, self._on_sent = voice, on_sent
        self._clock = asyncio.get_running_loop()
        self._due = 0.0  # loop time at which the next packet leaves by the stream's clock
        self._early_s = 0.0
        self._pts = -PACKET_SAMPLES
        self._speech = Wake()
        self.codec: CodecName = "opus"
        """The codec of the packets."""

    async def recv(self) -> av.Packet[Any]:
        """Return the next packet, at its time. Raises MediaStreamError once the track has been stopped."""
        if self.readyState != "live":
            raise MediaStreamError
        now = self._clock.time()
        if now - self._due > MAX_BEHIND_S:
            self._due = now
        else:
            self._due += PACKET_S
            if not len(self._voice):
                self._early_s = max(0.0, self._early_s - PAYBACK_S)
                # Late silence would only delay the speech after it, so it is skipped.
                missed = max(0, int((now - self._due) / PACKET_S))
                self._due += missed * PACKET_S
                self._pts += missed * PACKET_SAMPLES
            await self._wait(now)
        self._pts += PACKET_SAMPLES
        packet = av.Packet(self._voice.next_packet(self.codec))
        packet.pts, packet.time_base = self._pts, Fraction(1, RTP_RATE)
        self._on_sent()
        return packet

    async def _wait(self, now: float) -> None:
        if self._due - self._early_s > now:
            timer = self._clock.call_at(self._due - self._early_s, self._speech.wake)
            self._voice.on_write = self._speak
            try:
                await self._speech.wait()
            finally:
                timer.cancel()
                self._voice.on_write = None

    def _speak(self) -> None:
        early_s = self._due - self._clock.time()
        if self._early_s < early_s <= EARLY_SPEECH_S:
            self._early_s = early_s
            self._speech.wake()


class JitterBuffer:
    """Puts the caller's RTP packets in order and passes s16le mono at `sample_rate` to `on_audio`, without gaps.

    It replaces the jitter buffer of aiortc's receiver. A packet that comes in order is decoded at once. A missing
    packet counts as lost when `REORDER` later packets have come, or after `REORDER_S`; the audio before it then fills
    its time and fades. `on_packet` is called for each packet.
    """

    def __init__(self, sample_rate: int, on_audio: Callable[[bytes], None], on_packet: Callable[[], None]) -> None:
        self._on_audio, self._on_packet = on_audio, on_packet
        self.use_codec("opus")
        self._sample_rate = sample_rate
        self._resampler: Resampler | None = None  # made with the first audio
        self._source: int | None = None
        self._next = 0  # the next sequence number, without wrapping
        self._early: dict[int, RtpPacket] = {}
        self._patience: asyncio.TimerHandle | None = None  # runs while a packet is missing
        self._timestamp: int | None = None  # at which the last packet ended
        self._last = b""

    def use_codec(self, codec: CodecName) -> None:
        """Decode this codec from now on."""
        self._decoder, self._rtp_rate = make_decoder(codec), RTP_RATES[codec]

    def use_rate(self, sample_rate: int) -> None:
        """Convert to `sample_rate` from now on. `on_audio` first receives the rest at the previous rate."""
        if sample_rate != self._sample_rate:
            self._sample_rate = sample_rate
            if self._resampler is not None and (rest := self._resampler.flush()):
                self._on_audio(rest)
            self._resampler = None

    def install(self, receiver: Any) -> None:
        """Replace the receiver's buffer. Its decoder gets nothing from then on."""
        receiver._RTCRtpReceiver__jitter_buffer = self

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take a packet. Returns (picture lost, frame to decode) like aiortc's buffer: neither."""
        self._on_packet()
        distance = _signed(packet.sequence_number - self._next, 16)
        if packet.ssrc != self._source or abs(distance) > RESYNC:
            self._source, self._early, self._timestamp = packet.ssrc, {}, None
            self._next, distance = packet.sequence_number, 0
        if distance >= 0:
            self._early[self._next + distance] = packet
            self._take()
        return False, None

    def _take(self, *, give_up: bool = False) -> None:
        """Decode the packets that are in order. With `give_up`, the missing packet counts as lost."""
        heard = []
        while self._early:
            packet = self._early.pop(self._next, None)
            if packet is None:
                if len(self._early) < REORDER and not give_up:
                    break
                self._next, give_up = min(self._early), False
                continue
            self._next += 1
            heard.append(self._decode(packet))
        self._wait_for_missing(decoded=bool(heard))
        if heard:
            if self._resampler is None:
                self._resampler = Resampler(self._rtp_rate, self._sample_rate)
            if pcm := self._resampler.process(b"".join(heard)):
                self._on_audio(pcm)

    def _wait_for_missing(self, *, decoded: bool) -> None:
        if self._patience is not None and (decoded or not self._early):
            self._patience.cancel()
            self._patience = None
        if self._early and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(REORDER_S, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        self._take(give_up=True)

    def _decode(self, packet: RtpPacket) -> bytes:
        gap = b""
        if self._timestamp is not None:
            missing = _signed(packet.timestamp - self._timestamp, 32)
            if 0 < missing <= MAX_FILL_S * self._rtp_rate:
                gap = self._conceal(missing)
        pcm = self._decoder.decode(packet.payload)
        # If a packet cannot be decoded, its time is filled when the next packet comes.
        if pcm or self._timestamp is None:
            self._timestamp = packet.timestamp + len(pcm) // 2
            self._last = pcm
        elif gap:
            self._timestamp = packet.timestamp
        return gap + pcm

    def _conceal(self, samples: int) -> bytes:
        """Return the last audio reversed, which joins without a step, with a fade."""
        import numpy as np

        echo = np.frombuffer(self._last, "<i2")[: -samples - 1 : -1].tobytes()
        self._last = b""
        return fade_out(echo, self._rtp_rate, 1000 * PACKET_S).ljust(2 * samples, b"\0")


def _signed(difference: int, bits: int) -> int:
    """Return the difference of two wrapping numbers of `bits` bits, as the value nearest to 0."""
    half = 1 << (bits - 1)
    return ((difference + half) & ((1 << bits) - 1)) - half
