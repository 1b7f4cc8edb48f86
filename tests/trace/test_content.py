"""What a trace has of a call: the same for native engines and cascades, and nothing that was to be left out."""

from __future__ import annotations

import stat
from base64 import b64decode
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import convert

from duologue import Cascade, Pipeline, Session
from duologue.agents.agent import Agent
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.processors.tools import Tools
from duologue.services.context import ToolRequest
from duologue.session.cost import Cost
from duologue.session.life import State
from duologue.session.prices import Price
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.trace import FolderStore, Record, Trace, read, state_of, verify
from duologue.trace.export import CallSummary
from duologue.transports.memory import MemoryTransport
from tests.services.ear_calls import ENGINES, ear, engine, speaks
from tests.services.story import story
from tests.trace.calls import asked, cascade, recorded, weather

PROMPT = "You tell the weather and nothing else."


def of_kind(records: list[Record], kind: str) -> list[Any]:
    return [record.content for record in records if record.kind == kind]


def wants_weather(told: str) -> str | ToolRequest:
    if told.endswith("weather?"):
        return ToolRequest(call_id="c1", name="weather", arguments={"city": "Pune"})
    return "There are heavy clouds over Pune."


@pytest.mark.parametrize("kind", ENGINES)
async def test_each_turn_leaves_the_same_audit_record(kind: str, tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with engine(kind, ["How is the weather?"], wants_weather) as agent:
        agents = Agent(name="Ann", instructions=PROMPT, tools=(Tool(weather),))
        async with Call.through(*ear(), agent, Tools(), agent=agents, trace=trace) as call:
            await speaks(call)
            await call.hears()
    records = list(read(trace.store, trace.call))
    assert verify(trace.store, trace.call).ok
    items = {(item["kind"], item["role"]): item for item in of_kind(records, "item") if "removed" not in item}
    assert items["message", "caller"]["text"] == "How is the weather?"
    assert items["message", "agent"]["text"] == "There are heavy clouds over Pune."
    assert items["message", "agent"]["heard_s"] > 1
    assert items["tool_call", "agent"]["data"] == {"city": "Pune"}
    assert items["tool_result", "tool"]["data"] == {"city": "Pune", "sky": "heavy clouds"}
    heard = of_kind(records, "heard")[-1]
    assert (heard["text"], heard["complete"]) == ("There are heavy clouds over Pune.", True)
    assert heard["heard_s"] == pytest.approx(heard["sent_s"])
    (answering,) = of_kind(records, "engine")
    assert (answering["agent"], answering["tools"], len(answering["prompt_sha256"])) == ("Ann", ["weather"], 64)
    assert PROMPT not in str(records)
    timed = [event for event in of_kind(records, "event") if event.get("event") == "turn_timed"]
    assert timed
    assert timed[0]["total_ms"] > 0
    assert of_kind(records, "usage")
    (end,) = of_kind(records, "end")
    assert (end["reason"], end["error"], end["items"]) == ("hung up", "", 4)


async def test_the_heard_part_is_attested_and_not_the_generated(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace) as call:
        await asked(call)
    records = list(read(trace.store, trace.call))
    heard = of_kind(records, "heard")[-1]
    assert (heard["text"], heard["generated"]) == ("It is cloudy", "It is cloudy in Pune today.")
    assert heard["complete"] is False
    assert heard["heard_s"] < heard["sent_s"]


async def test_without_words_nothing_private_is_in_it(tmp_path: Path) -> None:
    trace = Trace(tmp_path, words=False, handles=False)
    async with cascade(trace) as call:
        trace.note("wire", {"text": "Pune"})
        trace.note("tool", {"result": "clouds"}, source="weather#1")
        await asked(call)
    text = (tmp_path / f"{trace.call}.jsonl").read_text()
    for word in ("Hello", "Pune", "cloud"):
        assert word not in text
    assert verify(trace.store, trace.call).ok


async def test_handles_are_an_option_of_their_own(tmp_path: Path) -> None:
    trace = Trace(tmp_path, words=False)
    async with engine("gemini", ["Hello."]) as agent, Call.through(*ear(), agent, trace=trace) as call:
        await speaks(call)
        await call.hears()
    assert state_of(read(trace.store, trace.call)).handles.keys() == {"GeminiLive"}


async def test_a_trace_without_words_has_no_audio(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="audio has the words"):
        Trace(tmp_path, words=False, audio=True)


@pytest.mark.parametrize("audio", [False, "caller", True])
async def test_audio_by_option_in_records_of_a_second(audio: Any, tmp_path: Path) -> None:
    trace, transport = Trace(tmp_path, audio=audio), MemoryTransport()
    async with story(
        transport.output(),
        before=(transport.input(),),
        llm=MockLLM(["It rains."]),
        tts=MockTTS(seconds_per_sentence=2.0),
        trace=trace,
    ) as call:
        for number in range(110):
            transport.input().feed(bytes([number, 0]) * 320, 16_000)
            await anyio.sleep(0.02)
        await call.types("Hello.")
        await anyio.sleep(3)
    pieces = of_kind(list(read(trace.store, trace.call)), "audio")
    sides = {who: b"".join(b64decode(p["pcm"]) for p in pieces if p["who"] == who) for who in ("caller", "agent")}
    wanted = {False: (0, 0), "caller": (2.2, 0), True: (2.2, 2.0)}[audio]
    assert (len(sides["caller"]) / 32_000, len(sides["agent"]) / 32_000) == pytest.approx(wanted)
    assert len(pieces) <= 6


async def test_the_agents_audio_is_what_was_heard_of_it(tmp_path: Path) -> None:
    trace = Trace(tmp_path, audio=True)
    async with cascade(trace) as call:
        await asked(call)
    records = list(read(trace.store, trace.call))
    seconds = sum(p["samples"] / p["sample_rate"] for p in of_kind(records, "audio") if p["who"] == "agent")
    assert seconds == pytest.approx(sum(h["heard_s"] for h in of_kind(records, "heard")), abs=0.021)


async def test_handles_and_keys_stay_out_of_it(tmp_path: Path) -> None:
    kept, left = Trace(tmp_path), Trace(tmp_path, handles=False)
    for trace in (kept, left):
        async with engine("gemini", ["Hello."]) as agent, Call.through(*ear(), agent, trace=trace) as call:
            trace.note("wire", '{"setup":{"api_key":"AIza-secret","newHandle":"handle-1"}}', source="GeminiLive#1")
            trace.note("wire", {"Authorization": "Bearer sk-secret"}, source="GeminiLive#1")
            await speaks(call)
            await call.hears()
    for trace, handles in ((kept, True), (left, False)):
        text = (tmp_path / f"{trace.call}.jsonl").read_text()
        assert "secret" not in text.replace("(secret)", "")
        assert ("handle-1" in text) is handles
        assert ("handle" in {record.kind for record in read(trace.store, trace.call)}) is handles


@pytest.mark.parametrize(
    "message",
    [
        {"client_secret": {"value": "ek_CANARY", "expires_at": 1}},
        '{"client_secret":{"value":"ek_CANARY"}}',
        {"headers": {"xi-api-key": "CANARY", "X-Goog-Api-Key": "CANARY", "Authorization": ["Bearer CANARY"]}},
        {"headers": [["Authorization", "Bearer CANARY"], ["cookie", "CANARY"]]},
        {"url": "wss://example.com/v1?model=m&key=CANARY&x=1"},
        {"url": "https://example.com/?access_token=CANARY#a"},
        {"token": "tok_0123456789_CANARY", "refresh_token": "CANARY", "password": "CANARY"},
        {"api_key": 'CAN"ARY', "apiKey": "CANARY"},
    ],
)
async def test_no_form_of_a_secret_stays_in_a_message(message: Any, tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with Call.through(*ear(), Cascade(MockSTT(), MockLLM(), MockTTS()), trace=trace):
        trace.note("wire", message, source="X#1")
        trace.note("wire", {"way": "in", "text": '{"token_count": 7, "key": "C", "value": "of a key"}'}, source="X#1")
    wires = [record for record in read(trace.store, trace.call) if record.kind == "wire"]
    assert "ARY" not in str(wires[0].private)
    assert wires[1].private["text"] == '{"token_count": 7, "key": "C", "value": "of a key"}'
    assert verify(tmp_path / f"{trace.call}.jsonl").ok


@pytest.mark.parametrize("options", [{"words": "no"}, {"words": None}, {"handles": 0}, {"store": None}, {"store": ""}])
def test_an_option_that_cannot_be_obeyed_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Trace(**{"store": tmp_path} | options)


@pytest.mark.parametrize("id", ["../../etc/x", "a" * 300, "नमस्ते", ".", "a\nb\0c", "con:*?"])
def test_any_session_id_is_safe(id: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "calls"
    path = recorded(folder, id=id)
    assert path.parent == folder
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (first, *_) = read(path)
    assert first.facts["session_id"] == id
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["new", "calls", path.name])


async def test_two_calls_of_one_id_do_not_mix(tmp_path: Path) -> None:
    one, two = Trace(tmp_path), Trace(tmp_path)
    async with cascade(one, id="same") as first, cascade(two, id="same") as second:
        await first.types("One.")
        await second.types("Two.")
        await anyio.sleep(4)
    assert one.call != two.call
    for trace, word in ((one, "One."), (two, "Two.")):
        assert verify(trace.store, trace.call).ok
        assert [
            i["text"] for i in of_kind(list(read(trace.store, trace.call)), "item") if i.get("role") == "caller"
        ] == [word]


async def test_a_trace_is_of_one_call(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace):
        pass
    with pytest.raises(ConfigurationError, match="of one call"):
        await story(MemoryTransport().output(), trace=trace).session.run()
    assert len(FolderStore(tmp_path).names()) == 1


class Odd:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


async def test_any_data_can_be_noted(tmp_path: Path) -> None:
    own: list[Any] = []
    own.append(own)
    given = (Odd(), own, {"a": float("nan")}, {"b": "\ud800", "c": 1}, {("c",): 1}, 1e308, b"\0\xff", "x" * 5_000_000)
    trace = Trace(tmp_path)
    async with cascade(trace, id="\ud800 id"):
        for data in given:
            trace.note("hook", data, source="odd")
    records = [record for record in read(trace.store, trace.call) if record.kind == "hook"]
    contents = [record.content for record in records]
    assert contents[0] == "Odd"
    assert contents[2:5] == [{"a": None}, {"b": "?", "c": 1}, {"('c',)": 1}]
    assert contents[5:] == [1e308, b"\0\xff", {"left_out_bytes": 5_000_002}]
    assert verify(trace.store, trace.call).ok


@pytest.mark.parametrize(
    "kind", ["begin", "end", "seal", "gap", "redaction", "\ud800", "", "x" * 1_000, None, 1, Odd()]
)
async def test_any_kind_can_be_noted(kind: Any, tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace):
        trace.note(kind, {"a": 1}, source=kind)
        trace.note("custom", {"a": 2})
    records = list(read(trace.store, trace.call))
    assert [record.facts["a"] for record in records if isinstance(record.facts, dict) and "a" in record.facts] == [1, 2]
    result = verify(trace.store, trace.call)
    assert (result.ok, result.ended, result.not_written) == (True, True, 0)


async def test_the_calls_of_a_vendor_and_model_the_newest_first(tmp_path: Path) -> None:
    names = []
    for kind in ("gemini", "openai", "gemini", "cascade"):
        trace = Trace(tmp_path)
        async with engine(kind, ["Hello."]) as agent, Call.through(*ear(), agent, trace=trace):
            pass
        names.append(trace.call)
    store = FolderStore(tmp_path)
    assert set(store.calls()) == set(names)
    assert set(store.calls("google")) == {names[0], names[2]}
    model = next(iter(read(store, names[1]))).facts["engines"][0]["services"][0]["model"]
    assert list(store.calls("openai", model)) == [names[1]]
    assert list(store.calls("openai", "another")) == []


async def test_without_a_trace_a_session_has_none() -> None:
    call = story(MemoryTransport().output())
    assert call.session.trace is None
    assert call.session.state is State.NEW


async def test_the_end_has_the_cost(tmp_path: Path) -> None:
    trace, transport = Trace(tmp_path), MemoryTransport()
    prices = {"MockLLM": Price(text_input=1000.0, text_output=1000.0), "MockTTS": Price(characters=50.0)}
    pipeline = Pipeline([transport.input(), Cascade(MockSTT(), MockLLM(["Good day."]), MockTTS()), transport.output()])
    async with Call(Session(pipeline, prices=prices, trace=trace), transport) as call:
        await call.types("hello")
    (end,) = of_kind(list(read(trace.store, trace.call)), "end")
    assert convert(end["cost"], Cost) == call.outcome.cost
    assert call.outcome.cost.usd > 0
    assert CallSummary(trace.store, trace.call).plain()["cost"]["usd"] == call.outcome.cost.usd
