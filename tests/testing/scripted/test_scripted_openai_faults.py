"""The faults of a scripted OpenAI server, and its end."""

from __future__ import annotations

import json

import anyio
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus

from duologue.errors import ConfigurationError
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, CallTool, Close, Fail, GoAway, HalfOpen, Model, Raw, Speak, Twice
from tests.testing.scripted.openai_client import MANUAL, connected, noise, silence
from tests.testing.scripted.openai_client import scripted_call as call


async def test_a_transcript_may_come_after_the_response() -> None:
    session = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    async with call([[Speak("Yes.")]], session, transcripts=["Late."], transcript_delay_s=2.0) as (_, client):
        await client.append(noise(0.5) + silence(0.6))
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
        async with connected(server.url) as client:
            await client.until("session.created")


async def test_an_unknown_model_is_refused() -> None:
    async with (
        ScriptedOpenAI(models=frozenset({"gpt-realtime-2.1"})) as server,
        connected(server.url, model="gpt-nothing") as client,
    ):
        assert (await client.refused())["code"] == "model_not_found"
        await anyio.sleep(0.1)
        assert (await client.until_closed())[0] == server.got[0].closed == 4000


async def test_setting_up_and_every_message_may_take_time() -> None:
    async with ScriptedOpenAI(setup_delay_s=3.0, delay_s=0.5) as server, connected(server.url) as client:
        await client.until("session.created")
        assert anyio.current_time() == pytest.approx(3.5)
        await client.update()
        assert anyio.current_time() == pytest.approx(4.0)


async def test_a_session_that_is_never_set_up() -> None:
    async with ScriptedOpenAI(setup_delay_s=float("inf")) as server, connected(server.url) as client:
        await anyio.sleep(100)
        assert client.events == []


async def test_a_session_expires() -> None:
    async with call(session_limit_s=60) as (server, client):
        await anyio.sleep(61)
        assert server.got[0].closed == 1001
        assert await client.until_closed() == (1001, "Your session hit the maximum duration of 60 minutes.")
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
        await client.append(noise(0.5))
        await anyio.sleep(10)
        assert len(client.events) == count
        assert not server.got[0].audio
        await anyio.sleep(60)  # longer than the client waits for the answer to its ping
        assert client.closed is not None


async def test_raw_messages_and_messages_sent_twice() -> None:
    unknown = {"type": "unknown.event", "event_id": "u"}
    async with call([[Raw(unknown), Speak("Hi."), Twice(), CallTool("f")]], MANUAL) as (_, client):
        await client.send("response.create")
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        assert unknown in client.events
        twice = [event for event in client.events if client.events.count(event) == 2]
        assert len(twice) == 2


async def test_several_connections_are_kept_apart() -> None:
    async with call([[Speak("Hi.")]], MANUAL) as (server, first), connected(server.url) as second:
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
