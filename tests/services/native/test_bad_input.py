"""Bad input is refused by its name, before it does harm; a fault in a call costs no more than itself."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import numpy as np
import pytest

from duologue.agents.tool import ToolSpec
from duologue.errors import ConfigurationError
from duologue.frames import Configure, UserAudio
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.server import Asked, Speak
from tests.services.native.calls import OPENAI, PROVIDERS, CountedCall, Provider, Server, calling

NO_SCHEMA = {"type": "object", "properties": {"city": {"type": "sting"}}}
MIB = 1024 * 1024


async def failed(provider: Provider, **settings: Any) -> tuple[Exception, Server]:
    """How a call ends that cannot begin."""
    async with provider.server() as server:
        try:
            engine = provider.engine(server, **settings)
        except ConfigurationError as error:
            return error, server
        async with CountedCall(provider, server, engine, may_fail=True) as call:
            pass
    assert isinstance(call.outcome.error, Exception)
    return call.outcome.error, server


# -- before there is a connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_a_key_no_connection_is_tried(provider: Provider) -> None:
    error, server = await failed(provider, api_key="")
    assert isinstance(error, ConfigurationError)
    assert "OPENAI_API_KEY" in str(error) or "GOOGLE_API_KEY" in str(error)
    assert not server.got


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_refused_key_is_named_as_the_reason_and_not_shown(provider: Provider) -> None:
    error, _ = await failed(provider, api_key="sk-wrong-4711")
    assert isinstance(error, ConnectionLost)
    assert "key" in str(error).lower()
    assert "4711" not in str(error)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_option_that_the_model_does_not_have_is_refused_by_name(provider: Provider) -> None:
    if provider is OPENAI:
        settings = {"model": "gpt-realtime", "options": OpenAIRealtimeOptions(reasoning="low")}
    else:
        settings = {"options": GeminiLiveOptions(thinking_level="LOW")}
    error, server = await failed(provider, **settings)
    assert isinstance(error, ConfigurationError)
    assert ("reasoning" if provider is OPENAI else "thinking_level") in str(error)
    assert not server.got


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_tool_whose_parameters_are_no_schema_is_refused_by_name(provider: Provider) -> None:
    tool = ToolSpec(name="look_up", description="Look it up.", parameters=NO_SCHEMA)
    error, server = await failed(provider, tools=[tool])
    assert isinstance(error, ConfigurationError)
    assert "'look_up'" in str(error)
    assert "sting" in str(error)
    assert not server.got


def test_values_of_the_connection_that_make_no_sense_are_refused_by_name() -> None:
    for name, value in {"ring_s": 0, "heartbeat_s": float("nan"), "backoff_s": -1, "replay_messages": 0}.items():
        with pytest.raises(ConfigurationError, match=name):
            ConnectionSettings(**{name: value})  # type: ignore[arg-type]


def test_an_engine_is_made_without_a_key_and_without_a_connection() -> None:
    for engine in (OpenAIRealtime(), GeminiLive()):
        with pytest.raises(ConfigurationError, match="key"):
            engine.check(Configure())


# -- in a call ---------------------------------------------------------------------------------------------------------


async def goes_on(call: CountedCall) -> None:
    """The call is as good as before, on the connection that it has."""
    answers = len(call.answered)
    await call.waits(0.5)
    await call.says()
    await call.hears(answers + 1)
    assert call.states == ["connecting", "active"]
    assert len(call.server.got) == 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (Configure(options={"model": "another"}), "model"),
        (Configure(instructions="New.", options={"colour": "red"}), "colour"),
        (
            Configure(instructions="New.", tools=({"name": "look", "description": "", "parameters": NO_SCHEMA},)),
            "look",
        ),
        (Configure(instructions="New.", tools=({"nom": "look"},)), "tool"),
    ],
    ids=["model", "option", "schema", "tool"],
)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_change_that_cannot_be_is_refused_by_name_and_changes_nothing(
    provider: Provider, change: Configure, name: str
) -> None:
    async with calling(provider, instructions="Old.", ears=True) as call:
        await call.says()
        await call.hears(1)
        with pytest.raises(ConfigurationError, match=name):
            await call.engine.configure(change)
        await goes_on(call)
        assert call.server.got[0].instructions == "Old."
        assert call.engine.config.instructions == "Old."


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_model_of_a_session_that_was_resumed_stays_too(provider: Provider) -> None:
    async with calling(provider, ears=True) as call:
        await call.says()
        await call.hears(1)
        call.server.connections[-1].close(0)
        await call.waits(1)
        with pytest.raises(ConfigurationError, match="model"):
            await call.engine.configure(Configure(options={"model": "another"}))
        assert not call.errors


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_15_mib_of_audio_in_one_frame_go_out_in_pieces(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(provider, behaviour={"turn_detection": "told"}) as call:
        assert call.engine.parts.provider.connection is not None
        pieces: list[int] = []
        encode = call.engine.parts.provider.connection.dialect.audio

        def noted(pcm: bytes) -> str:
            pieces.append(len(pcm))
            return encode(pcm)

        monkeypatch.setattr(call.engine.parts.provider.connection.dialect, "audio", noted)
        audio = (np.arange(15 * MIB // 2) % 97).astype("<i2").tobytes()
        await call.session.send(UserAudio(audio=audio, sample_rate=provider.rate))
        await anyio.sleep(1)
        assert bytes(call.server.got[0].audio) == audio
        assert max(pieces) <= provider.rate
        assert not call.errors


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_of_15_mib_in_one_frame_no_more_is_kept_than_the_ring_holds(provider: Provider) -> None:
    settings = ConnectionSettings(ring_s=10)
    async with calling(provider, behaviour={"turn_detection": "told"}, connection=settings) as call:
        call.server.behaviour.refuse = 2
        call.server.connections[-1].close(0)
        await anyio.sleep(0.01)
        samples = 15 * MIB // 2
        await call.session.send(UserAudio(audio=bytes(2 * samples), sample_rate=provider.rate))
        await call.waits(2)
        await anyio.sleep(0.1)
        (error,) = call.errors
        kept = len(call.server.got[-1].audio) // 2 - call.sent
        assert 0 < kept <= 10 * provider.rate
        assert f"{samples - kept} samples of the caller's audio were dropped" in error.message


def audio_message(provider: Provider, data: str) -> str:
    """Audio of the model's, as the provider sends it."""
    if provider is OPENAI:
        what: dict[str, Any] = {
            "type": "response.output_audio.delta",
            "response_id": "r",
            "item_id": "i",
            "delta": data,
        }
    else:
        blob = {"mimeType": "audio/pcm;rate=24000", "data": data}
        what = {"serverContent": {"modelTurn": {"parts": [{"inlineData": blob}]}}}
    return json.dumps(what)


@pytest.mark.parametrize("message", ["no base64", "no json", "a list", "no text"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_malformed_message_of_the_providers_is_reported_and_the_call_goes_on(
    provider: Provider, message: str
) -> None:
    raw: dict[str, str | bytes] = {
        "no base64": audio_message(provider, "Hello, this is text!"),
        "no json": "Bad Gateway",
        "a list": "[1, 2]",
        "no text": b"\xff\xfe\x00",
    }
    async with calling(provider, ears=True) as call:
        await call.says()
        await call.hears(1)
        call.server.connections[-1].send(raw[message])
        await goes_on(call)
        (error,) = call.errors
        assert error.category == "bad_input"
        assert not error.fatal
        assert error.processor == call.engine.name


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_no_word_of_the_call_and_no_key_is_logged(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="duologue")

    def model(asked: Asked) -> list[Speak]:
        return [Speak("Your secret is safe.", seconds=0.3)]

    behaviour = {"key": "sk-4711", "transcripts": lambda pcm: "my pin is oh eight fifteen"}
    async with calling(provider, model, behaviour=behaviour, api_key="sk-4711", ears=True, may_fail=True) as call:
        await call.says()
        await call.waits(1)
        call.server.connections[-1].send(audio_message(provider, "Hello, this is text!"))
        await call.waits(0.5)
        call.server.connections[-1].close(1011, "going down")
        await call.waits(1)
        call.server.behaviour.key = "sk-4712"
        call.server.connections[-1].close(0)
        await call.waits(1)
        assert call.log[:2] == ["caller: my pin is oh eight fifteen", "agent: Your secret is safe."]
        assert len(call.errors) >= 2
    logged = [record.getMessage() + str(record.__dict__) for record in caplog.records] + [caplog.text]
    assert caplog.records
    for words in ("eight fifteen", "secret is", "sk-471", "this is text"):
        assert not [text for text in logged if words in text], words
    assert not [error for error in call.errors if "sk-471" in error.message]
