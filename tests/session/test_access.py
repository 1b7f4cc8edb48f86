from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import AccessChanged, Dtmf, Input, Signal, UserAudio, UserImage, UserText
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.session.audio import Access
from duologue.testing import clock
from duologue.transports.memory import MemoryTransport
from tests.session.calls import running, settled

RATE = 16_000
MS = RATE // 1000


class Taker(Processor):
    """Takes what the transport delivers, each piece `takes_s` long; keeps it, and what access there was then."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.audio: list[UserAudio] = []
        self.access: list[str] = []
        self.others: list[Input] = []

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.audio.append(frame)
        self.access.append(self.session.audio.access)
        await anyio.sleep(self.takes_s)

    @handles(UserText, UserImage, Dtmf)
    async def take(self, frame: Input) -> None:
        self.others.append(frame)

    @property
    def samples(self) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        return np.frombuffer(b"".join(frame.audio for frame in self.audio), "<i2")


def numbered(first: int, count: int) -> bytes:
    """Samples that say which they are, and are never silent."""
    return (np.arange(first, first + count) % 30_000 + 1).astype("<i2").tobytes()


# -- every sample ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """So many ms of speech; `change` comes when `after_ms` of them are spoken, if the piece is as long."""

    ms: int
    after_ms: int = 0
    change: Access | None = None


@dataclass
class Spoken:
    """The caller's access for each sample: when it was spoken, and when its piece came in."""

    then: list[str] = field(default_factory=list)
    at_feeding: list[str] = field(default_factory=list)


accesses = st.sampled_from(["active", "muted", "revoked"])
pieces = st.builds(Piece, st.integers(1, 60), st.integers(0, 60), st.none() | accesses)


async def spoken(script: list[Piece], takes_s: float) -> tuple[Spoken, Taker]:
    transport, taker, story = MemoryTransport(RATE), Taker(takes_s), Spoken()
    async with running(transport.input(), taker) as call:
        for piece in script:
            before = piece.ms if piece.change is None else min(piece.after_ms, piece.ms)
            for ms in (before, piece.ms - before):
                story.then += [call.session.audio.access] * (ms * MS)
                await anyio.sleep(ms / 1000)
                if ms == before and piece.change is not None:
                    call.session.set_access(piece.change)
            story.at_feeding += [call.session.audio.access] * (piece.ms * MS)
            transport.send(numbered(len(story.at_feeding) - piece.ms * MS, piece.ms * MS))
        await anyio.sleep(takes_s * len(script) + 0.1)
    return story, taker


@settings(max_examples=80)
@given(script=st.lists(pieces, min_size=1, max_size=20), takes_s=st.sampled_from([0.0, 0.0, 0.05]))
def test_only_what_was_spoken_while_active_reaches_the_pipeline(script: list[Piece], takes_s: float) -> None:
    story, taker = clock.run(spoken, script, takes_s)
    whole = np.frombuffer(numbered(0, len(story.then)), "<i2")
    samples = taker.samples
    assert len(samples) == len(whole)  # time goes on, and turns end
    passed = samples == whole
    assert np.all(passed | (samples == 0))
    then, at_feeding = np.array(story.then) == "active", np.array(story.at_feeding) == "active"
    assert not np.any(passed & ~then)
    at_delivery = np.repeat([access == "active" for access in taker.access], [len(f.audio) // 2 for f in taker.audio])
    assert not np.any(passed & ~at_delivery)
    assert np.all(passed[then & at_feeding & at_delivery])


@settings(max_examples=40)
@given(script=st.lists(st.builds(Piece, st.integers(1, 60), st.just(0), st.none() | accesses), min_size=1, max_size=20))
def test_changes_between_pieces_cost_no_sample(script: list[Piece]) -> None:
    story, taker = clock.run(spoken, script, 0.0)
    whole = np.frombuffer(numbered(0, len(story.then)), "<i2")
    assert np.array_equal(taker.samples, np.where(np.array(story.then) == "active", whole, 0))


async def test_what_waits_is_silenced_too() -> None:
    transport, taker = MemoryTransport(RATE), Taker(1.0)
    async with running(transport.input(), taker) as call:
        for number in range(5):
            await anyio.sleep(0.02)
            transport.send(numbered(number * 320, 320))
        call.session.set_access("muted")
        await anyio.sleep(5)
    assert np.count_nonzero(taker.samples) == 320  # the piece that was under way
    assert len(taker.samples) == 5 * 320
    assert [frame.at for frame in taker.audio] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])


# -- what else ---------------------------------------------------------------------------------------------------------

FRAMES = [UserText(text="Hello."), Dtmf(digit="5"), UserImage(url="http://example.com/a.png")]


@pytest.mark.parametrize(("access", "arrive"), [("active", 3), ("muted", 3), ("revoked", 0)])
async def test_texts_keys_and_images_of_a_revoked_caller_are_dropped(access: Access, arrive: int) -> None:
    transport, taker = MemoryTransport(RATE), Taker()
    async with running(transport.input(), taker) as call:
        call.session.set_access(access)
        for frame in FRAMES:
            transport.send_frame(frame)
        await settled()
        assert len(taker.others) == arrive
        call.session.set_access("active")
        transport.send_frame(FRAMES[0])
        await settled()
        assert len(taker.others) == arrive + 1


async def test_what_waits_of_a_revoked_caller_is_dropped() -> None:
    transport, taker = MemoryTransport(RATE), Taker(1.0)
    async with running(transport.input(), taker) as call:
        transport.send(numbered(0, 320))
        for frame in FRAMES:
            transport.send_frame(frame)
        await settled()
        call.session.set_access("revoked")
        await anyio.sleep(2)
        assert taker.others == []
        await call.session.send(UserText(text="A word of the supervisor.", author="supervisor", respond=False))
        assert len(taker.others) == 1


async def test_a_revoked_caller_may_hang_up() -> None:
    transport = MemoryTransport(RATE)
    async with running(transport.input(), ends=False) as call:
        call.session.set_access("revoked")
        transport.hang_up()
        await settled()
    assert call.outcome.reason == "caller hung up"


async def test_changes_are_told_once() -> None:
    async with running() as call:
        told: list[Signal] = []
        call.session.on(AccessChanged, told.append)
        for access in ("active", "muted", "muted", "revoked", "active"):
            call.session.set_access(access, by="supervisor")
    assert told == [AccessChanged(access=a, by="supervisor") for a in ("muted", "revoked", "active")]


async def test_a_call_can_begin_muted() -> None:
    transport, taker = MemoryTransport(RATE), Taker()
    session = Session(Pipeline([transport.input(), taker]))
    session.set_access("muted")
    transport.send(numbered(0, 320))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        await settled()
        transport.send(numbered(0, 320))
        await settled()
        assert session.audio.access == "muted"
        await session.end()
    assert len(taker.samples) == 640
    assert not np.any(taker.samples)


async def test_another_word_is_refused() -> None:
    async with running() as call:
        with pytest.raises(ConfigurationError, match="'banned'"):
            call.session.set_access("banned")  # type: ignore[arg-type]
        assert call.session.audio.access == "active"
