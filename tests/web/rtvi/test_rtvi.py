"""RTVI with a client: the hand-shake, the messages about the call, and the client's rights."""

from __future__ import annotations

import base64
import random
from datetime import datetime
from itertools import pairwise
from typing import Any

import anyio
import pytest

from duologue import Agent, Pipeline, Session
from duologue.audio.pcm import interleave
from duologue.errors import ConfigurationError, ServiceError, ToolError
from duologue.frames import AudioLevel, Dtmf, ErrorRaised, Frame, Usage, UserAudio
from duologue.services.llm import Request, ToolRequest
from duologue.transports.memory import MemoryTransport
from duologue.web.rtvi.rtvi import ClientTool
from tests.images.samples import PIXEL
from tests.testing.scripted.openai_client import RATE
from tests.web.realtime.calls import speech
from tests.web.rtvi.calls import RtviCall, running

WHERE = {
    "name": "get_location",
    "description": "Where the caller is.",
    "parameters": {"type": "object", "properties": {"exact": {"type": "boolean"}}},
}


def wants_a_tool(name: str, **arguments: Any) -> Any:
    def replies(request: Request) -> str | ToolRequest:
        last = request.messages[-1]
        if last.role == "tool":
            return f"I hear: {last.text}."
        return ToolRequest(call_id="c1", name=name, arguments=arguments)

    return replies


async def get_order(number: int) -> dict[str, str]:
    """Look up an order."""
    await anyio.sleep(0.2)
    return {"order": str(number)}


# -- the hand-shake ------------------------------------------------------------------------------------------------


async def test_the_agent_is_ready_once_the_client_is() -> None:
    async with running(RtviCall(), ready=False) as client:
        await anyio.sleep(1)
        assert client.sent == []
        ready = await client.ready("2.1.0")
        assert ready["id"] == "r1"
        assert ready["label"] == "rtvi-ai"
        assert ready["data"]["version"] == "2.2.0"
        assert ready["data"]["about"]["library"] == "duologue"


async def test_a_client_that_is_ready_before_the_session_waits_for_it() -> None:
    call = RtviCall()
    client = call.attach()
    client.say("client-ready", {"version": "2.0.0", "about": {}}, id="early")
    assert client.sent == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.session.run)
        assert (await client.until("bot-ready"))["id"] == "early"
        call.session.cancel()


async def test_a_client_of_version_1_gets_its_own_version_and_the_old_bot_output() -> None:
    async with running(RtviCall(), ready=False) as client:
        ready = await client.ready("1.2.0")
        assert ready["data"]["version"] == "1.2.0"
        client.type("hi")
        await client.until("bot-stopped-speaking")
        outputs = client.told("bot-output")
        sentences = [data["text"] for data in outputs if not data["spoken"]]
        words = [data["text"] for data in outputs if data["spoken"]]
        assert sentences == ["Hello there.", "How are you?"]
        assert " ".join(words) == "Hello there. How are you?"
        assert {data["aggregated_by"] for data in outputs if data["spoken"]} == {"word"}


@pytest.mark.parametrize("version", ["0.3.0", "7.0.0", "two", ""])
async def test_other_versions_are_refused_and_served_all_the_same(version: str) -> None:
    async with running(RtviCall(), ready=False) as client:
        ready = await client.ready(version)
        assert client.sent[0]["type"] == "error-response"
        assert f"version {version!r}" in client.sent[0]["data"]["error"]
        assert ready["data"]["version"] == "2.2.0"


async def test_what_was_said_before_is_told_to_a_client_that_is_late() -> None:
    async with running(RtviCall(), ready=False) as client:
        client.type("hi")
        await anyio.sleep(10)
        client.type("and again")
        await anyio.sleep(1.5)
        assert client.sent == []
        await client.ready()
        texts = [
            (m["type"], m["data"]["text"]) for m in client.sent if m["type"] in ("user-transcription", "bot-output")
        ]
        assert texts == [
            ("user-transcription", "hi"),
            ("bot-output", "Hello there. How are you?"),
            ("user-transcription", "and again"),
            ("bot-output", "Hello there."),
            ("bot-output", "How are you?"),
        ]
        assert [data["spoken_status"] for data in client.told("bot-output")] == ["completed", "new", "new"]
        assert client.told("bot-started-speaking")
        await client.until("bot-stopped-speaking")


# -- a spoken turn -------------------------------------------------------------------------------------------------


async def test_a_spoken_turn_is_told_from_the_first_sound_to_the_last() -> None:
    async with running(RtviCall()) as client:
        await client.speak(2.0)
        await client.until("bot-stopped-speaking")
        order = client.kinds(
            "user-started-speaking",
            "user-stopped-speaking",
            "bot-llm-started",
            "bot-tts-started",
            "bot-started-speaking",
            "bot-tts-stopped",
            "bot-stopped-speaking",
        )
        assert order[:3] == ["user-started-speaking", "user-stopped-speaking", "bot-llm-started"]
        assert set(order[3:5]) == {"bot-started-speaking", "bot-tts-started"}
        assert set(order[5:]) == {"bot-tts-stopped", "bot-stopped-speaking"}

        transcripts = client.told("user-transcription")
        assert [data["final"] for data in transcripts] == [False] * (len(transcripts) - 1) + [True]
        assert len(transcripts) > 2
        assert transcripts[-1]["text"] == "what are your opening hours"
        assert client.told("user-llm-text") == [{"text": "what are your opening hours"}]
        assert "".join(data["text"] for data in client.told("bot-llm-text")) == "Hello there. How are you?"


async def test_a_client_of_2_2_gets_the_callers_input_in_its_form_too() -> None:
    async with running(RtviCall(), ready=False) as client:
        await client.ready("2.2.0")
        await client.speak(1.0)
        transcripts = client.told("user-transcription")
        assert client.told("user-input") == [{**data, "input_type": "transcription"} for data in transcripts]
        assert transcripts[-1]["user_id"] == "client-1"
        assert datetime.fromisoformat(transcripts[-1]["timestamp"]).tzinfo is not None


async def test_what_is_spoken_is_told_as_it_is_heard() -> None:
    async with running(RtviCall()) as client:
        began = anyio.current_time()
        client.type("hi")
        await client.until("bot-stopped-speaking")
        took = anyio.current_time() - began
        outputs = client.told("bot-output")
        first = [data for data in outputs if data["segment_id"] == outputs[0]["segment_id"]]
        assert [data["spoken_status"] for data in first[:1]] == ["new"]
        assert first[-1]["spoken_status"] == "completed"
        assert all(data["text"] == "Hello there." and data["will_be_spoken"] for data in first)
        for data in outputs:
            progress = data["spoken_progress"]
            assert progress["accumulated_text"] + progress["remaining_text"] == data["text"]
        done = [len(data["spoken_progress"]["accumulated_text"]) for data in first]
        assert all(a <= b for a, b in pairwise(done))
        assert [data["text"] for data in outputs if data["spoken_status"] == "completed"] == [
            "Hello there.",
            "How are you?",
        ]
        assert len(outputs) < took * 10 + 4
        assert " ".join(data["text"] for data in client.told("bot-tts-text")) == "Hello there. How are you?"


async def test_an_interruption_leaves_what_was_not_heard_unspoken() -> None:
    async with running(
        RtviCall(["This is a long answer of many words which is cut. It never comes to this."])
    ) as client:
        client.type("hi")
        await client.until("bot-started-speaking")
        await anyio.sleep(1.0)
        client.type("stop")
        await client.until("bot-interrupted")
        before = client.sent[: client.sent.index(await client.until("bot-interrupted"))]
        heard = [m["data"]["spoken_progress"]["accumulated_text"] for m in before if m["type"] == "bot-output"]
        assert "This is" in heard[-1]
        assert not heard[-1].endswith("cut.")
        statuses = {m["data"]["spoken_status"] for m in before if m["type"] == "bot-output"}
        assert statuses == {"new", "in-progress"}
        assert "bot-tts-stopped" in [m["type"] for m in before]


async def test_markup_is_no_obstacle_to_progress() -> None:
    async with running(RtviCall(["**Yes**, see [the list](https://example.com/a) of _all_ of it."])) as client:
        client.type("hi")
        await client.until("bot-stopped-speaking")
        assert client.told("bot-output")[-1]["spoken_status"] == "completed"
        shares = [len(data["spoken_progress"]["accumulated_text"]) for data in client.told("bot-output")]
        assert shares == sorted(shares)


async def test_a_half_sentence_before_a_tool_call_is_told_when_it_is_heard() -> None:
    def replies(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return "Done."
        return ["One moment", ToolRequest(call_id="c1", name="get_order", arguments={"number": 1})]

    async with running(RtviCall(replies, tools=[get_order])) as client:
        client.type("order")
        await client.wait_for(lambda m: m["type"] == "bot-output" and m["data"]["text"] == "Done.")
        texts = [data["text"] for data in client.told("bot-output") if data["spoken_status"] == "new"]
        assert texts == ["One moment", "Done."]


# -- text ----------------------------------------------------------------------------------------------------------


async def test_typed_text_is_answered_and_interrupts() -> None:
    call = RtviCall(["A long answer that goes on and on. And on."])
    async with running(call) as client:
        client.type("first")
        await client.until("bot-started-speaking")
        client.type("second")
        await client.until("bot-interrupted")
        await client.until("bot-started-speaking", 2)
        assert [message.text for message in call.llm.requests[1].messages] == ["first\nsecond"]


async def test_text_that_is_not_to_be_run_waits_for_the_next_turn() -> None:
    call = RtviCall()
    async with running(call) as client:
        client.type("for your information", run_immediately=False)
        await anyio.sleep(5)
        assert call.llm.requests == []
        client.type("now")
        await client.until("bot-stopped-speaking")
        assert [message.text for message in call.llm.requests[0].messages] == ["for your information\nnow"]


async def test_an_answer_without_audio_is_shown_and_counts_as_read() -> None:
    call = RtviCall()
    async with running(call) as client:
        client.type("quietly", audio_response=False)
        await client.until("bot-llm-stopped")
        await anyio.sleep(5)
        assert client.chunks == 0
        assert [data["will_be_spoken"] for data in client.told("bot-output")] == [False, False]
        assert client.told("bot-started-speaking") == []
        assert [item.text for item in call.session.conversation] == ["quietly", "Hello there. How are you?"]
        client.type("aloud")
        await client.until("bot-started-speaking")
        assert client.told("bot-output")[-1]["will_be_spoken"] is True


async def test_an_image_is_seen_with_the_text_that_came_with_it() -> None:
    call = RtviCall()
    async with running(call) as client:
        picture = {"type": "bytes", "bytes": base64.b64encode(PIXEL).decode()}
        client.say("send-file", {"content": "what is this", "file": {"format": "image/png", "source": picture}})
        await client.until("bot-stopped-speaking")
        address = {"type": "url", "url": "https://localhost/a.jpg"}
        client.say("send-file", {"file": {"format": "image/jpeg", "name": "a.jpg", "source": address}})
        await client.until("bot-stopped-speaking", 2)
        assert "not a public address" in client.told("error")[0]["error"]
        images = [item.data for item in call.session.conversation if item.name == "image"]
        assert [image["image"] for image in images] == [PIXEL]
        assert len(call.llm.requests) == 2


# -- a camera ------------------------------------------------------------------------------------------------------

FRAME = {"bytes": base64.b64encode(PIXEL).decode(), "format": "image/png"}


async def test_the_newest_frame_of_a_camera_goes_with_the_text() -> None:
    call = RtviCall()
    async with running(call) as client:
        for _ in range(3):
            assert (await client.ask("duologue.camera", FRAME))["type"] == "server-response"
            await anyio.sleep(1)
        await client.ask("duologue.camera", {**FRAME, "source": "screen"})
        await anyio.sleep(1)
        client.type("what is this")
        await client.until("bot-stopped-speaking")
        images = [item.data for item in call.session.conversation if item.name == "image"]
        assert [(image["image"], image["source"]) for image in images] == [(PIXEL, "screen")]
        [message] = call.llm.requests[0].messages
        assert (message.image, message.text) == (PIXEL, "what is this")


async def test_frames_that_are_refused() -> None:
    call = RtviCall()
    async with running(call) as client:
        for bad, problem in (
            ({"bytes": "?"}, "base64"),
            ({"bytes": "AAAA"}, "the frame is not an image"),
            ({"bytes": ""}, "the frame is empty"),
            ({}, "bytes"),
            ({**FRAME, "source": "picture"}, "source"),
            ({**FRAME, "format": "text/html"}, "text/html"),
            (None, "bytes"),
        ):
            answer = await client.ask("duologue.camera", bad)
            assert answer["type"] == "error-response"
            assert problem in answer["data"]["error"]
        answers = [await client.ask("duologue.camera", FRAME) for _ in range(6)]
        assert [answer["type"] for answer in answers] == ["server-response"] * 4 + ["error-response"] * 2
        assert "2 frames of a camera a second" in answers[-1]["data"]["error"]
        for access in ("muted", "revoked"):
            call.session.set_access(access)
            await anyio.sleep(2)
            assert (await client.ask("duologue.camera", FRAME))["data"] == {"error": f"the caller is {access}"}
        assert not call.errors


# -- tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", ["none", "name", "full"])
async def test_a_function_call_is_told_as_far_as_the_application_allows(report: Any) -> None:
    call = RtviCall(wants_a_tool("get_order", number=7), tools=[get_order])
    call.client.rtvi.function_calls = report
    async with running(call) as client:
        client.type("where is my order")
        await client.until("llm-function-call-stopped")
        named = {} if report == "none" else {"function_name": "get_order"}
        full = report == "full"
        assert client.told("llm-function-call-started") == [named]
        progress = {"tool_call_id": "c1", **named, **({"arguments": {"number": 7}} if full else {})}
        assert client.told("llm-function-call-in-progress") == [progress]
        result = {"result": {"order": "7"}} if full else {}
        assert client.told("llm-function-call-stopped") == [
            {"tool_call_id": "c1", "cancelled": False, **named, **result}
        ]


async def test_a_tool_runs_in_the_client() -> None:
    call = RtviCall(wants_a_tool("get_location", exact=True), tools=[ClientTool(WHERE)])
    async with running(call) as client:
        client.type("where am I")
        asked = await client.until("llm-function-call-in-progress")
        assert asked["data"] == {
            "function_name": "get_location",
            "tool_call_id": "c1",
            "arguments": {"exact": True},
        }
        client.say("llm-function-call-result", {**asked["data"], "result": {"city": "Oslo"}})
        stopped = await client.until("llm-function-call-stopped")
        assert stopped["data"]["cancelled"] is False
        await client.until("bot-stopped-speaking")
        assert "Oslo" in call.session.conversation.items[-1].text
        assert client.told("llm-function-call-in-progress") == [asked["data"]]


async def test_a_client_of_version_1_runs_a_tool_once() -> None:
    agent = Agent(name="Ann", tools=(ClientTool(WHERE),))
    call = RtviCall(wants_a_tool("get_location"), agent=agent)
    async with running(call, ready=False) as client:
        await client.ready("1.0.0")
        client.type("where am I")
        asked = await client.until("llm-function-call")
        assert asked["data"] == {"function_name": "get_location", "tool_call_id": "c1", "args": {}}
        assert client.told("llm-function-call-in-progress") == [{"tool_call_id": "c1"}]  # a name would start it again
        client.say(
            "llm-function-call-result", {"function_name": "get_location", "tool_call_id": "c1", "result": "Oslo"}
        )
        await client.until("llm-function-call-stopped")
        client.say("llm-function-call-result", {"tool_call_id": "c1", "result": "Bergen"}, id="again")
        assert [item.data for item in call.session.conversation if item.kind == "tool_result"] == ["Oslo"]
        assert client.told("error-response") == []


async def test_a_client_that_gives_no_result_does_not_hold_the_agent_up() -> None:
    call = RtviCall(wants_a_tool("get_location"), tools=[ClientTool(WHERE, timeout_s=3)])
    async with running(call) as client:
        client.type("where am I")
        stopped = await client.until("llm-function-call-stopped")
        assert stopped["data"]["cancelled"] is True
        await client.until("bot-started-speaking")


async def test_a_tool_of_the_clients_fails_while_the_client_is_not_ready() -> None:
    call = RtviCall(wants_a_tool("get_location"), tools=[ClientTool(WHERE)])
    async with running(call, ready=False) as client:
        client.type("where am I")
        await anyio.sleep(2)
        results = [item.text for item in call.session.conversation if item.kind == "tool_result"]
        assert "not ready" in results[0]


async def test_a_result_that_nobody_waits_for_is_refused() -> None:
    async with running(RtviCall()) as client:
        client.say("llm-function-call-result", {"tool_call_id": "nothing", "result": 1})
        assert "'nothing'" in (await client.until("error-response"))["data"]["error"]


# -- the application's messages ------------------------------------------------------------------------------------


async def test_the_application_answers_client_messages() -> None:
    call = RtviCall(may_fail=True)

    async def later(data: Any) -> Any:
        await anyio.sleep(1)
        return {"got": data}

    def fail(data: Any) -> None:
        raise RuntimeError("the database's password is 1234")

    call.client.rtvi.on_client_message("double", lambda n: 2 * n, model=int)
    call.client.rtvi.on_client_message("later", later)
    call.client.rtvi.on_client_message("fail", fail)
    with pytest.raises(ConfigurationError, match="'later'"):
        call.client.rtvi.on_client_message("later", later)
    async with running(call) as client:
        assert (await client.ask("double", 21))["data"] == {"t": "double", "d": 42}
        assert (await client.ask("later", [1]))["data"] == {"t": "later", "d": {"got": [1]}}
        for t, d, error in (
            ("double", "x", "Expected `int`"),
            ("nobody", None, "Unsupported client message 'nobody'"),
            ("fail", None, "an error of the application"),
        ):
            answer = await client.ask(t, d)
            assert answer["type"] == "error-response"
            assert error in answer["data"]["error"]


async def test_only_so_many_client_messages_are_answered_at_once() -> None:
    call = RtviCall()

    async def never(data: Any) -> None:
        await anyio.sleep_forever()

    call.client.rtvi.on_client_message("wait", never)
    async with running(call) as client:
        for number in range(17):
            client.say("client-message", {"t": "wait"}, id=f"w{number}")
        refused = await client.until("error-response")
        assert refused["id"] == "w16"
        await anyio.sleep(0.1)


async def test_server_messages_wait_for_the_client() -> None:
    call = RtviCall()
    call.client.rtvi.send_server_message({"welcome": True})
    async with running(call) as client:
        call.client.rtvi.send_server_message([1, None])
        assert client.kinds("bot-ready", "server-message") == ["bot-ready", "server-message", "server-message"]
        assert client.told("server-message") == [{"welcome": True}, [1, None]]


# -- other messages of a client, and to it --------------------------------------------------------------------------


async def test_keys_and_raw_audio_reach_the_pipeline() -> None:
    call = RtviCall()
    seen: list[Frame] = []
    async with running(call) as client:
        call.session.observe(lambda processor, direction, frame: seen.append(frame))
        client.say("dtmf", {"buttons": ["1", "#"]})
        client.say("dtmf", {"button": "5"})
        audio = base64.b64encode(speech(0.1)).decode()
        client.say("raw-audio", {"base64Audio": audio, "sampleRate": RATE, "numChannels": 1})
        client.say("raw-audio-batch", {"base64AudioBatch": [audio, audio], "sampleRate": 2 * RATE, "numChannels": 2})
        await anyio.sleep(0.1)
        digits = [f.digit for f in seen if isinstance(f, Dtmf)]
        assert list(dict.fromkeys(digits)) == ["1", "#", "5"]
        rates = {(f.sample_rate, len(f.audio)) for f in seen if isinstance(f, UserAudio)}
        assert rates == {(RATE, len(speech(0.1))), (2 * RATE, len(speech(0.1)))}
        assert client.told("error-response") == []


async def test_a_text_with_half_a_character_is_taken_and_audio_may_be_cut_anywhere() -> None:
    call = RtviCall()
    audio = speech(0.1)
    stereo = interleave(audio, audio)
    async with running(call) as client:
        seen: list[UserAudio] = []
        call.session.observe(lambda node, way, frame: seen.append(frame) if isinstance(frame, UserAudio) else None)
        for start in range(0, len(stereo), 1001):
            piece = base64.b64encode(stereo[start : start + 1001]).decode()
            client.say("raw-audio", {"base64Audio": piece, "sampleRate": 2 * RATE, "numChannels": 2})
        client.say("send-text", {"content": "Hello \ud83d", "options": {"run_immediately": True}})
        await client.until("bot-started-speaking")
        heard = {(frame.at, frame.audio) for frame in seen if frame.sample_rate == 2 * RATE}
        assert b"".join(pcm for _, pcm in sorted(heard)) == audio
        assert [item.text for item in call.session.conversation if item.role == "caller"] == ["Hello \ufffd"]
        assert client.told("error-response") == []


async def test_the_client_ends_the_call_when_it_likes() -> None:
    call = RtviCall(["A story that is much longer than anybody has patience for. " * 5])
    client = call.attach()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.session.run)
        await client.ready()
        client.type("hi")
        await client.until("bot-started-speaking")
        began = anyio.current_time()
        client.say("disconnect-bot", None)
    assert call.session.state.value == "ended"
    assert anyio.current_time() - began < 1


async def test_muting_levels_usage_and_errors_are_told() -> None:
    call = RtviCall(may_fail=True)
    call.client.rtvi.audio_levels = call.client.rtvi.metrics = True
    async with running(call) as client:
        call.session.set_access("muted")
        call.session.set_access("active")
        assert client.kinds("user-mute-started", "user-mute-stopped") == ["user-mute-started", "user-mute-stopped"]
        call.session.broadcast(AudioLevel(who="agent", dbfs=-20.0))
        assert client.told("bot-audio-level") == [{"value": 0.1}]
        call.session.broadcast(Usage(service="Test", input_tokens=1, characters=5, discarded=True))
        assert client.told("metrics") == []
        call.session.report(ServiceError("no line"), "Test")
        call.session.report(RuntimeError("the password is 1234"), "Test")
        assert client.told("error") == [
            {"error": "no line", "fatal": False},
            {"error": "an internal error", "fatal": False},
        ]
        await client.speak(1.0)
        await client.until("bot-stopped-speaking")
        metrics = client.told("metrics")
        ttfb = next(data["ttfb"] for data in metrics if "ttfb" in data)
        assert {entry["processor"] for entry in ttfb} == {"MockSTT", "MockLLM", "MockTTS"}
        assert next(e["value"] for e in ttfb if e["processor"] == "MockLLM") == pytest.approx(0.15, abs=0.02)
        tokens = next(data["tokens"] for data in metrics if "tokens" in data)[0]
        assert tokens["total_tokens"] == tokens["prompt_tokens"] + tokens["completion_tokens"] > 0
        assert any("characters" in data for data in metrics)


@pytest.mark.parametrize("metrics", [False, True])
async def test_pushes_are_never_watched(metrics: bool) -> None:
    call = RtviCall()
    call.client.rtvi.metrics = metrics
    async with running(call, page=True):
        assert call.session.host.tap is None


BAD: list[dict[str, Any]] = [
    {"type": "no-such-type"},
    {"type": None},
    {"type": 7, "id": 7},
    {},
    {"type": "client-ready", "data": "now"},
    {"type": "client-message", "data": {"d": 1}},
    {"type": "client-message", "data": []},
    {"type": "send-text", "data": {"content": 3}},
    {"type": "send-text", "data": {"content": ""}},
    {"type": "send-text", "data": {"content": "x" * 20_000}},
    {"type": "send-text"},
    {"type": "send-text", "data": {"content": ""}, "id": 7},
    {"type": "send-file", "data": {"file": {"format": "text/plain", "source": {"type": "bytes", "bytes": "AAAA"}}}},
    {"type": "send-file", "data": {"file": {"format": "image/png", "source": {"type": "bytes", "bytes": "?"}}}},
    {"type": "send-file", "data": {"file": {"format": "image/png", "source": {"type": "bytes"}}}},
    {"type": "send-file", "data": {"file": {"format": "image/png", "source": {"type": "url", "url": "file:///x"}}}},
    {"type": "llm-function-call-result", "data": {"result": 1}},
    {"type": "dtmf", "data": {"buttons": ["12"]}},
    {"type": "dtmf", "data": {}},
    {"type": "raw-audio", "data": {"base64Audio": "?", "sampleRate": 16000, "numChannels": 1}},
    {"type": "raw-audio", "data": {"base64Audio": "AAA=", "sampleRate": 0, "numChannels": 1}},
    {"type": "raw-audio", "data": {"base64Audio": "AAA=", "sampleRate": 16000, "numChannels": 0}},
    {"type": "append-to-context", "data": {"role": "user", "content": "x"}},
]


@pytest.mark.parametrize("message", BAD, ids=lambda m: str(m)[:60])
async def test_what_is_malformed_is_answered_and_harms_nobody(message: dict[str, Any]) -> None:
    call = RtviCall()
    async with running(call) as client:
        client.received_message({"label": "rtvi-ai", "id": "bad", **message})
        answer = client.sent[-1]
        assert answer["type"] == "error-response"
        assert answer["data"]["error"]
        assert answer.get("id") == ("bad" if isinstance(message.get("id", "bad"), str) else None)
        client.type("still there?")
        await client.until("bot-started-speaking")


async def test_thousands_of_random_messages_harm_nobody() -> None:
    chance = random.Random(4)
    kinds = ["send-text", "client-message", "dtmf", "raw-audio", "raw-audio-batch", "llm-function-call-result", "x", ""]
    names = ["content", "options", "t", "d", "buttons", "button", "base64Audio", "sampleRate", "tool_call_id", "file"]

    def anything(depth: int = 0) -> Any:
        plain = [None, True, -1, 10**30, 1e300, "", "AAAA", "1", "\ud800", "x" * 300]
        if depth > 3 or chance.random() < 0.5:
            return chance.choice(plain)
        if chance.random() < 0.3:
            return [anything(depth + 1) for _ in range(chance.randrange(4))]
        return {chance.choice(names): anything(depth + 1) for _ in range(chance.randrange(5))}

    call = RtviCall()
    errors: list[ErrorRaised] = []
    call.session.on(ErrorRaised, errors.append)
    async with running(call) as client:
        for number in range(3000):
            message = {"label": "rtvi-ai", "type": chance.choice(kinds), "data": anything(), "id": anything()}
            client.received_message(message)
            if number % 100 == 0:
                await anyio.sleep(0.1)
        assert [error for error in errors if error.category == "internal"] == []
        client.sent.clear()
        assert (await client.ask("nobody"))["type"] == "error-response"


async def test_messages_of_others_are_left_alone() -> None:
    async with running(RtviCall()) as client:
        before = len(client.sent)
        client.received_message({"type": "audio", "data": "AAAA"})
        client.received_message({"label": "other", "type": "client-ready"})
        assert len(client.sent) == before


async def test_a_tool_of_the_clients_in_a_call_without_a_client_says_so() -> None:
    transport = MemoryTransport()
    session = Session(Pipeline([transport.input(), transport.output()]))
    with pytest.raises(ToolError, match="this call has no RTVI client"):
        await ClientTool(WHERE).call(session, {})
