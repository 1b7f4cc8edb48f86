"""The scripted OpenAI server, with the official SDK as its client. Every event it sends must be one of the SDK's."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue.errors import ConfigurationError
from duologue.services.messages import Message, ToolRequest
from duologue.services.openai.server_audio import decode, encode
from duologue.testing.openai import ScriptedOpenAI
from duologue.testing.provider import (
    Act,
    Asked,
    Call,
    Close,
    Fail,
    GoAway,
    HalfOpen,
    Model,
    Raw,
    Speak,
    Twice,
    Wait,
)

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
RATE = 24_000
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def noise(seconds: float, level: float = 0.2) -> bytes:
    rng = np.random.default_rng(1)
    return (rng.uniform(-level, level, round(seconds * RATE)) * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


class Client:
    """The SDK's connection, and all events that have come on it, each checked against the SDK's types."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.news = asyncio.Condition()
        self.closed: ConnectionClosed | None = None
        self.position = 0

    async def read(self) -> None:
        while True:
            try:
                raw = await self.connection.recv_bytes()
            except ConnectionClosed as error:
                self.closed = error
                async with self.news:
                    self.news.notify_all()
                return
            event = json.loads(raw)
            if event["type"] != "unknown.event":
                SERVER_EVENT.validate_python(event)
            async with self.news:
                self.events.append(event)
                self.news.notify_all()

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of this type after the last one asked for."""
        async with self.news:
            while True:
                while self.position < len(self.events):
                    event = self.events[self.position]
                    self.position += 1
                    if event["type"] == kind and fields.items() <= event.items():
                        return event
                assert self.closed is None, f"closed while waiting for {kind}: {self.kinds()}"
                await self.news.wait()

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def update(self, session: dict[str, Any]) -> dict[str, Any]:
        await self.send("session.update", session=session)
        updated: dict[str, Any] = (await self.until("session.updated"))["session"]
        return updated

    async def send(self, kind: str, **fields: Any) -> None:
        event: Any = {"type": kind, **fields}
        await self.connection.send(event)

    async def speak(self, pcm: bytes, chunk_ms: int = 100) -> None:
        size = RATE * chunk_ms // 1000 * 2
        for at in range(0, len(pcm), size):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm[at : at + size]).decode())

    async def refused(self) -> dict[str, Any]:
        error: dict[str, Any] = (await self.until("error"))["error"]
        return error


@asynccontextmanager
async def connected(server: ScriptedOpenAI, model: str = "gpt-realtime-2.1") -> AsyncIterator[Client]:
    async with AsyncOpenAI(api_key="test", base_url=server.url) as sdk, sdk.realtime.connect(model=model) as connection:
        client = Client(connection)
        reader = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            reader.cancel()
            await asyncio.wait([reader])


@asynccontextmanager
async def call(
    model: Model | Sequence[Sequence[Act]] = (), session: dict[str, Any] | None = None, **behaviour: Any
) -> AsyncIterator[tuple[ScriptedOpenAI, Client]]:
    async with ScriptedOpenAI(model, **behaviour) as server, connected(server) as client:
        await client.until("session.created")
        if session is not None:
            await client.update(session)
        yield server, client


async def test_a_session_is_created_and_set_up() -> None:
    async with call(session_limit_s=600) as (server, client):
        created = client.events[0]["session"]
        assert created["model"] == "gpt-realtime-2.1"
        assert created["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        assert abs(created["expires_at"] - time.time() - 600) < 60
        tool = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
        session = await client.update(
            {
                "type": "realtime",
                "instructions": "Be brief.",
                "tools": [tool],
                "audio": {"output": {"voice": "cedar"}, "input": {"transcription": {"model": "gpt-transcribe"}}},
            }
        )
        assert session["instructions"] == "Be brief."
        assert session["audio"]["output"] == {**created["audio"]["output"], "voice": "cedar"}
        assert session["audio"]["input"]["turn_detection"] == created["audio"]["input"]["turn_detection"]
        # what is omitted stays; "" and [] clear
        session = await client.update({"type": "realtime", "instructions": ""})
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
        assert (await client.update({"type": "realtime", "later": 1}))["later"] == 1


async def test_a_spoken_turn_in_the_order_of_the_real_server() -> None:
    transcribing = {"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-transcribe"}}}}
    async with call([[Speak("Good morning to you.", seconds=1.0)]], transcribing, transcripts=["Hello."]) as (
        server,
        client,
    ):
        await client.speak(silence(1.0) + noise(0.5) + silence(0.6))
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
        await client.speak(noise(0.3))
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.speak(noise(0.5))
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
        await client.speak(noise(0.09))
        await client.send("input_audio_buffer.commit", event_id="c")
        error = await client.refused()
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "c")


async def test_a_tool_call_and_its_follow_up() -> None:
    answers: list[list[Act]] = [
        [Speak("Let me see."), Call("weather", {"city": "Paris"}, call_id="c1")],
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
        await client.speak(noise(0.5))
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
        await client.update({"type": "realtime", "audio": {"output": {"voice": "ash"}}})
        await client.send("response.create")
        await client.until("response.done")
        await client.send(
            "session.update", session={"type": "realtime", "audio": {"output": {"voice": "cedar"}}}, event_id="v"
        )
        assert (await client.refused())["code"] == "cannot_update_voice"
        await client.update({"type": "realtime", "audio": {"output": {"voice": "ash", "speed": 1.2}}})


async def test_a_malformed_message_gets_an_error() -> None:
    async with call() as (server, client):
        await client.connection.send_raw("not json")
        assert (await client.refused())["code"] == "invalid_json"
        await client.send("session.explode", event_id="e")
        error = await client.refused()
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "type", "e")
        for audio in ("!", base64.b64encode(b"abc").decode()):
            await client.send("input_audio_buffer.append", audio=audio)
            assert (await client.refused())["param"] == "audio"
        assert not server.got[0].audio


async def test_turns_that_are_told() -> None:
    async with call([[Speak("Yes.")]], turn_detection="told") as (server, client):
        connection = server.connections[0]
        await client.speak(noise(0.4))
        await anyio.sleep(0.1)
        assert "input_audio_buffer.speech_started" not in client.kinds()
        connection.begin_turn("Hello there.")
        await client.until("input_audio_buffer.speech_started", audio_start_ms=100)
        await client.speak(noise(0.4))
        await anyio.sleep(0.1)
        connection.end_turn()
        await client.until("response.done")
        assert server.got[0].turns == [(round(0.1 * RATE), round(0.8 * RATE))]
        assert server.got[0].history[0] == Message(role="user", text="Hello there.")


async def test_a_transcript_may_come_after_the_response() -> None:
    session = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    async with call([[Speak("Yes.")]], session, transcripts=["Late."], transcript_delay_s=2.0) as (_, client):
        await client.speak(noise(0.5) + silence(0.6))
        await client.until("response.done")
        done_at = anyio.current_time()
        event = await client.until("conversation.item.input_audio_transcription.completed")
        assert event["transcript"] == "Late."
        assert anyio.current_time() - done_at == pytest.approx(2.0)


async def test_a_wrong_key_is_refused() -> None:
    async with ScriptedOpenAI(key="right") as server, AsyncOpenAI(api_key="wrong", base_url=server.url) as sdk:
        with pytest.raises(InvalidStatus, match="401") as caught:
            await sdk.realtime.connect(model="gpt-realtime-2.1").enter()
        assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_api_key"
        assert server.got == []


async def test_an_overloaded_server_refuses_for_a_while() -> None:
    async with ScriptedOpenAI(refuse=1) as server, AsyncOpenAI(api_key="test", base_url=server.url) as sdk:
        with pytest.raises(InvalidStatus, match="503"):
            await sdk.realtime.connect(model="gpt-realtime-2.1").enter()
        async with connected(server) as client:
            await client.until("session.created")


async def test_an_unknown_model_is_refused() -> None:
    async with (
        ScriptedOpenAI(models=frozenset({"gpt-realtime-2.1"})) as server,
        connected(server, "gpt-nothing") as client,
    ):
        assert (await client.refused())["code"] == "model_not_found"
        await anyio.sleep(0.1)
        assert client.closed is not None
        assert client.closed.rcvd is not None
        assert client.closed.rcvd.code == server.got[0].closed == 4000


async def test_setting_up_and_every_message_may_take_time() -> None:
    async with ScriptedOpenAI(setup_delay_s=3.0, delay_s=0.5) as server, connected(server) as client:
        await client.until("session.created")
        assert anyio.current_time() == pytest.approx(3.5)
        await client.update({"type": "realtime"})
        assert anyio.current_time() == pytest.approx(4.0)


async def test_a_session_that_is_never_set_up() -> None:
    async with ScriptedOpenAI(setup_delay_s=float("inf")) as server, connected(server) as client:
        await anyio.sleep(100)
        assert client.events == []


async def test_a_session_expires() -> None:
    async with call(session_limit_s=60) as (server, client):
        await anyio.sleep(61)
        assert client.closed is not None
        assert client.closed.rcvd is not None
        assert client.closed.rcvd.code == server.got[0].closed == 1001
        assert client.closed.rcvd.reason == "Your session hit the maximum duration of 60 minutes."
        assert server.connections == []


async def test_a_failing_response() -> None:
    async with call([[Speak("So"), Fail("rate_limit_exceeded", "Too much.")]], MANUAL) as (_, client):
        await client.send("response.create")
        response = (await client.until("response.done"))["response"]
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(("act", "code"), [(Close(1011, "broken"), 1011), (Close(0), 1006)])
async def test_the_server_closes_in_mid_response(act: Act, code: int) -> None:
    async with call([[Speak("So"), act]], MANUAL) as (server, client):
        await client.send("response.create")
        await client.until("response.output_audio.delta")
        await anyio.sleep(0.1)
        assert client.closed is not None
        assert server.got[0].closed == code


async def test_a_half_open_connection_neither_reads_nor_writes() -> None:
    async with call([[Speak("So"), HalfOpen(), Speak("never")]], MANUAL) as (server, client):
        await client.send("response.create")
        await client.until("response.output_audio.delta")
        await anyio.sleep(0.1)
        count = len(client.events)
        await client.speak(noise(0.5))
        await anyio.sleep(10)
        assert len(client.events) == count
        assert not server.got[0].audio
        await anyio.sleep(60)  # longer than the client waits for the answer to its ping
        assert client.closed is not None


async def test_raw_messages_and_messages_sent_twice() -> None:
    unknown = {"type": "unknown.event", "event_id": "u"}
    async with call([[Raw(unknown), Speak("Hi."), Twice(), Call("f")]], MANUAL) as (_, client):
        await client.send("response.create")
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        assert unknown in client.events
        twice = [event for event in client.events if client.events.count(event) == 2]
        assert len(twice) == 2


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
        await client.send("input_audio_buffer.append", audio=base64.b64encode(encode("audio/pcmu", pcm)).decode())
        await client.send("response.create")
        await client.until("response.done")
        assert bytes(server.got[0].audio) == decode("audio/pcmu", encode("audio/pcmu", pcm))
        audio = b"".join(base64.b64decode(event["delta"]) for event in client.all("response.output_audio.delta"))
        assert len(audio) == 8_000


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_g711_there_and_back(kind: str) -> None:
    codes = bytes(range(256))
    again = encode(kind, decode(kind, codes))
    assert [decode(kind, bytes([code])) for code in again] == [decode(kind, bytes([code])) for code in codes]
    samples = np.arange(-32768, 32768, 7).astype("<i2")
    heard = np.frombuffer(decode(kind, encode(kind, samples.tobytes())), "<i2").astype(int)
    assert np.all(np.abs(heard - samples) <= np.maximum(np.abs(samples.astype(int)) / 16 + 8, 8))


async def test_several_connections_are_kept_apart() -> None:
    async with call([[Speak("Hi.")]], MANUAL) as (server, first), connected(server) as second:
        await second.until("session.created")
        await first.send("response.create")
        await first.until("response.done")
        assert [got.number for got in server.got] == [1, 2]
        assert second.kinds() == ["session.created"]
        ids = [{e["event_id"] for e in client.events} for client in (first, second)]
        assert not ids[0] & ids[1]
    assert [got.closed for got in server.got] == [1000, 1000]


def test_going_away_cannot_be_scripted() -> None:
    with pytest.raises(ConfigurationError, match="GoAway"):
        ScriptedOpenAI([[GoAway()]])


async def test_what_a_script_raises_fails_the_response_and_is_raised_at_the_end() -> None:
    async def run(model: Model) -> None:
        async with call(model, MANUAL) as (_, client):
            await client.send("response.create")
            assert (await client.until("response.done"))["response"]["status"] == "failed"

    with pytest.raises(ConfigurationError, match="GoAway"):
        await run(lambda asked: [GoAway()])
    with pytest.raises(ZeroDivisionError):
        await run(lambda asked: [Speak(str(1 / 0))])


async def test_closing_the_server_ends_live_connections_at_once() -> None:
    async with ScriptedOpenAI([[Speak("So", seconds=60, pace=1.0)]]) as server:
        sdk = AsyncOpenAI(api_key="test", base_url=server.url)
        connection = await sdk.realtime.connect(model="gpt-realtime-2.1").enter()
        half_open = await sdk.realtime.connect(model="gpt-realtime-2.1").enter()
        await connection.recv()
        server.connections[0].session.respond({})
        server.connections[1].go_half_open()
        before = anyio.current_time()
    assert anyio.current_time() - before < 2
    for one in (connection, half_open):
        await one.close()
    await sdk.close()
