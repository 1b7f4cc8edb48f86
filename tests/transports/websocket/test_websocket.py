"""The transport on a connection in memory: what the client hears is what the ledger says, however it reads."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from duologue import Pipeline, Processor, Session
from duologue.errors import ConfigurationError
from duologue.frames import BotPaused, BotResumed
from duologue.session import Outcome, State
from duologue.session.floor import Hold
from duologue.testing import BareCall
from duologue.transports import PlayoutSettings
from duologue.transports.websocket import sender as sender_module
from duologue.transports.websocket.connection import Closed
from duologue.transports.websocket.sender import MAX_UNSENT_MESSAGES, Playback
from duologue.transports.websocket.serializers import DuologueSerializer, FastRtcSerializer, Serializer, Wired
from duologue.transports.websocket.transport import WebSocketLimits, WebSocketTransport
from tests.transports.calls import RATE, Agent, numbers, ramp


class Wire:
    """A connection in memory. While `blocked`, the socket takes nothing."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Wired | Closed] = asyncio.Queue()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.messages: list[dict[str, Any]] = []
        self.heard: list[tuple[float, bytes]] = []
        self.closed: tuple[int, str] | None = None
        self._until = 0.0
        self._before = 0  # pieces that were played when it was last told to clear

    async def send(self, data: Wired) -> None:
        await self.flowing.wait()
        assert isinstance(data, str)
        message = json.loads(data)
        now = asyncio.get_running_loop().time()
        if message.get("type") == "audio":
            at = max(now, self._until)
            self.heard.append((at, b64decode(message["data"])))
            self._until = at + len(self.heard[-1][1]) / (2 * RATE)
            return
        if message.get("type") == "clear_audio":
            self.heard = [(at, pcm) for at, pcm in self._by(now) if pcm]
            self._until = now
            self._before = len(self.heard)
        self.messages.append(message)

    async def receive(self) -> Wired:
        data = await self.incoming.get()
        if isinstance(data, Closed):
            raise data
        return data

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason
        await self.flowing.wait()

    def put(self, **message: Any) -> None:
        self.incoming.put_nowait(json.dumps(message))

    def _by(self, now: float) -> list[tuple[float, bytes]]:
        return [(at, pcm[: 2 * max(0, int((now - at) * RATE + 1e-3))]) for at, pcm in self.heard]

    def numbers(self) -> list[int]:
        """The audio that the client has played, or will play."""
        return numbers(b"".join(pcm for _, pcm in self.heard))

    def acknowledge(self) -> None:
        """Say how much was played since we were last told to clear."""
        played = self._by(asyncio.get_running_loop().time())[self._before :]
        self.put(type="played", ms=sum(len(pcm) for _, pcm in played) * 500 / RATE)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") == kind]


NO_FADE = PlayoutSettings(fade_ms=0.0)
"""A fade's samples have no numbers."""


class WireCall(BareCall):
    """A call of a client at the other end of a `Wire`. It is cancelled at its end."""

    def __init__(
        self,
        limits: WebSocketLimits | None = None,
        serializer: Serializer | None = None,
        processors: Sequence[Processor] = (),
        settings: PlayoutSettings | None = None,
    ) -> None:
        self.wire = Wire()
        serializer = serializer or DuologueSerializer(output_sample_rate=RATE)
        self.transport = WebSocketTransport(self.wire, serializer, limits=limits, settings=settings)
        pipeline = Pipeline([self.transport.input(), *processors, self.transport.output()])
        super().__init__(Session(pipeline), ends=False)
        self.agent = Agent(self.session)
        self.played: list[bytes] = []
        self.session.audio.played.add(lambda pcm, rate, at: self.played.append(pcm))

    async def start(self) -> None:
        self.transport.open()
        await super().start()

    async def run(self) -> Outcome:
        outcome = await super().run()
        await self.transport.close(outcome.reason)
        return outcome


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "AT_ONCE_S", 0.0)  # a tolerance that the virtual clock does not need


# -- whatever happens --------------------------------------------------------------------------------------------------


class Schedule:
    """A call of random events: the agent speaks, is interrupted, is held; the client reads, or does not."""

    def __init__(self, call: WireCall, seed: int, *, interruptions: bool, stalls: bool) -> None:
        self.call, self.random = call, random.Random(seed)
        self.interruptions, self.stalls = interruptions, stalls
        self.next_number = 0
        self.late_clears = 0
        self.holds: list[Hold] = []

    async def run(self) -> None:
        session, wire = self.call.session, self.call.wire
        for _ in range(self.random.randrange(5, 25)):
            event = self.random.random()
            if event < 0.5:
                count = self.random.choice([100, 320, 641, 3000, 16_000])
                count = min(count, 65_000 - self.next_number)  # a ramp has no more numbers
                first, self.next_number = self.next_number, self.next_number + count
                await self.call.agent.say(ramp(first, count), "some words")
            elif event < 0.65 and self.interruptions:
                self.late_clears += not wire.flowing.is_set()
                session.interrupt()
            elif event < 0.75 and self.stalls:
                if wire.flowing.is_set():
                    wire.flowing.clear()
                else:
                    wire.flowing.set()
            elif event < 0.85 and wire.flowing.is_set():
                if self.random.random() < 0.5:
                    self.holds.append(session.floor.hold("test", patience_s=5))
                elif self.holds:
                    self.holds.pop().release()
            await self.sleep(self.random.choice([101, 700, 16_000]))
        wire.flowing.set()
        await session.end()
        while session.state is not State.ENDED:
            await asyncio.sleep(0.02)

    async def sleep(self, most_samples: int) -> None:
        """Whole samples, so that both ends count the same."""
        await asyncio.sleep(self.random.randrange(100, most_samples) / RATE)


def check(call: WireCall, schedule: Schedule) -> None:
    heard, played = call.wire.numbers(), numbers(b"".join(call.played))
    assert heard == sorted(set(heard))
    assert played == sorted(set(played))
    if not schedule.interruptions:
        assert heard == played == list(range(schedule.next_number))
    elif not schedule.stalls:
        assert heard == played
    else:
        # Audio on its way to a client that did not read counts as heard, unless it is cut after all. A client that
        # does not hear of the cut in time plays what it has.
        assert len(set(heard) - set(played)) <= schedule.late_clears * 1.6 * RATE
    assert call.outcome.reason == "ended"
    assert call.session.ledger.unsettled == ()


@pytest.mark.virtual_clock(limit_s=100_000)
@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize(
    ("interruptions", "stalls"), [(False, False), (True, False), (False, True), (True, True)], ids=str
)
async def test_not_a_sample_is_lost_or_heard_twice(interruptions: bool, stalls: bool) -> None:
    for seed in range(150):
        limits = WebSocketLimits(lost_s=1000, unsent_s=random.Random(seed).choice([0.1, 0.5, 1.5, 9.0]))
        async with WireCall(limits, settings=NO_FADE) as call:
            schedule = Schedule(call, seed, interruptions=interruptions, stalls=stalls)
            try:
                await schedule.run()
                check(call, schedule)
            except AssertionError as error:
                error.add_note(f"schedule {seed}")
                raise


@pytest.mark.virtual_clock(limit_s=100_000)
@pytest.mark.usefixtures("_exact")
async def test_what_a_client_acknowledges_is_what_was_heard() -> None:
    for seed in range(60):
        async with WireCall(settings=NO_FADE) as call:
            dice, first = random.Random(seed), 0
            call.wire.acknowledge()
            for _ in range(6):
                count = dice.choice([641, 3000, 8000])
                await call.agent.say(ramp(first, count), "some words")
                first += count
                for _ in range(dice.randrange(1, 40)):
                    await asyncio.sleep(0.02)
                    call.wire.acknowledge()
                if dice.random() < 0.5:
                    await asyncio.sleep(0)  # lets what was acknowledged arrive
                    await asyncio.sleep(0)
                    call.session.interrupt()
            for _ in range(200):
                await asyncio.sleep(0.02)
                call.wire.acknowledge()
            assert call.wire.numbers() == numbers(b"".join(call.played)), seed
            assert call.session.ledger.unsettled == (), seed


# -- slow and lost clients ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_exact")
async def test_for_a_client_that_does_not_read_the_speech_is_held_and_goes_on() -> None:
    async with WireCall(WebSocketLimits(unsent_s=0.5), settings=NO_FADE) as call:
        states: list[str] = []
        call.session.on(BotPaused, lambda signal: states.append("paused"))
        call.session.on(BotResumed, lambda signal: states.append("resumed"))
        await call.agent.say(ramp(0, 2 * RATE))
        await asyncio.sleep(0.5)
        call.wire.flowing.clear()
        await asyncio.sleep(2)
        assert states == ["paused"]
        assert call.session.ledger.unsettled[0].played_s < 0.6
        call.wire.flowing.set()
        await asyncio.sleep(3)
        assert states == ["paused", "resumed"]
        assert call.wire.numbers() == numbers(b"".join(call.played)) == list(range(2 * RATE))
        assert call.wire.of_type("clear_audio") == []


async def test_a_client_that_takes_nothing_is_lost() -> None:
    async with WireCall() as call:
        await call.agent.say(ramp(0, 10 * RATE))
        await asyncio.sleep(1)
        call.wire.flowing.clear()
        began = call.session.now()
        while call.session.state is not State.ENDED:
            await asyncio.sleep(0.1)
        assert 5 <= call.session.now() - began < 6
    assert call.outcome.reason == "client lost"


async def test_a_client_that_pinged_and_is_silent_is_lost() -> None:
    async with WireCall() as call:
        await asyncio.sleep(20)
        assert call.session.state is State.ACTIVE  # it never pinged: it may have nothing to say
        for _ in range(3):
            call.wire.put(type="ping")
            await asyncio.sleep(4)
        assert call.session.state is State.ACTIVE
        await asyncio.sleep(2)
    assert call.wire.of_type("pong") == [{"type": "pong"}] * 3
    assert call.outcome.reason == "client lost"


@pytest.mark.parametrize(("code", "reason"), [(1000, "client disconnected"), (1012, "server is shutting down")])
async def test_when_the_connection_ends_the_call_does(code: int, reason: str) -> None:
    async with WireCall() as call:
        await call.agent.say(ramp(0, 10 * RATE))
        await asyncio.sleep(1)
        call.wire.incoming.put_nowait(Closed(code))
        await asyncio.sleep(0.1)
        assert call.session.state is State.ENDED
    assert call.outcome.reason == reason


async def test_too_many_messages_for_a_client_that_does_not_read() -> None:
    async with WireCall() as call:
        call.wire.flowing.clear()
        for number in range(MAX_UNSENT_MESSAGES + 10):
            call.transport.send_message({"number": number})
        await asyncio.sleep(4)
        assert call.wire.closed == (1013, "client reads too slowly")
        assert call.session.state is State.ENDED


# -- what the client says that it has played ---------------------------------------------------------------------------


async def test_the_clients_word_counts_for_more_than_time() -> None:
    async with WireCall() as call:
        call.wire.put(type="played", ms=0)
        await asyncio.sleep(0.01)
        await call.agent.say(ramp(0, RATE), "one two three four")
        await asyncio.sleep(0.1)
        call.wire.put(type="played", ms=60)
        await asyncio.sleep(0.4)
        assert call.session.interrupt().heard_s == pytest.approx(0.06)
        await asyncio.sleep(0.01)
        assert call.wire.of_type("clear_audio") == [{"type": "clear_audio"}]


async def test_a_client_is_not_believed_more_than_it_can_have_played() -> None:
    async with WireCall() as call:
        await call.agent.say(ramp(0, RATE), "one two three four")
        await asyncio.sleep(0.1)
        call.wire.put(type="played", ms=1e300)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert call.session.interrupt().heard_s == pytest.approx(0.1)


async def test_what_a_client_never_plays_was_not_heard() -> None:
    async with WireCall() as call:
        await call.agent.say(ramp(0, RATE), "one two three four")
        call.wire.put(type="played", ms=0)
        await asyncio.sleep(5)
        item = call.session.conversation.items
        assert item == ()


def test_what_is_told_is_counted_from_the_last_clear_that_the_client_saw() -> None:
    playback = Playback(1_000)
    playback.add(100, 0.0)
    playback.told(50, 0.06)
    assert playback.position(0.06) == 50
    playback.begin_anew(0.06, kept=100)
    assert playback.position(0.2) == 0
    playback.add(100, 0.2)
    playback.told(150, 0.3)
    assert playback.position(0.3) == 50
    playback.begin_anew(0.3)
    playback.add(100, 0.3)
    playback.told(150, 0.31)  # of before the clear: no more than time allows
    assert playback.position(0.31) == 10
    playback.told(30, 0.4)
    assert playback.position(0.4) == 30


# -- dialects ----------------------------------------------------------------------------------------------------------


async def test_a_client_that_cannot_clear_hears_what_it_has_got() -> None:
    async with WireCall(serializer=FastRtcSerializer()) as call:
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(0.5)
        assert call.session.interrupt().heard_s == pytest.approx(0.57, abs=0.02)


async def test_audio_goes_in_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WireCall() as call:
        fed: list[tuple[bytes, int]] = []
        monkeypatch.setattr(call.transport.input(), "feed", lambda pcm, rate: fed.append((pcm, rate)))
        call.wire.put(type="audio", data=b64encode(b"\1\0\2\0").decode())
        call.wire.incoming.put_nowait(b"\3\0")
        await asyncio.sleep(0.01)
        assert fed == [(b"\1\0\2\0", 16_000), (b"\3\0", 16_000)]


def test_limits_are_positive() -> None:
    with pytest.raises(ConfigurationError, match="unsent_s"):
        WebSocketLimits(unsent_s=0)
