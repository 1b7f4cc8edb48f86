from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from duologue.errors import BadInput, IllegalState
from duologue.frames import Dtmf, SessionStarted, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.testing import BareCall
from duologue.transports import MemoryTransport, TransportInput
from duologue.transports.base import MAX_WAITING_FRAMES, MAX_WAITING_S
from tests.transports.calls import RATE, numbers, ramp

pytestmark = pytest.mark.virtual_clock


class Ear(Processor):
    """Takes the caller's audio; may be slow at opening and at taking."""

    def __init__(self, opens_in_s: float = 0.0) -> None:
        self.opens_in_s = opens_in_s
        self.frames: list[UserAudio] = []
        self.keys: list[tuple[int, str]] = []
        self.started_before_audio = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None:
        await asyncio.sleep(self.opens_in_s)

    @handles(SessionStarted)
    def started(self, frame: SessionStarted) -> None:
        self.started_before_audio = not self.frames

    @handles(UserAudio)
    async def take(self, frame: UserAudio) -> None:
        await self.gate.wait()
        self.frames.append(frame)

    @handles(Dtmf)
    async def key(self, frame: Dtmf) -> None:
        self.keys.append((len(self.frames), frame.digit))

    @property
    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.frames)

    def gaps(self) -> list[float]:
        """By how much each piece begins later than the one before it ended."""
        return [round(b.at - a.at - a.duration_s, 6) for a, b in pairwise(self.frames)]


class InputCall(BareCall):
    """A call whose caller feeds the head of the pipeline. It is cancelled at its end."""

    def __init__(self, ear: Ear | None = None, *, may_fail: bool = False) -> None:
        self.ear = ear or Ear()
        self.head = TransportInput()
        super().__init__(Session(Pipeline([self.head, self.ear])), ends=False, may_fail=may_fail)

    async def start(self) -> None:
        """Begin to run: audio may come while the session opens."""
        self.launch()
        await asyncio.sleep(0)


async def test_audio_carries_the_time_at_which_it_was_spoken() -> None:
    async with InputCall() as call:
        await asyncio.sleep(1.0)
        for n in range(100):
            await asyncio.sleep(0.02)
            call.head.feed(ramp(n * 320, 320), RATE)
        await asyncio.sleep(0.01)
        assert numbers(call.ear.pcm) == list(range(32_000))
        assert call.ear.frames[0].at == pytest.approx(1.0)
        assert call.ear.gaps() == [0.0] * 99


async def test_jitter_leaves_no_gaps() -> None:
    async with InputCall() as call:
        await asyncio.sleep(1.0)
        for n in range(100):
            await asyncio.sleep(0.001 if n % 5 else 0.096)
            call.head.feed(ramp(n * 320, 320), RATE)
        await asyncio.sleep(0.01)
        assert call.ear.gaps() == [0.0] * 99


async def test_a_pause_of_the_stream_is_a_gap() -> None:
    async with InputCall() as call:
        await asyncio.sleep(1.0)
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(3.0)
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.01)
        assert [round(frame.at, 6) for frame in call.ear.frames] == [0.98, 3.98]


async def test_a_stall_of_the_network_is_no_gap() -> None:
    """All that was spoken meanwhile comes at once, and takes its own time."""
    async with InputCall() as call:
        await asyncio.sleep(1.0)
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(2.0)
        for _ in range(100):
            call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.02)
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.01)
        assert call.ear.gaps() == [0.0] * 101


async def test_audio_faster_than_speech_runs_at_most_two_seconds_ahead_and_never_back() -> None:
    async with InputCall() as call:
        await asyncio.sleep(1.0)
        for _ in range(500):
            call.head.feed(ramp(0, 320), RATE)
            await asyncio.sleep(0.0001)
        ats = [frame.at for frame in call.ear.frames]
        assert ats == sorted(ats)
        assert ats[-1] <= call.session.now() + 2.0
        await asyncio.sleep(10.0)
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.01)
        assert call.ear.frames[-1].at == pytest.approx(call.session.now() - 0.03, abs=0.001)


async def test_what_is_said_while_connecting_is_kept_and_delivered_after_the_start() -> None:
    """Pitfall 27: speech lost while the session is still connecting."""
    async with InputCall(Ear(opens_in_s=2.0)) as call:
        for n in range(150):
            call.head.feed(ramp(n * 320, 320), RATE)
            await asyncio.sleep(0.02)
        assert numbers(call.ear.pcm) == list(range(48_000))
        assert call.ear.started_before_audio
        assert call.ear.gaps() == [0.0] * 149
        assert call.ear.frames[0].at == pytest.approx(-0.02)


async def test_what_is_said_before_the_session_exists_is_kept_too() -> None:
    transport = MemoryTransport(RATE)
    for n in range(50):
        await asyncio.sleep(0.02)
        transport.send(ramp(n * 320, 320))
    ear = Ear()
    session = Session(Pipeline([transport.input(), ear, transport.output()]))
    task = asyncio.create_task(session.run())
    await asyncio.sleep(0.1)
    assert numbers(ear.pcm) == list(range(16_000))
    assert ear.frames[0].at == pytest.approx(-1.0)
    session.cancel()
    await task


async def test_other_frames_keep_their_place() -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.head.feed(ramp(0, 320), RATE)
        call.head.feed_frame(Dtmf(digit="1"))
        call.head.feed(ramp(0, 320), RATE)
        call.head.feed_frame(Dtmf(digit="2"))
        await asyncio.sleep(0.1)
        assert call.ear.keys == [(1, "1"), (2, "2")]


async def test_hanging_up_ends_the_call_after_what_was_said() -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.head.feed(ramp(0, 3200), RATE)
        call.head.hang_up("line is dead")
        call.head.hang_up("again")
        call.head.feed(ramp(3200, 3200), RATE)
        await asyncio.sleep(0.1)
        assert call.outcome.reason == "line is dead"
        assert numbers(call.ear.pcm) == list(range(3200))


async def test_hanging_up_while_connecting_ends_the_call_too() -> None:
    async with InputCall(Ear(opens_in_s=1.0)) as call:
        call.head.feed(ramp(0, 320), RATE)
        call.head.hang_up()
        await asyncio.sleep(1.1)
        assert call.outcome.reason == "caller hung up"
        assert numbers(call.ear.pcm) == list(range(320))


@pytest.mark.parametrize("lost", [5, 250])
async def test_more_than_a_minute_that_waits_loses_its_beginning_and_says_so(lost: int) -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.ear.gate.clear()
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.01)
        for _ in range(3000 + lost):
            await asyncio.sleep(0.02)
            call.head.feed(ramp(0, 320), RATE)
        [first] = call.errors
        assert first.category == "service"
        assert "320 samples" in first.message
        call.ear.gate.set()
        await asyncio.sleep(0.1)
        assert len(call.ear.frames) == 1 + MAX_WAITING_S * 50
        assert [e.category for e in call.errors] == ["service"] * 2
        assert f"{lost * 320} samples" in call.errors[1].message
        assert call.ear.gaps()[0] == pytest.approx(lost * 0.02, abs=0.03)
        assert call.ear.gaps()[1:] == [0.0] * int(MAX_WAITING_S * 50 - 1)


async def test_a_long_piece_is_cut_so_that_only_its_beginning_is_lost() -> None:
    async with InputCall() as call:
        call.head.feed(bytes(2 * RATE) * 70, RATE)
        await asyncio.sleep(0.1)
        assert sum(frame.duration_s for frame in call.ear.frames) == pytest.approx(60.0)
        assert max(frame.duration_s for frame in call.ear.frames) == 1.0
        assert f"{RATE} samples" in call.errors[0].message


async def test_too_many_other_frames_are_refused() -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.ear.gate.clear()
        call.head.feed(ramp(0, 320), RATE)
        await asyncio.sleep(0.01)
        for _ in range(MAX_WAITING_FRAMES + 1):
            call.head.feed_frame(Dtmf(digit="1"))
        assert ["Dtmf was refused" in e.message for e in call.errors] == [True]
        call.head.hang_up()  # that always fits
        call.ear.gate.set()
        await asyncio.sleep(0.1)
        assert len(call.ear.keys) == MAX_WAITING_FRAMES
        assert call.is_over


@pytest.mark.parametrize(("pcm", "rate"), [(b"ab", 0), (b"ab", 400_000)])
async def test_audio_that_is_none_is_refused_and_loses_nothing_else(pcm: bytes, rate: int) -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.head.feed(ramp(0, 320), RATE)
        with pytest.raises(BadInput):
            call.head.feed(pcm, rate)
        call.head.feed(ramp(320, 320), RATE)
        await asyncio.sleep(0.1)
        assert numbers(call.ear.pcm) == list(range(640))


async def test_a_listener_that_fails_is_reported_and_harms_nobody() -> None:
    async with InputCall(may_fail=True) as call:
        heard: list[bytes] = []

        def fail(pcm: bytes, rate: int, at: float) -> None:
            raise ValueError("cannot listen")

        call.session.audio.said.add(fail)
        call.session.audio.said.add(lambda pcm, rate, at: heard.append(pcm))
        for n in range(5):
            call.head.feed(ramp(n, 320), RATE)
            await asyncio.sleep(0.02)
        assert [error.message for error in call.errors] == ["cannot listen"]
        assert len(call.ear.frames) == len(heard) == 5


async def test_nothing_is_taken_after_the_end() -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.session.cancel()
        await asyncio.sleep(0.1)
        call.head.feed(ramp(0, 320), RATE)
        call.head.feed_frame(Dtmf(digit="1"))
        call.head.hang_up()
        await asyncio.sleep(0.1)
        assert call.ear.frames == []


async def test_an_output_has_no_playout_before_it_is_open() -> None:
    with pytest.raises(IllegalState, match="not open"):
        _ = MemoryTransport(RATE).output().playout


@pytest.mark.parametrize("size", [1, 3, 7, 641, 100_001])
async def test_pieces_that_split_samples_wait_for_the_rest(size: int) -> None:
    """Every door feeds the pipeline here: WebSockets, RTVI, the OpenAI endpoint, WebRTC, memory."""
    count = 60_000 if size > 1000 else 400
    audio = ramp(0, count)
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        for start in range(0, len(audio), size):
            call.head.feed(audio[start : start + size], RATE)
        call.head.feed(b"\1", RATE)  # never completed, and no error
        await asyncio.sleep(0.1)
        assert numbers(call.ear.pcm) == list(range(count))
        assert not call.errors


async def test_another_rate_begins_a_new_stream() -> None:
    async with InputCall() as call:
        await asyncio.sleep(0.1)
        call.head.feed(ramp(0, 10) + b"\7", RATE)
        call.head.feed(ramp(10, 10), 2 * RATE)
        await asyncio.sleep(0.1)
        assert numbers(call.ear.pcm) == list(range(20))
