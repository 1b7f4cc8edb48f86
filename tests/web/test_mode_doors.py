"""The doors for the button to talk and the agent's playback."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue import Cascade, Pipeline, Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import calling, serving
from duologue.transports.client import ClientTransport
from tests.web.rtvi.calls import RtviCall, running
from tests.web.test_sockets import TONE, Ears, Server, voice


class PressedServer(Server):
    """Calls whose caller presses to talk."""

    def __call__(self, transport: ClientTransport) -> Session:
        ears = Ears()
        engine = Cascade(MockSTT(("hi",)), MockLLM(("Hello there.",)), MockTTS())
        pipeline = Pipeline([transport.input(), ears, engine, transport.output()])
        session = Session(pipeline, mode="push_to_talk")
        self.sessions.append(session)
        self.ears.append(ears)
        return session


async def test_a_websocket_client_presses_and_controls_the_playback() -> None:
    server = PressedServer()
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        assert (await client.until("session_started"))["mode"] == "push_to_talk"
        await client.say(TONE)  # not heard
        await client.send(type="talk", talking=True)
        await client.until("state", state="active")
        for _ in range(10):
            await client.say(TONE)
        await client.send(type="talk", talking=False)
        await client.until("state", state="armed")
        await client.until("transcription", role="user", text="hi")
        await client.until("speaking", who="assistant", speaking=True)
        await client.send(type="playback", do="pause", volume=0.5)
        with anyio.fail_after(60):
            while not server.sessions[0].playback.paused:
                await anyio.sleep(0.01)
        assert server.sessions[0].playback.volume == 0.5
        await client.send(type="playback", do="stop")
        await client.until("speaking", who="assistant", speaking=False)
        refused: list[dict[str, Any]] = [
            {"type": "talk", "talking": "yes"},
            {"type": "talk"},
            {"type": "playback", "do": "explode"},
            {"type": "playback", "volume": 7},
            {"type": "playback", "do": "replay"},
        ]
        for count, wrong in enumerate(refused, 1):
            await client.send(**wrong)
            assert (await client.until("error", count))["code"] == "refused"
    assert sum(frame.duration_s for frame in server.ears[0].audio) == pytest.approx(0.2)


async def test_an_rtvi_client_controls_the_playback() -> None:
    async with running(RtviCall(), controls=True) as client:
        answer = await client.ask("duologue.playback", {"volume": 0.25})
        assert answer["data"]["d"] == {"changed": True}
        answer = await client.ask("duologue.playback", {"volume": -1})
        assert "volume" in answer["data"]["error"]
        answer = await client.ask("duologue.talk", {"talking": True})
        assert "push_to_talk" in answer["data"]["error"]
