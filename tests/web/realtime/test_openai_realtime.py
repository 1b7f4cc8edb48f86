"""A pipeline behind OpenAI's Realtime API, with the official SDK as its client."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from duologue.frames import Usage
from duologue.services.context import ToolRequest
from tests.testing.scripted.openai_client import MANUAL, RATE, silence
from tests.web.realtime.calls import Mocks, call, speech

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_a_spoken_turn_is_answered_with_audio_and_both_transcripts() -> None:
    mocks = Mocks(["Good morning. How are you?"], ["hello there"], tts={"seconds_per_sentence": 1.0})
    async with call(mocks) as client:
        assert client.events[0]["session"]["model"] == "local"
        await client.update(audio={"input": {"transcription": {"model": "any"}}})
        mocks.sessions[0].broadcast(Usage(service="Test", output_tokens=100, discarded=True))
        await client.speak(silence(1.0) + speech(1.0) + silence(1.0))
        done = await client.until("response.done")
        started = client.all("input_audio_buffer.speech_started")
        stopped = client.all("input_audio_buffer.speech_stopped")
        assert len(started) == len(stopped) == 1
        assert started[0]["audio_start_ms"] == pytest.approx(800, abs=60)
        assert stopped[0]["audio_end_ms"] == pytest.approx(2500, abs=60)
        order = [kind for kind in client.kinds()[2:] if not kind.endswith(".delta")]
        assert order == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.completed",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        assert client.all("conversation.item.input_audio_transcription.completed")[0]["transcript"] == "hello there"
        assert done["response"]["output"][0]["content"][0]["transcript"] == "Good morning. How are you?"
        assert done["response"]["usage"]["output_tokens"] == 5
        assert len(client.audio()) == 2 * 2 * RATE
        assert [item.text for item in mocks.sessions[0].conversation] == ["hello there", "Good morning. How are you?"]


async def test_audio_is_sent_as_it_is_made_and_not_paced() -> None:
    async with call(Mocks(["One. Two. Three."], tts={"seconds_per_sentence": 2.0, "speed": 100.0})) as client:
        await client.type("go")
        await client.send("response.create")
        before = anyio.current_time()
        await client.until("response.done")
        assert len(client.audio()) == 6 * RATE * 2
        assert anyio.current_time() - before < 0.6


async def test_a_function_of_the_client_is_called_and_its_result_used() -> None:
    replies = [["Let me see.", ToolRequest(call_id="c1", name="get_weather", arguments={"city": "Oslo"})], "It rains."]
    mocks = Mocks(replies)
    async with call(mocks) as client:
        session = await client.update(tools=[WEATHER])
        assert session["tools"] == [WEATHER]
        await client.speak(speech(1.0) + silence(1.0))
        done = await client.until("response.done")
        arguments = client.all("response.function_call_arguments.done")[0]
        assert (arguments["name"], arguments["call_id"]) == ("get_weather", "c1")
        assert json.loads(arguments["arguments"]) == {"city": "Oslo"}
        assert [item["type"] for item in done["response"]["output"]] == ["message", "function_call"]
        await client.send(
            "conversation.item.create",
            item={"type": "function_call_output", "call_id": "c1", "output": '{"sky": "rain"}'},
        )
        await client.until("conversation.item.done")
        await anyio.sleep(3)
        assert len(client.all("response.created")) == 1  # not before the client asks for it
        await client.send("response.create")
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "It rains."
        assert mocks.asked(1)[-1] == ("tool", '{"sky": "rain"}')
        assert [spec.name for spec in mocks.llms[0].requests[0].tools] == ["get_weather"]
        await client.send(
            "conversation.item.create", item={"type": "function_call_output", "call_id": "c1", "output": "again"}
        )
        assert (await client.refused())["code"] == "invalid_tool_call_id"


async def test_a_tool_of_the_application_stays_inside() -> None:
    async def get_time() -> str:
        """The time."""
        return "noon"

    mocks = Mocks(
        [["One moment.", ToolRequest(call_id="t", name="get_time", arguments={})], "It is noon."], tools=[get_time]
    )
    async with call(mocks) as client:
        await client.update(tools=[WEATHER])
        await client.speak(speech(1.0) + silence(1.0))
        done = await client.until("response.done")
        said = [item["content"][0]["transcript"] for item in done["response"]["output"]]
        assert said == ["One moment.", "It is noon."]
        assert not client.all("response.function_call_arguments.done")
        assert [spec.name for spec in mocks.llms[0].requests[0].tools] == ["get_time", "get_weather"]


async def test_speech_interrupts_the_agent() -> None:
    long = "This is a very long answer. " * 5
    mocks = Mocks([long, "All right."], tts={"seconds_per_sentence": 3.0, "speed": 1.0})
    async with call(mocks) as client:
        await client.speak(speech(1.0) + silence(1.0))
        for _ in range(20):
            await client.until("response.output_audio.delta")
        await client.speak(speech(1.0) + silence(0.2))
        await client.until("input_audio_buffer.speech_started")
        cancelled = (await client.until("response.done"))["response"]
        assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "turn_detected")
        await client.speak(silence(1.0))
        answer = (await client.until("response.done"))["response"]
        assert answer["output"][0]["content"][0]["transcript"] == "All right."
        heard = mocks.sessions[0].conversation.items[1]
        assert heard.status == "interrupted"
        assert 0 < len(heard.text) < len(long) / 2


async def test_without_interrupt_response_the_agent_speaks_on() -> None:
    mocks = Mocks(["A long answer.", "All right."], tts={"seconds_per_sentence": 4.0, "speed": 1.0})
    async with call(mocks) as client:
        detection = {"type": "server_vad", "interrupt_response": False}
        await client.update(audio={"input": {"turn_detection": detection}})
        await client.speak(speech(1.0) + silence(1.0))
        await client.until("response.output_audio.delta")
        await client.speak(speech(1.0) + silence(1.0))
        assert (await client.until("response.done"))["response"]["status"] == "completed"
        assert (await client.until("response.done"))["response"]["status"] == "completed"


async def test_without_create_response_the_client_asks_for_the_answer() -> None:
    mocks = Mocks()
    async with call(mocks) as client:
        detection = {"type": "server_vad", "create_response": False}
        await client.update(audio={"input": {"turn_detection": detection}})
        await client.speak(speech(1.0) + silence(1.5))
        await client.until("input_audio_buffer.committed")
        await anyio.sleep(5)
        assert not client.all("response.created")
        await client.send("response.create")
        await client.until("response.done")
        assert mocks.asked(0) == [("user", "hello there")]


async def test_cancelling() -> None:
    mocks = Mocks(["A long answer."], tts={"seconds_per_sentence": 9.0, "speed": 1.0})
    async with call(mocks) as client:
        await client.type("Tell me.")
        await client.send("response.create")
        await client.until("response.output_audio.delta")
        await client.connection.response.cancel()
        response = (await client.until("response.done"))["response"]
        assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        count = len(client.events)
        await anyio.sleep(10)
        assert len(client.events) == count
        await client.connection.response.cancel()
        assert (await client.refused())["code"] == "response_cancel_not_active"


async def test_what_the_client_truncates_the_model_did_not_say() -> None:
    replies = ["One two three four five six seven eight nine ten.", "Yes."]
    mocks = Mocks(replies, tts={"seconds_per_sentence": 5.0, "speed": 50.0})
    async with call(mocks) as client:
        await client.type("Count.")
        await client.send("response.create")
        item = (await client.until("response.done"))["response"]["output"][0]
        await client.connection.conversation.item.truncate(item_id=item["id"], content_index=0, audio_end_ms=2000)
        await client.until("conversation.item.truncated")
        await client.type("And then?")
        await client.send("response.create")
        await client.until("response.done")
        assert mocks.asked(1) == [("user", "Count."), ("assistant", "One two three four"), ("user", "And then?")]
        kept = mocks.sessions[0].conversation.items[1]
        assert (kept.text, kept.heard_s, kept.status) == ("One two three four", 2.0, "interrupted")
        await client.connection.conversation.item.truncate(item_id=item["id"], content_index=0, audio_end_ms=3000)
        assert (await client.refused())["code"] == "invalid_value"
        await client.connection.conversation.item.delete(item_id=item["id"])
        await client.until("conversation.item.deleted")
        assert [i.text for i in mocks.sessions[0].conversation] == ["Count.", "And then?", "Yes."]


async def test_what_is_truncated_while_it_is_said_is_cut_when_that_ends() -> None:
    mocks = Mocks(
        ["One two three four five six seven eight nine ten."], tts={"seconds_per_sentence": 5.0, "speed": 1.0}
    )
    async with call(mocks) as client:
        await client.type("Count.")
        await client.send("response.create")
        for _ in range(30):
            delta = await client.until("response.output_audio.delta")
        await client.connection.conversation.item.truncate(item_id=delta["item_id"], content_index=0, audio_end_ms=1000)
        await client.until("conversation.item.truncated")
        await client.connection.response.cancel()
        await client.until("response.done")
        assert [item.text for item in mocks.sessions[0].conversation] == ["Count.", "One two three"]


async def test_manual_turns() -> None:
    mocks = Mocks(["Fine."], ["how are you"])
    async with call(mocks) as client:
        await client.send("session.update", session=MANUAL)
        await client.until("session.updated")
        await client.append(speech(1.0))
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.speak(speech(2.0))
        await anyio.sleep(3)
        assert not client.all("input_audio_buffer.speech_started")
        await client.send("input_audio_buffer.commit")
        await client.until("conversation.item.done")
        await anyio.sleep(3)
        assert not client.all("response.created")
        await client.send("response.create", response={"metadata": {"tag": "1"}})
        assert (await client.until("response.done"))["response"]["metadata"] == {"tag": "1"}
        assert mocks.asked(0) == [("user", "how are you")]
        stt: Any = mocks.sessions[0].pipeline.children[2].stt  # type: ignore[attr-defined]
        assert stt.heard == [2 * 16_000 * 2]


async def test_text_in_and_text_out() -> None:
    mocks = Mocks(["Fine."])
    async with call(mocks, client_may_configure=True) as client:
        await client.update(output_modalities=["text"])
        await client.type("A note.", role="system")
        await client.type("Earlier.", role="assistant")
        await client.type("How are you?")
        await client.send("response.create", response={"instructions": "Be brief."})
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": "Fine."}]
        assert not client.audio()
        assert mocks.asked(0) == [
            ("user", "[system] A note."),
            ("assistant", "Earlier."),
            ("user", "How are you?"),
            ("system", "Be brief."),
        ]
        assert mocks.llms[0].requests[0].instructions == "Be kind."


async def test_telephone_audio() -> None:
    mocks = Mocks(["Fine."], tts={"seconds_per_sentence": 1.0})
    async with call(mocks) as client:
        await client.update(audio={"output": {"format": {"type": "audio/pcmu"}}})
        await client.type("How are you?")
        await client.send("response.create")
        await client.until("response.done")
        assert len(client.audio()) == 8_000


async def test_the_client_may_set_instructions_and_voice_only_where_that_is_allowed() -> None:
    for allowed in (False, True):
        mocks = Mocks(["Fine."], tts={"voices": ["ash"]})
        async with call(mocks, client_may_configure=allowed) as client:
            session = await client.update(instructions="Be rude.", audio={"output": {"voice": "ash"}})
            shown = (session["instructions"], session["audio"]["output"]["voice"])
            assert shown == (("Be rude.", "ash") if allowed else ("", "default"))
            await client.type("Hi.")
            await client.send("response.create")
            await client.until("response.done")
            request = mocks.llms[0].requests[0]
            assert request.instructions == ("Be rude." if allowed else "Be kind.")
            session = await client.update(audio={"output": {"voice": "bob"}}, tools=[WEATHER])
            assert session["audio"]["output"]["voice"] == ("ash" if allowed else "default")
            assert session["tools"] == [WEATHER]


async def test_instructions_for_the_answer_to_a_spoken_turn() -> None:
    mocks = Mocks(["Bien.", "Fine."])
    async with call(mocks, client_may_configure=True) as client:
        await client.send("session.update", session=MANUAL)
        for response in ({"instructions": "In French."}, None):
            await client.append(speech(0.5))
            await client.send("input_audio_buffer.commit")
            await client.send("response.create", response=response)
            await client.until("response.done")
        asked = [request.instructions for request in mocks.llms[0].requests]
        assert asked == ["Be kind.", "Be kind."]
        assert mocks.asked(0) == [("user", "hello there"), ("system", "In French.")]


async def test_settings_that_have_no_meaning_here() -> None:
    async with call(Mocks()) as client:
        detection = {"type": "server_vad", "idle_timeout_ms": 5000}
        session = await client.update(
            max_output_tokens=100,
            model="gpt-realtime-2.1",
            audio={"input": {"noise_reduction": {"type": "near_field"}, "turn_detection": detection}},
        )
        assert (session["max_output_tokens"], session["model"]) == ("inf", "local")
        assert session["audio"]["input"]["noise_reduction"] is None
        assert session["audio"]["input"]["turn_detection"]["idle_timeout_ms"] is None
        for change in ({"tool_choice": "required"}, {"audio": {"output": {"speed": 1.5}}}):
            await client.send("session.update", session={"type": "realtime", **change})
            assert (await client.refused())["code"] == "invalid_value"


async def test_a_commit_beside_turn_detection_is_refused() -> None:
    async with call(Mocks()) as client:
        await client.speak(silence(0.5))
        await client.send("input_audio_buffer.commit")
        assert "turn detection" in (await client.refused())["message"]


async def test_a_request_to_which_nothing_comes_is_over_soon() -> None:
    mocks = Mocks(texts=[""])
    async with call(mocks) as client:
        mocks.llms[0].not_understood = None
        await client.send("session.update", session=MANUAL)
        await client.until("session.updated")
        await client.append(speech(0.5))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        response = (await client.until("response.done"))["response"]
        assert (response["status"], response["output"]) == ("completed", [])


async def test_a_failing_model_fails_the_response() -> None:
    def fail(request: object) -> str:
        raise RuntimeError("secret detail")

    mocks = Mocks(fail)
    async with call(mocks) as client:
        await client.type("Hi.")
        await client.send("response.create")
        response = (await client.until("response.done"))["response"]
        assert response["status"] == "failed"
        assert "secret" not in json.dumps(client.events)
        apology = (await client.until("response.done"))["response"]["output"][0]
        assert apology["content"][0]["transcript"] == mocks.llms[0].failure
