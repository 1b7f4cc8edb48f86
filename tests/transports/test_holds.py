"""Speech on hold for several reasons at once: each has its owner and its own time."""

from __future__ import annotations

import asyncio

import pytest

from duologue import Pipeline, Session
from duologue.errors import IllegalState
from duologue.frames import BotPaused, BotResumed, ClientChanged, Interrupted, Signal, UserTranscript
from duologue.processors.processor import Processor
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption, InterruptionPolicy
from duologue.processors.turns.vad import Vad
from duologue.session import State
from duologue.transports.webrtc.transport import WebRTCTransport
from duologue.transports.websocket.serializers import F1Serializer
from duologue.transports.websocket.transport import WebSocketLimits, WebSocketTransport
from tests.processors.turn_taking import level_vad, loud
from tests.transports.calls import RATE, Agent, ramp
from tests.transports.test_websocket import Wire

pytestmark = pytest.mark.virtual_clock


class SlowClientCall:
    """A call over a WebSocket, with turn-taking, whose client sometimes reads nothing."""

    def __init__(self, policy: InterruptionPolicy) -> None:
        self.wire = Wire()
        limits = WebSocketLimits(unsent_s=0.5)
        self.transport = WebSocketTransport(self.wire, F1Serializer(output_sample_rate=RATE), limits=limits)
        self.engine = Processor()
        turns = [Vad(level_vad()), Endpointing(), Interruption(policy)]
        self.session = Session(Pipeline([self.transport.input(), *turns, self.engine, self.transport.output()]))
        self.agent = Agent(self.session)
        self.events: list[tuple[str, float]] = []
        for kind in (BotPaused, BotResumed, Interrupted):
            self.session.on(kind, lambda s: self.events.append((type(s).__name__, round(self.session.now(), 2))))

    async def __aenter__(self) -> SlowClientCall:
        self.transport.open()
        self.running = asyncio.create_task(self.session.run())
        while self.session.state is not State.ACTIVE:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.wire.flowing.set()
        self.session.cancel()
        await self.running
        await self.transport.close("over")

    @property
    def held_by(self) -> list[str]:
        return list(self.session.floor.held_by)

    async def speak(self, seconds: float) -> None:
        """The caller speaks, or is silent for as long."""
        pcm = loud(seconds)
        for start in range(0, len(pcm), 640):
            await asyncio.sleep(0.02)
            self.transport.feed(pcm[start : start + 640], RATE)

    async def be_quiet(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            self.transport.feed(b"\1\0" * 320, RATE)


async def test_a_slow_clients_catching_up_makes_no_interruption_of_a_backchannel() -> None:
    async with SlowClientCall(InterruptionPolicy(min_words=2)) as call:
        await call.agent.say(ramp(0, 4 * RATE), "a long story")
        await call.be_quiet(1.0)
        call.wire.flowing.clear()  # the client reads nothing, until its speech is held
        await call.be_quiet(0.7)
        assert [name for name, _ in call.events] == ["BotPaused"]
        speaking = asyncio.create_task(call.speak(1.0))
        await asyncio.sleep(0.5)
        call.wire.flowing.set()
        await speaking
        await call.engine.push_up(UserTranscript(text="uh-huh", final=True, start_s=1.7, end_s=2.7))
        await call.be_quiet(3.0)
        names = [name for name, _ in call.events]
        assert names == ["BotPaused", "BotResumed"], call.events
        assert call.events[-1][1] > 2.7


async def test_the_callers_hold_has_its_whole_time_when_it_begins_in_a_slow_clients() -> None:
    async with SlowClientCall(InterruptionPolicy(min_words=2, resume_after_ms=None)) as call:
        await call.agent.say(ramp(0, 4 * RATE), "a long story")
        await call.be_quiet(1.0)
        call.wire.flowing.clear()
        await call.be_quiet(2.0)
        await call.speak(0.4)
        assert call.held_by == ["slow client", "caller"]
        call.wire.flowing.set()
        await call.be_quiet(1.0)
        assert call.held_by == ["caller"]
        await call.be_quiet(5.0)
        assert call.events == [("BotPaused", 1.6), ("BotResumed", 8.2)]


class LostClientCall:
    """A WebRTC call without a network: the test says when the client gives a sign of life."""

    def __init__(self) -> None:
        self.transport = WebRTCTransport("call", lost_s=2.0, reconnect_s=30.0)
        self.session = Session(Pipeline([self.transport.input(), self.transport.output()]))
        self.agent = Agent(self.session)
        self.changes: list[str] = []
        self.signals: list[Signal] = []
        self.session.on(ClientChanged, lambda change: self.changes.append(change.state))
        for kind in (BotPaused, BotResumed):
            self.session.on(kind, self.signals.append)

    async def __aenter__(self) -> LostClientCall:
        self.transport._presence.connect()
        self.running = asyncio.create_task(self.session.run())
        while self.session.state is not State.ACTIVE:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.cancel()
        await self.running
        await self.transport.close("over")

    @property
    def held_by(self) -> list[str]:
        return list(self.session.floor.held_by)

    async def live(self, seconds: float) -> None:
        """The client's audio comes for this long."""
        for _ in range(round(seconds / 0.02)):
            self.transport._presence.sign_of_life(audio=True)
            await asyncio.sleep(0.02)

    @property
    def state(self) -> str:
        return self.transport.state.value


async def test_the_end_of_the_callers_hold_does_not_let_go_the_speech_for_a_lost_client() -> None:
    async with LostClientCall() as call:
        await call.agent.say(ramp(0, 10 * RATE), "a long story")
        await call.live(1.0)
        caller = call.session.floor.hold("caller", patience_s=5)
        await asyncio.sleep(3.0)
        assert (call.state, call.changes) == ("lost", ["connected", "lost"])
        assert call.held_by == ["caller", "lost client"]
        caller.release()
        await asyncio.sleep(10.0)
        assert call.held_by == ["lost client"]
        assert call.session.floor.held
        await call.live(0.2)
        assert (call.state, call.changes[-1]) == ("back", "reconnected")
        await call.live(0.5)
        assert (call.state, call.session.floor.held) == ("connected", False)
        assert call.signals == [
            BotPaused(turn=1, owners=("caller",)),
            BotResumed(turn=1, owners=("caller", "lost client")),
        ]


async def test_an_interruption_does_not_end_the_hold_for_a_lost_client() -> None:
    async with LostClientCall() as call:
        await call.agent.say(ramp(0, 10 * RATE), "a long story")
        await call.live(0.5)
        await asyncio.sleep(1.5)
        assert (call.state, call.held_by) == ("silent", ["lost client"])
        call.session.interrupt("application")
        await call.agent.say(ramp(0, RATE), "something else")
        await asyncio.sleep(5.0)
        assert call.session.floor.held
        assert len(call.transport._voice) == 0
        await call.live(1.0)
        assert not call.session.floor.held
        assert len(call.transport._voice) > 0


async def test_a_client_that_is_back_for_a_moment_only_hears_nothing_yet() -> None:
    async with LostClientCall() as call:
        await call.live(0.5)
        await asyncio.sleep(1.5)
        await call.live(0.1)
        assert call.state == "back"
        await asyncio.sleep(0.5)
        assert (call.state, call.session.floor.held) == ("silent", True)


async def test_a_move_that_is_impossible_names_both_states() -> None:
    async with LostClientCall() as call:
        with pytest.raises(IllegalState, match="cannot go from connected to connected"):
            call.transport._presence.connect()
