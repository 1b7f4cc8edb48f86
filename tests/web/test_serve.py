"""`duologue serve`: spoken calls with the demo's agents, by the official SDK; and what cannot be served."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue import Session
from duologue.audio.resample import Resampler
from duologue.cli.app import app
from duologue.cli.serve import load
from duologue.errors import ConfigurationError
from duologue.processors.kernel.threads import SYNTHESIS
from duologue.services.local.synthesizer import ESPEAK_RATE, Synthesizer
from duologue.web.realtime.endpoint import MakeCall
from duologue.web.realtime.transport import RealtimeTransport
from tests.testing.scripted.openai_client import RATE, Client, connected, silence
from tests.web.realtime.calls import serving


async def say(client: Client, text: str) -> None:
    def synthesize() -> bytes:
        speech = Synthesizer("en-us+f2").synthesize(text)
        converter = Resampler(ESPEAK_RATE, RATE)
        return converter.process(b"".join(piece.audio for piece in speech)) + converter.flush()

    await client.speak(await SYNTHESIS.run(synthesize) + silence(0.8))


def transcript(done: dict[str, object]) -> str:
    output: list[dict[str, list[dict[str, str]]]] = done["response"]["output"]  # type: ignore[index]
    return " ".join(item["content"][0]["transcript"] for item in output)


def kept(make: MakeCall, sessions: list[Session]) -> MakeCall:
    def make_call(transport: RealtimeTransport) -> Session:
        session = make(transport)
        assert isinstance(session, Session)
        sessions.append(session)
        return session

    return make_call


async def test_a_spoken_call_with_the_agents_of_the_demo() -> None:
    sessions: list[Session] = []
    async with (
        serving(kept(load("duologue.cli.agents:agents"), sessions)) as url,
        connected(url) as client,
    ):
        await client.until("session.created")
        await client.update(audio={"input": {"transcription": {"model": "any"}}}, instructions="You are a pirate.")
        assert transcript(await client.until("response.done")).startswith("Hello, this is the corner shop.")
        await say(client, "my order number is four five six seven")
        heard = await client.until("conversation.item.input_audio_transcription.completed")
        assert heard["transcript"] == "my order number is four five six seven"
        answer = transcript(await client.until("response.done"))
        assert answer.startswith("Order 4567 is on its way")
        assert len(client.audio()) / 2 / RATE > len(answer) / 30

        # The caller interrupts what the client plays of a long answer: the client stops, and says what was heard.
        await say(client, "what are your opening hours")
        item = (await client.until("response.done"))["response"]["output"][0]
        await client.connection.conversation.item.truncate(item_id=item["id"], content_index=0, audio_end_ms=3000)
        await client.until("conversation.item.truncated")
        cut = next(entry for entry in sessions[0].conversation if entry.text.startswith("We are open"))
        assert cut.text in item["content"][0]["transcript"]
        assert len(cut.text) < 80
        assert cut.status == "interrupted"

        await say(client, "speak to billing")
        await client.until("response.done")
        assert sessions[0].agent is not None
        assert sessions[0].agent.name == "Billing"
        await say(client, "how much do I owe")
        while "forty two dollars" not in transcript(await client.until("response.done")):
            pass


MODULE = """
from duologue import Agent, Cascade, Pipeline, Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

nothing = 7
without_rules = [Agent(name="A")]

async def make(transport):
    engine = Cascade(MockSTT(), MockLLM(["Made."]), MockTTS())
    return Pipeline([transport.input(), transport.turns(), engine, transport.client_tools(), transport.output()])
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "served.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "served", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return "served"


async def test_a_function_that_makes_a_pipeline_is_served(module: str) -> None:
    async with serving(load(f"{module}:make")) as url, connected(url) as client:
        await client.until("session.created")
        await client.type("Hi.")
        await client.send("response.create")
        assert transcript(await client.until("response.done")) == "Made."


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("served", "module:object"),
        ("served:", "module:object"),
        ("no_such_module:x", "no_such_module"),
        ("served:missing", "'missing'"),
        ("served:nothing", "int"),
        ("served:without_rules", "RULES"),
    ],
)
def test_what_cannot_be_served_is_refused(module: str, target: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        load(target)
    result = CliRunner().invoke(app, ["serve", "--openai-realtime", target])
    assert result.exit_code == 2
    assert problem in result.output
