"""Opus both ways without a network: order, holes, silence, and what has left."""

from __future__ import annotations

import asyncio
import random
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket

from duologue.testing.tones import pieces, tone
from duologue.transports.webrtc.audio import JitterBuffer, Voice, VoiceTrack

RATE = 24_000
CHUNK = RATE // 50


def packets(pcm: bytes, *, first: int = 0, timestamp: int = 0) -> list[RtpPacket]:
    """A caller's packets: `pcm` at 24 kHz."""
    voice = Voice(RATE)
    made = []
    for number, chunk in enumerate(pieces(pcm, RATE)):
        voice.write(chunk)
        packet = RtpPacket(
            payload_type=111,
            sequence_number=(first + number) & 0xFFFF,
            timestamp=(timestamp + 960 * number) & 0xFFFFFFFF,
        )
        packet.ssrc, packet.payload = 7, voice.next_packet()
        made.append(packet)
    return made


class Ear:
    def __init__(self) -> None:
        self.pcm, self.count = b"", 0
        self.hearing = JitterBuffer(16_000, self._hear, self._note)

    def _hear(self, pcm: bytes) -> None:
        self.pcm += pcm

    def _note(self) -> None:
        self.count += 1

    def listen(self, some: list[RtpPacket]) -> Ear:
        for packet in some:
            self.hearing.add(packet)
        return self

    @property
    def samples(self) -> Any:
        return np.frombuffer(self.pcm, "<i2").astype(float)


def level(samples: Any) -> float:
    return float(np.sqrt((samples**2).mean()))


def decoded(payloads: list[bytes]) -> Any:
    decoder: Any = av.CodecContext.create("libopus", "r")
    decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", 48_000
    frames = [frame for payload in payloads for frame in decoder.decode(av.Packet(payload))]
    return np.concatenate([np.frombuffer(bytes(frame.planes[0])[: 2 * frame.samples], "<i2") for frame in frames])


async def test_what_comes_in_order_is_heard_at_once() -> None:
    ear = Ear().listen(packets(tone(1, RATE)))
    assert ear.count == 50
    assert len(ear.samples) == pytest.approx(16_000, abs=100)
    assert level(ear.samples[4000:12000]) == pytest.approx(3277, rel=0.02)


async def test_packets_out_of_order_are_put_in_order() -> None:
    straight = Ear().listen(packets(tone(1, RATE)))
    shuffled = packets(tone(1, RATE))
    rng = random.Random(3)
    for start in range(1, 45, 4):
        some = shuffled[start : start + 4]
        rng.shuffle(some)
        shuffled[start : start + 4] = some
    doubled = [packet for packet in shuffled for _ in range(2)]
    np.testing.assert_allclose(Ear().listen(doubled).samples, straight.samples, atol=1)


@pytest.mark.parametrize("first", [0, 65_520])
@pytest.mark.parametrize("timestamp", [0, 2**32 - 9_600])
async def test_missing_packets_do_not_shift_time(first: int, timestamp: int) -> None:
    said = packets(tone(0.5, RATE) + bytes(RATE) + tone(0.5, RATE, hz=800), first=first, timestamp=timestamp)
    rng = random.Random(1)
    lost = {*rng.sample(range(1, 70), 6), 30, 31, 32}
    ear = Ear().listen([packet for number, packet in enumerate(said) if number not in lost])
    whole = Ear().listen(said)
    assert abs(len(ear.samples) - len(whole.samples)) <= 1
    assert level(ear.samples[16_500:23_500]) > 3000, "the last tone is where it was"
    assert np.abs(ear.samples[9_600:15_500]).max() < 300, "and so is the silence before it"


async def test_what_is_missing_dies_away_without_a_click() -> None:
    said = packets(tone(1, RATE, hz=300))
    ear = Ear().listen(said[:20] + said[24:])
    hole = ear.samples[6_400:7_680]
    assert np.abs(np.diff(hole)).max() < 1200
    assert np.abs(hole[400:1_000]).max() == 0


async def test_a_pause_of_the_senders_is_silence_and_a_long_one_is_left_to_the_clock() -> None:
    said = packets(tone(0.2, RATE))
    for packet in said[5:]:
        packet.timestamp += 24_000  # half a second in which nothing was sent
    assert len(Ear().listen(said).samples) == pytest.approx(16_000 * 0.7, abs=100)
    for packet in said[5:]:
        packet.timestamp += 48_000
    assert len(Ear().listen(said).samples) == pytest.approx(16_000 * 0.2, abs=100)


@pytest.mark.virtual_clock
async def test_packets_before_a_pause_are_not_kept_back_by_one_that_is_lost() -> None:
    said = packets(tone(0.6, RATE))
    ear = Ear().listen(said[:10] + said[11:14])
    before = len(ear.samples)
    await asyncio.sleep(0.19)
    assert len(ear.samples) == before
    await asyncio.sleep(0.02)
    assert len(ear.samples) == pytest.approx(before + 4 * 320, abs=2), "the missing one is filled in"
    ear.listen(said[10:11])  # too late
    ear.listen(said[14:])
    assert len(ear.samples) == pytest.approx(16_000 * 0.6, abs=100)


async def test_the_rate_may_change_and_not_a_sample_is_lost() -> None:
    said, got = packets(tone(0.6, RATE)), list[tuple[int, int]]()
    rate = 16_000
    hearing = JitterBuffer(rate, lambda pcm: got.append((rate, len(pcm) // 2)), lambda: None)
    for number, packet in enumerate(said):
        if number == 10:
            hearing.use_rate(24_000)
            rate = 24_000
        hearing.add(packet)
    at_16, at_24 = (sum(count for r, count in got if r == wanted) for wanted in (16_000, 24_000))
    assert at_16 == pytest.approx(16_000 * 0.2, abs=110)
    assert at_24 == pytest.approx(24_000 * 0.4, abs=110)


async def test_garbage_and_empty_packets_count_as_missing() -> None:
    said = packets(tone(1, RATE))
    rng = random.Random(5)
    for number in (10, 11, 30):
        said[number].payload = b"" if number == 30 else b"\xff" + rng.randbytes(30)
    ear = Ear().listen(said)
    assert len(ear.samples) == pytest.approx(16_000, abs=100)
    for _ in range(500):
        packet = RtpPacket(111, 0, rng.randrange(65_536), rng.randrange(2**32))
        packet.ssrc, packet.payload = rng.randrange(3), rng.randbytes(rng.randrange(100))
        ear.hearing.add(packet)


async def test_a_new_stream_begins_anew() -> None:
    ear = Ear().listen(packets(tone(0.4, RATE)))
    other = packets(tone(0.4, RATE), first=30_000, timestamp=123)
    ear.listen(other)
    assert len(ear.samples) == pytest.approx(16_000 * 0.8, abs=100)


async def test_what_has_left_is_counted_until_the_rest_is_dropped() -> None:
    voice = Voice(RATE)
    for chunk in pieces(tone(0.2, RATE), RATE):
        voice.write(chunk)
    for _ in range(4):
        voice.next_packet()
    assert (voice.left, len(voice)) == (4 * CHUNK, 6)
    assert voice.clear() == 4 * CHUNK
    assert (voice.left, len(voice)) == (0, 0)


async def test_silence_costs_no_encoding_and_is_silent() -> None:
    voice = Voice(RATE)
    for chunk in pieces(tone(0.2, RATE), RATE):
        voice.write(chunk)
    payloads = [voice.next_packet() for _ in range(100)]
    assert len(set(payloads[20:])) == 1
    assert np.abs(decoded(payloads)[960 * 14 :]).max() <= 2
    for chunk in pieces(tone(0.2, RATE), RATE):
        voice.write(chunk)
    again = decoded(payloads + [voice.next_packet() for _ in range(10)])[-9_000:]
    assert level(again[1000:].astype(float)) == pytest.approx(3277, rel=0.1)


async def test_packets_leave_every_20_ms_and_speech_at_once() -> None:
    loop, voice = asyncio.get_running_loop(), Voice(RATE)
    left: list[tuple[float, int]] = []
    track = VoiceTrack(voice, lambda: None)

    async def send() -> None:
        while True:
            packet = await track.recv()
            assert packet.time_base == Fraction(1, 48_000)
            left.append((loop.time(), packet.pts or 0))

    sending = asyncio.create_task(send())
    await asyncio.sleep(1.0051)
    for chunk in pieces(tone(0.1, RATE), RATE):
        voice.write(chunk)
    spoken = loop.time()
    await asyncio.sleep(3)
    sending.cancel()
    began = left[0][0]
    assert [pts for _, pts in left] == [960 * number for number in range(len(left))]
    first = next(at for at, _ in left if at >= spoken)
    assert first - spoken < 0.001
    early = [began + pts / 48_000 - at for at, pts in left]
    assert max(early) == pytest.approx(0.0149, abs=0.002)
    assert abs(early[-1]) < 0.001, "what was sent early is given back"
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_a_loop_that_was_blocked_sends_the_speech_it_has_and_no_late_silence() -> None:
    voice = Voice(RATE)
    track = VoiceTrack(voice, lambda: None)
    for chunk in pieces(tone(0.06, RATE), RATE):
        voice.write(chunk)
    first = await track.recv()
    await asyncio.sleep(0.2)
    pts = [(await track.recv()).pts or 0 for _ in range(4)]
    assert [(each - (first.pts or 0)) // 960 for each in pts] == [1, 2, 10, 11]
    track.stop()
