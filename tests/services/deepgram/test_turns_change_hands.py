"""An STT that finds the turns itself fails: another cascade, whose turns the pipeline finds, takes the call."""

from __future__ import annotations

import anyio
import pytest

from duologue import Agent, Cascade, Endpointing, Handoff, MemoryTransport, Pipeline, Session, Switch, Vad
from duologue.frames import EndOfTurn, HandoffCompleted, UserTranscript
from duologue.services.deepgram import DeepgramFluxSTT
from duologue.services.remote import ConnectionSettings
from duologue.testing import Call, Probe
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted import ScriptedDeepgram
from duologue.testing.tones import tone

pytestmark = pytest.mark.virtual_clock

SETTINGS = ConnectionSettings(failover_after_s=1, heartbeat_s=0.5, ring_s=2)


@pytest.mark.parametrize("spoken_s", [1.0, 5.0])
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("lost_after_s", [0.0, 0.4, 0.8, 1.1])
async def test_the_next_engine_has_the_whole_turn_once(lost_after_s: float, dies: bool, spoken_s: float) -> None:
    async with ScriptedDeepgram(transcripts=["Never."]) as server:
        flux = DeepgramFluxSTT(api_key="test", base_url=server.url, connection=SETTINGS)
        nova = MockSTT(["What are your hours?"])
        engines = {
            "flux": Cascade(flux, MockLLM(["One."]), MockTTS()),
            "nova": Cascade(nova, MockLLM(["We open at nine."]), MockTTS()),
        }
        transport = MemoryTransport(16_000)
        parts = [transport.input(), Vad(), Endpointing(silence_ms=600), Switch(engines), Probe()]
        pipeline = Pipeline([*parts, Handoff([Agent(name="Ann")], failover=["flux", "nova"]), transport.output()])
        async with Call(Session(pipeline), transport) as call, anyio.create_task_group() as tasks:
            tasks.start_soon(call.caller.play, tone(spoken_s, 16_000), 16_000)
            await anyio.sleep(lost_after_s)
            server.behaviour.refuse = [503] * 100
            connection = server.connections[-1]
            (connection.go_half_open if dies else connection.drop)()
            await call.waits(12)
            assert call.came(HandoffCompleted)[0].engine == "nova"
            finals = [frame.text for frame in call.came(UserTranscript) if frame.final]
            assert finals == ["What are your hours?"]
            assert len(call.came(EndOfTurn)) == 1
            assert call.log[-2:] == ["caller: What are your hours?", "agent: We open at nine."]
            assert nova.heard[0] >= 2 * 16_000
