"""Every example runs, on the virtual clock, and does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

import examples.barge_in
import examples.cascade
import examples.dashboard
import examples.eager
import examples.engines
import examples.handoff
import examples.hello
import examples.hooks
import examples.idle
import examples.knowledge
import examples.mcp_tools
import examples.own_processor
import examples.push_to_talk
import examples.tool
import examples.trace
import examples.vision
from duologue import Pipeline, Session, Tools
from duologue.cli.local_model import VOICE_ALIASES, serving
from duologue.errors import ConfigurationError
from duologue.frames import UserText
from duologue.services.google import GeminiLive
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak
from duologue.testing.websocket import serving as serving_app
from duologue.web.realtime.transport import RealtimeTransport
from examples.offline import offline

EXAMPLES = sorted(
    path
    for path in Path(examples.hello.__file__).parent.glob("*.py")
    if path.name != "__init__.py" and not path.name.startswith("test_")
)


def said(session: Session, role: str) -> list[str]:
    return [item.text for item in session.conversation if item.kind == "message" and item.role == role]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_under_sixty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


async def test_hello() -> None:
    session = await examples.hello.main()
    assert said(session, "caller") == ["hello", "what can you do"]
    assert said(session, "agent") == ["Hello! Nice to hear you.", "I can hear you, and I can speak."]


async def test_push_to_talk() -> None:
    session = await examples.push_to_talk.main()
    assert said(session, "caller") == ["hello"]
    assert said(session, "agent") == ["Hello! Hold the button while you speak."]
    assert session.microphone.dropped_s > 1.0


async def test_tool() -> None:
    session = await examples.tool.main()
    assert said(session, "agent") == [
        "In which city?",
        "It is 17 degrees in london.",
        "It is 21 degrees in paris.",
    ]
    results = [item.data for item in session.conversation if item.kind == "tool_result"]
    assert results == [{"temperature": 17}, {"temperature": 21}]


async def test_mcp_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert await examples.mcp_tools.main() == ["in_stock", "3 in stock"]
    assert "We have three tents." in capsys.readouterr().out


async def test_handoff() -> None:
    session = await examples.handoff.main()
    talkers = [item.agent for item in session.conversation if item.kind == "message" and item.role == "agent"]
    assert talkers == ["Reception", "Billing", "Billing"]
    assert said(session, "agent")[-1] == "You owe forty two dollars."


async def test_own_processor(capsys: pytest.CaptureFixture[str]) -> None:
    session = await examples.own_processor.main()
    assert said(session, "agent") == ["Hello! Is this quiet enough?"]
    assert "softened" in capsys.readouterr().out


async def test_vision(tmp_path: Path) -> None:
    call = await examples.vision.main(scripted=True)
    assert call.said_by_agent == ["That is red.", "Now it is green."]
    (tmp_path / "wall.png").write_bytes(examples.vision.painted("green"))
    call = await examples.vision.main(str(tmp_path / "wall.png"), scripted=True)
    assert call.said_by_agent == ["Now it is green."] * 2


async def test_barge_in() -> None:
    murmured, interrupted = await examples.barge_in.main()
    (story,) = [item for item in murmured.conversation if item.role == "agent"]
    assert story.status == "complete"
    assert story.text.endswith("the fish of the sea.")
    cut, reply = [item for item in interrupted.conversation if item.role == "agent"]
    assert cut.status == "interrupted"
    assert not cut.text.endswith("the fish of the sea.")
    assert reply.text == "All right, I stop."


def talkers(session: Session) -> list[str]:
    return [item.agent for item in session.conversation if item.kind == "message" and item.role == "agent"]


async def test_idle() -> None:
    session = await examples.idle.main()
    prompts = ["Are you still there?", "Hello?", "I will hang up now. Goodbye."]
    assert said(session, "agent") == ["Hello! What can I do for you?", *prompts]


async def test_eager(capsys: pytest.CaptureFixture[str]) -> None:
    late_ms, early_ms = await examples.eager.main()
    assert late_ms - early_ms > 300
    assert "eager_ms=250: the agent is heard after" in capsys.readouterr().out


async def test_engines_on_the_cascade() -> None:
    session = await examples.engines.main("cascade")
    assert talkers(session) == ["Reception", "Billing", "Billing"]
    assert said(session, "agent")[-1] == "You owe forty two dollars."


@pytest.mark.parametrize(
    ("stt", "llm", "tts"),
    [
        ("deepgram", "openai", "elevenlabs"),
        ("deepgram-flux", "gemini", "openai"),
        ("elevenlabs", "openai-responses", "deepgram"),
        ("openai", "gemini", "deepgram-flux"),
        ("openai-file", "openai", "elevenlabs-http"),
        ("assemblyai", "openai-responses", "cartesia"),
        ("cartesia", "gemini", "cartesia"),
    ],
)
async def test_cascade_on_scripted_vendors(stt: str, llm: str, tts: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = await examples.cascade.main(stt, llm, tts, scripted=True)
    assert call.log == ["caller: What is the weather in Paris?", "agent: It is sunny in Paris, and 21 degrees."]
    printed = capsys.readouterr().out
    assert "What is the weather in Paris?" in printed
    assert "ms after the question: endpointing " in printed


async def test_cascade_on_the_vendors_asks_for_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set DEEPGRAM_API_KEY"):
        await examples.cascade.main("deepgram", "openai", "elevenlabs")


async def test_engines_on_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is a cascade behind OpenAI's protocol."""

    def model(transport: RealtimeTransport) -> Session:
        engine = offline(examples.handoff.RULES, VOICE_ALIASES)
        ears, tools = transport.turns(), transport.client_tools()
        return Session(Pipeline([transport.input(), ears, engine, tools, Tools(), transport.output()]))

    async with serving(model) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        session = await examples.engines.main("openai")
    assert talkers(session)[0] == "Reception"
    assert talkers(session)[-1] == "Billing"
    assert said(session, "agent")[-1] == "You owe forty two dollars."


async def test_engines_on_gemini() -> None:
    """The model is a script behind Gemini's protocol."""

    def model(asked: Asked) -> list[Act]:
        if "owe" in asked.said:
            return [Speak("You owe forty two dollars.")]
        if "billing" in asked.said:
            arguments = {"target": "Billing", "reason": "A bill.", "summary": "A question about a bill."}
            return [CallTool("handoff_conversation", arguments)]
        return [Speak("Hello! How can I help you?")]

    lines = ["hello", "can I speak to billing please", "how much do I owe"]
    async with ScriptedGemini(model, transcripts=lines) as server:
        engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        session = await examples.engines.main("gemini", engine)
    assert said(session, "caller") == lines
    assert said(session, "agent")[-1] == "You owe forty two dollars."
    assert talkers(session)[-1] == "Billing"


async def test_trace() -> None:
    whole, copy = await examples.trace.main()
    assert (whole.ok, whole.ended, whole.redacted_records) == (True, True, 0)
    assert (copy.ok, copy.records) == (True, whole.records + 1)
    assert copy.redacted_records > 0


async def test_hooks() -> None:
    session = await examples.hooks.main()
    assert said(session, "caller")[0] == "my code is hidden"
    results = [item.data for item in session.conversation if item.kind == "tool_result"]
    assert results == [{"status": "made"}, {"status": "refused"}]


async def test_knowledge() -> None:
    session = await examples.knowledge.main()
    assert said(session, "agent") == ["There is a free parking place behind the house.", "I do not know."]


async def test_dashboard() -> None:
    async with (
        serving_app(examples.dashboard.app, lifespan="on") as address,
        connect(f"ws://{address}/voice/ws", proxy=None) as caller,
    ):
        await caller.recv()
        (call,) = examples.dashboard.voice.calls
        assert call.session is not None
        async with connect(f"ws://{address}/listen/{call.transport.id}", proxy=None) as board:
            await call.session.send(UserText(text="hello"))
            assert json.loads(await board.recv())["message"] == "hello"
