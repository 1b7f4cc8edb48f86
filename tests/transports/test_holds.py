"""Speech on hold for several reasons at once: each has its owner and its own time."""

from __future__ import annotations

import asyncio

import pytest

from duologue import Pipeline, Session
from duologue.errors import IllegalState
from duologue.frames import BotPaused, BotResumed, ClientChanged, Interrupted, Signal, UserTranscript
from duologue.processors.processor import Processor
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import Evidence, InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.session import Outcome
from duologue.testing import BareCall
from duologue.transports.webrtc.transport import WebRTCTransport
from duologue.transports.websocket.transport import WebSocketLimits
from tests.processors.turns.calls import level_vad, loud
from tests.transports.calls import RATE, Agent, ramp
from tests.transports.websocket.test_websocket import WireCall

pytestmark = pytest.mark.virtual_clock


class SlowClientCall(WireCall):
    """A call over a WebSocket, with turn-taking, whose client sometimes reads nothing."""

    def __init__(self, policy: InterruptionPolicy) -> None:
        self.engine = Processor()
        turns = [Vad(level_vad()), Endpointing(), Interruption(policy)]
        super().__init__(WebSocketLimits(unsent_s=0.5), processors=[*turns, self.engine])

    @property
    def events(self) -> list[tuple[str, float]]:
        """Holds, resumptions and interruptions, with their times."""
        kinds = (BotPaused, BotResumed, Interrupted)
        return [(type(signal).__name__, round(at, 2)) for at, signal in self.signals if isinstance(signal, kinds)]

    @property
    def held_by(self) -> list[str]:
        return list(self.session.floor.held_by)

    async def says(self, seconds: float) -> None:
        """The caller speaks."""
        pcm = loud(seconds)
        for start in range(0, len(pcm), 640):
            await asyncio.sleep(0.02)
            self.transport.feed(pcm[start : start + 640], RATE)

    async def waits(self, seconds: float) -> None:
        """The caller is silent; the microphone stays open."""
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            self.transport.feed(b"\1\0" * 320, RATE)


async def test_a_slow_clients_catching_up_makes_no_interruption_of_a_backchannel() -> None:
    async with SlowClientCall(InterruptionPolicy(speaking=Evidence(min_words=2))) as call:
        await call.agent.say(ramp(0, 4 * RATE), "a long story")
        await call.waits(1.0)
        call.wire.flowing.clear()  # the client reads nothing, until its speech is held
        await call.waits(0.7)
        assert [name for name, _ in call.events] == ["BotPaused"]
        speaking = asyncio.create_task(call.says(1.0))
        await asyncio.sleep(0.5)
        call.wire.flowing.set()
        await speaking
        await call.engine.push_up(UserTranscript(text="uh-huh", final=True, start_s=1.7, end_s=2.7))
        await call.waits(3.0)
        names = [name for name, _ in call.events]
        assert names == ["BotPaused", "BotResumed"], call.events
        assert call.events[-1][1] > 2.7


async def test_the_callers_hold_has_its_whole_time_when_it_begins_in_a_slow_clients() -> None:
    async with SlowClientCall(
        InterruptionPolicy(speaking=Evidence(min_speech_ms=200, min_words=2, resume_after_ms=None))
    ) as call:
        await call.agent.say(ramp(0, 4 * RATE), "a long story")
        await call.waits(1.0)
        call.wire.flowing.clear()
        await call.waits(2.0)
        await call.says(0.4)
        assert call.held_by == ["slow client", "caller"]
        call.wire.flowing.set()
        await call.waits(1.0)
        assert call.held_by == ["caller"]
        await call.waits(5.0)
        assert call.events == [("BotPaused", 1.6), ("BotResumed", 8.2)]


class LostClientCall(BareCall):
    """A WebRTC call without a network: the test says when the client gives a sign of life."""

    def __init__(self) -> None:
        self.transport = WebRTCTransport("call", lost_s=2.0, reconnect_s=30.0)
        super().__init__(Session(Pipeline([self.transport.input(), self.transport.output()])), ends=False)
        self.agent = Agent(self.session)

    async def start(self) -> None:
        self.transport._presence.connect()
        await super().start()

    async def run(self) -> Outcome:
        outcome = await super().run()
        await self.transport.close("over")
        return outcome

    @property
    def changes(self) -> list[str]:
        """The states of the client."""
        return [change.state for change in self.came(ClientChanged)]

    @property
    def holds(self) -> list[Signal]:
        """The starts and ends of holds."""
        return [signal for _, signal in self.signals if isinstance(signal, BotPaused | BotResumed)]

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
        assert call.holds == [
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
