"""The scripted OpenAI server, with the official SDK as its client: sessions, turns, responses, the conversation."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import anyio
import numpy as np
import pytest

from duologue.protocols.openai_realtime.audio import decode_audio, encode_audio
from duologue.services.context import Message, ToolRequest
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak, Wait
from tests.testing.scripted.openai_client import MANUAL, RATE, noise, silence
from tests.testing.scripted.openai_client import scripted_call as call


async def test_a_session_is_created_and_set_up() -> None:
    async with call(session_limit_s=600) as (server, client):
        created = client.events[0]["session"]
        assert created["model"] == "gpt-realtime-2.1"
        assert created["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        assert abs(created["expires_at"] - time.time() - 600) < 60
        tool = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
        session = await client.update(
            instructions="Be brief.",
            tools=[tool],
            audio={"output": {"voice": "cedar"}, "input": {"transcription": {"model": "gpt-transcribe"}}},
        )
        assert session["instructions"] == "Be brief."
        assert session["audio"]["output"] == {**created["audio"]["output"], "voice": "cedar"}
        assert session["audio"]["input"]["turn_detection"] == created["audio"]["input"]["turn_detection"]
        # what is omitted stays; "" and [] clear
        session = await client.update(instructions="")
        assert (session["instructions"], session["tools"]) == ("", [tool])
        got = server.got[0]
        assert (got.voice, got.instructions, got.tools) == ("cedar", "", (tool,))
        assert [message["type"] for message in got.messages] == ["session.update"] * 2


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"instructions": "x"}, "missing_required_parameter", "session.type"),
        ({"type": "other"}, "invalid_value", "session.type"),
        ({"type": "realtime", "audio": {"output": {"voice": "bob"}}}, "invalid_value", "session.audio.output.voice"),
        ({"type": "realtime", "output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "tools": [{"type": "function"}]}, "missing_required_parameter", "session.tools[0].name"),
        ({"type": "realtime", "model": "gpt-5"}, "invalid_value", "session.model"),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "magic"}}}},
            "invalid_value",
            "session.audio.input.turn_detection.type",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        ({"type": "realtime", "audio": {"output": {"speed": 9}}}, "invalid_value", "session.audio.output.speed"),
        ({"type": "realtime", "audio": "loud"}, "invalid_type", "session.audio"),
    ],
)
async def test_a_wrong_session_is_refused_as_a_whole(session: dict[str, Any], code: str, param: str) -> None:
    async with call() as (server, client):
        await client.send("session.update", event_id="mine", session=session)
        error = await client.refused()
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
        assert server.connections[0].session.config == client.events[0]["session"]


async def test_unknown_fields_of_a_session_are_kept() -> None:
    async with call() as (_, client):
        assert (await client.update(later=1))["later"] == 1


async def test_a_spoken_turn_in_the_order_of_the_real_server() -> None:
    transcribing = {"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-transcribe"}}}}
    async with call([[Speak("Good morning to you.", seconds=1.0)]], transcribing, transcripts=["Hello."]) as (
        server,
        client,
    ):
        await client.append(silence(1.0) + noise(0.5) + silence(0.6))
        done = await client.until("response.done")
        await client.until("rate_limits.updated")
        order = [kind for kind in client.kinds()[2:] if not kind.endswith(".delta")]
        assert order == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "conversation.item.input_audio_transcription.completed",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
            "rate_limits.updated",
        ]
        (started,) = client.all("input_audio_buffer.speech_started")
        (stopped,) = client.all("input_audio_buffer.speech_stopped")
        assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (700, 2000)
        assert started["item_id"] == stopped["item_id"] == client.all("input_audio_buffer.committed")[0]["item_id"]
        user, agent = client.all("conversation.item.added")
        assert (user["previous_item_id"], agent["previous_item_id"]) == (None, user["item"]["id"])
        pcm = b"".join(base64.b64decode(event["delta"]) for event in client.all("response.output_audio.delta"))
        assert len(pcm) == 2 * RATE
        level = 20 * np.log10(np.sqrt(np.mean((np.frombuffer(pcm, "<i2") / 32768.0) ** 2)))
        assert abs(level + 20) < 0.1
        deltas = [event["delta"] for event in client.all("response.output_audio_transcript.delta")]
        assert deltas == ["Good ", "morning ", "to ", "you."]
        response = done["response"]
        assert (response["status"], response["usage"]["output_token_details"]["audio_tokens"]) == ("completed", 20)
        assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "Good morning to you."}]
        got = server.got[0]
        assert bytes(got.audio) == silence(1.0) + noise(0.5) + silence(0.6)
        assert got.turns == [(round(0.7 * RATE), 2 * RATE)]
        assert got.history == [
            Message(role="user", text="Hello."),
            Message(role="assistant", text="Good morning to you."),
        ]


async def test_a_manual_turn() -> None:
    asked: list[Asked] = []

    def model(question: Asked) -> list[Act]:
        asked.append(question)
        return [Speak("Fine.")]

    async with call(model, MANUAL, transcripts=lambda pcm: f"{len(pcm)} bytes") as (server, client):
        await client.append(noise(0.3))
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.append(noise(0.5))
        await client.connection.input_audio_buffer.commit()
        await client.until("input_audio_buffer.committed")
        assert asked == []
        await client.connection.response.create(
            response={"instructions": "In French.", "metadata": {"tag": "7"}, "audio": {"output": {"voice": "ash"}}}
        )
        created = await client.until("response.created")
        done = await client.until("response.done")
        assert created["response"]["metadata"] == done["response"]["metadata"] == {"tag": "7"}
        assert (asked[0].said, asked[0].instructions, asked[0].voice) == ("24000 bytes", "In French.", "ash")
        assert server.got[0].turns == [(round(0.3 * RATE), round(0.8 * RATE))]
        assert not client.all("input_audio_buffer.speech_started")


async def test_an_empty_buffer_cannot_be_committed() -> None:
    async with call((), MANUAL) as (_, client):
        await client.append(noise(0.09))
        await client.send("input_audio_buffer.commit", event_id="c")
        error = await client.refused()
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "c")


async def test_a_tool_call_and_its_follow_up() -> None:
    answers: list[list[Act]] = [
        [Speak("Let me see."), CallTool("weather", {"city": "Paris"}, call_id="c1")],
        [Speak("Sunny.")],
    ]
    async with call(answers, MANUAL) as (server, client):
        await client.send(
            "conversation.item.create",
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        )
        await client.send("response.create")
        arguments = await client.until("response.function_call_arguments.done")
        assert (arguments["name"], json.loads(arguments["arguments"])) == ("weather", {"city": "Paris"})
        done = await client.until("response.done")
        assert [item["type"] for item in done["response"]["output"]] == ["message", "function_call"]
        await client.send(
            "conversation.item.create", item={"type": "function_call_output", "call_id": "c1", "output": "sun"}
        )
        await client.send("response.create")
        await client.until("response.done")
        got = server.got[0]
        assert got.results == [("c1", "sun")]
        weather = ToolRequest(call_id="c1", name="weather", arguments={"city": "Paris"})
        assert got.history == [
            Message(role="user", text="Weather?"),
            Message(role="assistant", text="Let me see."),
            Message(role="assistant", calls=(weather,)),
            Message(role="tool", text="sun", call_id="c1"),
            Message(role="assistant", text="Sunny."),
        ]
        await client.send(
            "conversation.item.create", item={"type": "function_call_output", "call_id": "c9", "output": ""}
        )
        assert (await client.refused())["code"] == "invalid_tool_call_id"


async def test_barge_in_cancels_the_response() -> None:
    async with call([[Speak("one two three four", seconds=4, pace=1.0)]]) as (server, client):
        server.connections[0].session.respond({})
        for _ in range(15):
            await client.until("response.output_audio.delta")
        assert anyio.current_time() == pytest.approx(1.4, abs=0.01)
        await client.append(noise(0.5))
        await client.until("input_audio_buffer.speech_started")
        response = (await client.until("response.done"))["response"]
        assert (response["status"], response["status_details"]) == (
            "cancelled",
            {"type": "cancelled", "reason": "turn_detected"},
        )
        assert response["output"][0]["status"] == "incomplete"
        count = len(client.all("response.output_audio.delta"))
        await anyio.sleep(5)
        assert len(client.all("response.output_audio.delta")) == count == 15


async def test_truncation_makes_the_session_forget() -> None:
    asked: list[Asked] = []

    def model(question: Asked) -> list[Act]:
        asked.append(question)
        return [Speak("one two three four five six seven eight nine ten", seconds=5)]

    async with call(model, MANUAL) as (server, client):
        await client.send("response.create")
        item_id = (await client.until("response.done"))["response"]["output"][0]["id"]
        for end_ms in (5100, -1):
            await client.send(
                "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=end_ms, event_id="t"
            )
            error = await client.refused()
            assert (error["code"], error["event_id"]) == ("invalid_value", "t")
        await client.connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=1600)
        await client.until("conversation.item.truncated")
        got = server.got[0]
        assert got.truncated == [(item_id, 1600)]
        assert got.history == [Message(role="assistant", text="one two three")]
        await client.send("response.create")
        await client.until("response.done")
        assert asked[1].history == (Message(role="assistant", text="one two three"),)
        await client.connection.conversation.item.retrieve(item_id=item_id)
        retrieved = (await client.until("conversation.item.retrieved"))["item"]
        assert retrieved["content"] == [{"type": "output_audio"}]
        await client.connection.conversation.item.delete(item_id=item_id)
        await client.until("conversation.item.deleted")
        assert len(got.history) == 1
        await client.connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=0)
        assert (await client.refused())["code"] == "item_truncate_invalid_item_id"


async def test_items_have_their_place() -> None:
    async with call((), MANUAL) as (server, client):
        for item_id, previous in (("a", None), ("b", None), ("c", "root"), ("d", "a")):
            content = [{"type": "input_text", "text": item_id}]
            item = {"id": item_id, "type": "message", "role": "user", "content": content}
            await client.send("conversation.item.create", item=item, previous_item_id=previous)
            await client.until("conversation.item.done")
        assert [message.text for message in server.got[0].history] == ["c", "a", "d", "b"]
        assert [event["previous_item_id"] for event in client.all("conversation.item.added")] == [None, "a", None, "a"]
        item["id"] = "e"
        await client.send("conversation.item.create", item=item, previous_item_id="none")
        assert (await client.refused())["code"] == "item_create_invalid_previous_item_id"
        wrong = {"type": "message", "role": "assistant", "content": [{"type": "input_text", "text": "x"}]}
        await client.send("conversation.item.create", item=wrong)
        assert (await client.refused())["code"] == "invalid_value"


async def test_one_response_at_a_time_and_cancelling() -> None:
    async with call([[Speak("Long.", seconds=9, pace=1.0)]], MANUAL) as (_, client):
        await client.connection.response.cancel(event_id="x")
        assert (await client.refused())["code"] == "response_cancel_not_active"
        await client.send("response.create")
        await client.until("response.output_audio.delta")
        await client.send("response.create", event_id="y")
        error = await client.refused()
        assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "y")
        await client.connection.response.cancel()
        response = (await client.until("response.done"))["response"]
        assert response["status_details"]["reason"] == "client_cancelled"


async def test_a_response_out_of_band() -> None:
    asked: list[Asked] = []

    def model(question: Asked) -> list[Act]:
        asked.append(question)
        return [Speak("a greeting"), Wait(1.0)]

    async with call(model, MANUAL) as (server, client):
        await client.send("response.create")
        text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Classify."}]}
        own = {"conversation": "none", "output_modalities": ["text"], "input": [text], "metadata": {"of": "band"}}
        await client.send("response.create", response=own)
        first, second = await client.until("response.done"), await client.until("response.done")
        assert second["response"]["metadata"] == {"of": "band"}
        assert second["response"]["output"][0]["content"] == [{"type": "output_text", "text": "a greeting"}]
        assert (first["response"]["conversation_id"], second["response"]["conversation_id"]) == ("conv_1", None)
        assert asked[1].history == (Message(role="user", text="Classify."),)
        assert server.got[0].history == [Message(role="assistant", text="a greeting")]


async def test_the_voice_is_fixed_once_it_was_heard() -> None:
    async with call([[Speak("Hi.")]], MANUAL) as (_, client):
        await client.update(audio={"output": {"voice": "ash"}})
        await client.send("response.create")
        await client.until("response.done")
        await client.send(
            "session.update", session={"type": "realtime", "audio": {"output": {"voice": "cedar"}}}, event_id="v"
        )
        assert (await client.refused())["code"] == "cannot_update_voice"
        await client.update(audio={"output": {"voice": "ash", "speed": 1.2}})


async def test_a_malformed_message_gets_an_error() -> None:
    async with call() as (server, client):
        await client.connection.send_raw("not json")
        assert (await client.refused())["code"] == "invalid_json"
        await client.send("session.explode", event_id="e")
        error = await client.refused()
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "type", "e")
        await client.send("input_audio_buffer.append", audio="!")
        assert (await client.refused())["param"] == "audio"
        assert not server.got[0].audio


async def test_turns_that_are_told() -> None:
    async with call([[Speak("Yes.")]], turn_detection="told") as (server, client):
        connection = server.connections[0]
        await client.append(noise(0.4))
        await anyio.sleep(0.1)
        assert "input_audio_buffer.speech_started" not in client.kinds()
        connection.begin_turn("Hello there.")
        started = await client.until("input_audio_buffer.speech_started")
        assert started["audio_start_ms"] == 100
        await client.append(noise(0.4))
        await anyio.sleep(0.1)
        connection.end_turn()
        await client.until("response.done")
        assert server.got[0].turns == [(round(0.1 * RATE), round(0.8 * RATE))]
        assert server.got[0].history[0] == Message(role="user", text="Hello there.")


async def test_images_and_notes_are_remembered() -> None:
    async with call((), MANUAL) as (server, client):
        url = "data:image/png;base64,AAAA"
        for role, part in (
            ("user", {"type": "input_image", "image_url": url}),
            ("system", {"type": "input_text", "text": "note"}),
        ):
            item = {"type": "message", "role": role, "content": [part]}
            await client.send("conversation.item.create", item=item)
            await client.until("conversation.item.done")
        assert server.got[0].history == [Message(role="user", url=url), Message(role="system", text="note")]


async def test_telephone_audio() -> None:
    session = {
        "type": "realtime",
        "audio": {
            "input": {"format": {"type": "audio/pcmu"}, "turn_detection": None},
            "output": {"format": {"type": "audio/pcma"}},
        },
    }
    async with call([[Speak("Hello.", seconds=1)]], session) as (server, client):
        pcm = noise(0.5)
        await client.send("input_audio_buffer.append", audio=base64.b64encode(encode_audio("audio/pcmu", pcm)).decode())
        await client.send("response.create")
        await client.until("response.done")
        assert bytes(server.got[0].audio) == decode_audio("audio/pcmu", encode_audio("audio/pcmu", pcm))
        audio = b"".join(base64.b64decode(event["delta"]) for event in client.all("response.output_audio.delta"))
        assert len(audio) == 8_000


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_g711_there_and_back(kind: str) -> None:
    codes = bytes(range(256))
    again = encode_audio(kind, decode_audio(kind, codes))
    assert [decode_audio(kind, bytes([code])) for code in again] == [
        decode_audio(kind, bytes([code])) for code in codes
    ]
    samples = np.arange(-32768, 32768, 7).astype("<i2")
    heard = np.frombuffer(decode_audio(kind, encode_audio(kind, samples.tobytes())), "<i2").astype(int)
    assert np.all(np.abs(heard - samples) <= np.maximum(np.abs(samples.astype(int)) / 16 + 8, 8))
