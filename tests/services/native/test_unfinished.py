"""Providers that do not finish what they begin, or give answers that nobody can hear."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from typing import Any

import pytest

from duologue import Pipeline, Session
from duologue.frames import BotAudio, ResponseEnded, ResponseStarted, Say, UserText
from duologue.services.google import GeminiLiveOptions
from duologue.services.openai import OpenAIRealtimeOptions, ServerVad
from duologue.services.openai.dialect import OpenAIDialect
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing import BareCall
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, Fail, Raw, Speak, Wait
from duologue.transports.memory import MemoryTransport
from tests.services.native.calls import GEMINI, MODES, OPENAI, PROVIDERS, CountedCall, Provider, calling

Answers = list[list[Act]]
MUST_ANSWER: dict[str, dict[str, Any]] = {"openai": {}, "gemini": {"model": "gemini-3.1-flash-live-preview"}}
"""Settings of an engine whose model may not be silent."""
WAYS = ["spoken", "typed", "said"]


async def asks(call: CountedCall, way: str) -> None:
    """The caller or the application wants something from the model."""
    if way == "spoken":
        await call.says()
    elif way == "typed":
        call.transport.send_frame(UserText(text="What is the code?"))
    else:
        await call.session.send(Say(text="The code is 4711."))


def told(call: CountedCall) -> list[tuple[str, str]]:
    """The agent's items in the log, with their status."""
    return [(item.text, item.status) for item in call.session.conversation if item.role == "agent"]


def statuses(call: CountedCall) -> list[str]:
    """The ends of all responses."""
    return [ended.status for ended in call.came(ResponseEnded)]


def bracketed(call: CountedCall) -> bool:
    """True if every response that has begun has ended, once."""
    begun = [started.response_id for started in call.came(ResponseStarted)]
    return sorted(begun) == sorted(ended.response_id for ended in call.came(ResponseEnded))


def sent(call: CountedCall, kind: str) -> list[dict[str, Any]]:
    """The messages of a kind that the server has received."""
    return [message for got in call.server.got for message in got.messages if message.get("type") == kind]


def counting(answers: Answers) -> tuple[list[float], Any]:
    """A model that gives one answer after the other, and the times at which it was asked."""
    times: list[float] = []
    waiting = list(answers)

    def model(asked: Asked) -> list[Act]:
        times.append(asyncio.get_running_loop().time())
        return waiting.pop(0) if waiting else [Speak("Yes.", seconds=0.5)]

    return times, model


# -- what does not end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_stops_in_the_middle_is_given_up(provider: Provider, manual: bool) -> None:
    answers: Answers = [[Speak("It will be", seconds=1.0), Wait(math.inf)], [Speak("I am here.", seconds=0.5)]]
    settings = ConnectionSettings(response_s=6)
    async with calling(provider, answers, manual=manual, connection=settings) as call:
        await call.says()
        await call.waits(4)
        await call.session.send(Say(text="I am here."))
        await call.waits(10)
        assert statuses(call) == ["failed", "completed"]
        assert "nothing for 6 s" in call.came(ResponseEnded)[0].reason
        assert [error.message for error in call.errors] == ["no answer: the model has sent nothing for 6 s"]
        assert told(call)[-1] == ("I am here.", "complete")
        assert len(call.server.got) == 1, "the connection lives"
        if provider is OPENAI:
            assert len(sent(call, "response.cancel")) == 1
    assert bracketed(call)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_without_a_first_piece_is_asked_for_once_more(provider: Provider, way: str) -> None:
    times, model = counting([[Wait(math.inf)], [Speak("Here.", seconds=0.5)]])
    settings = ConnectionSettings(response_s=6, stall_s=8)
    async with calling(provider, model, connection=settings, **MUST_ANSWER[provider.name]) as call:
        await asks(call, way)
        await call.waits(30)
        assert told(call) == [("Here.", "complete")]
        assert len(times) == 2
    assert bracketed(call)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_never_answers_is_not_asked_for_ever(provider: Provider) -> None:
    times, model = counting([[Wait(math.inf)]] * 20)
    settings = ConnectionSettings(response_s=5, stall_s=6)
    async with calling(provider, model, connection=settings) as call:
        call.transport.send_frame(UserText(text="Hello?"))
        await call.waits(120)
        assert len(times) <= 3
        assert call.errors
        assert call.session.floor.owner == "caller"
    assert bracketed(call)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_interrupted_answer_without_an_end_keeps_nothing_back(provider: Provider) -> None:
    answers: Answers = [[Speak("It will be", seconds=1.0), Wait(math.inf)], [Speak("I am here.", seconds=0.5)]]
    async with calling(provider, answers, connection=ConnectionSettings(response_s=5)) as call:
        await call.says()
        await call.waits(0.5)
        if provider is OPENAI:  # the server does not answer the cancellation
            call.server.connections[0].session.receive = lambda message: None  # type: ignore[union-attr]
        call.session.interrupt()
        await call.waits(8)
        assert not call.engine.parts.asks.busy


async def test_an_end_that_is_missing_after_all_audio_makes_no_failure() -> None:
    async with calling(
        GEMINI, [[Speak("Hello there.", seconds=1.0)]], connection=ConnectionSettings(response_s=5)
    ) as call:
        connection = call.server.connections[0]
        send = connection.send

        def without_the_end(message: Any) -> None:
            if not (isinstance(message, dict) and message.get("serverContent", {}).get("turnComplete")):
                send(message)

        connection.send = without_the_end  # type: ignore[method-assign]
        await call.says()
        await call.waits(10)
        assert statuses(call) == ["completed"]
        assert not call.errors


# -- answers that nobody can hear --------------------------------------------------------------------------------------


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_empty_answer_is_reported_and_asked_for_once_more(provider: Provider, way: str, manual: bool) -> None:
    times, model = counting([[], [Speak("The code is 4711.", seconds=0.5)]])
    async with calling(provider, model, manual=manual, **MUST_ANSWER[provider.name]) as call:
        await asks(call, way)
        await call.waits(6)
        assert told(call) == [("The code is 4711.", "complete")]
        assert statuses(call) == ["failed", "completed"]
        assert [error.message for error in call.errors] == ["no answer: the model said nothing"]
        assert len(times) == 2
    assert bracketed(call)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_words_without_a_voice_are_not_said(provider: Provider, way: str) -> None:
    times, model = counting([[Speak("The code is 4711.", seconds=0.0)], [Speak("The code is 4711.", seconds=0.5)]])
    async with calling(provider, model) as call:
        await asks(call, way)
        await call.waits(6)
        assert told(call) == [("The code is 4711.", "complete")]
        assert statuses(call) == ["failed", "completed"]
        assert [error.message for error in call.errors] == ["no answer: the model sent words without a voice"]
        assert len(times) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_it_is_asked_for_once_more_and_never_twice(provider: Provider, way: str) -> None:
    times, model = counting([[Speak("Hm.", seconds=0.0)]] * 9)
    async with calling(provider, model) as call:
        await asks(call, way)
        await call.waits(10)
        assert len(times) == 2
        assert statuses(call) == ["failed", "failed"]
        assert told(call) == []
        assert call.session.floor.owner == "caller"


async def test_a_model_with_proactive_audio_may_be_silent() -> None:
    times, model = counting([[]])
    async with calling(GEMINI, model) as call:  # 3.8: always proactive
        await call.says()
        await call.waits(20)
        assert len(times) == 1
        assert not call.errors


async def test_a_model_with_proactive_audio_that_sends_nothing_at_all_is_reported_and_not_asked() -> None:
    times, model = counting([[Wait(math.inf)]])
    async with calling(GEMINI, model, connection=ConnectionSettings(response_s=6)) as call:
        await call.says()
        await call.waits(30)
        assert [error.message for error in call.errors] == [
            "no answer: the model has sent nothing for 6 s after the caller's turn"
        ]
        assert len(times) == 1
        call.server.connections[-1].go_away(10)
        await call.waits(1)
        assert len(call.server.got) == 2, "the turn is over: the connection can be replaced at once"
        await call.says()
        await call.waits(5)
        assert told(call) == [("Yes.", "complete")]


async def test_text_is_an_answer_where_text_was_asked_for() -> None:
    options = OpenAIRealtimeOptions(output_modalities=("text",))
    async with calling(OPENAI, [[Speak("The code is 4711.")]], options=options) as call:
        await asks(call, "typed")
        await call.waits(5)
        assert statuses(call) == ["completed"]
        assert not call.errors
        assert told(call) == [("The code is 4711.", "complete")]


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_limit_is_waited_for_as_long_as_it_says(way: str, manual: bool) -> None:
    limit = Fail("rate_limit_exceeded", "Rate limit reached. Please try again in 2.5s.")
    times, model = counting([[limit], [Speak("The code is 4711.", seconds=0.5)]])
    async with calling(OPENAI, model, manual=manual) as call:
        await asks(call, way)
        await call.waits(8)
        assert told(call) == [("The code is 4711.", "complete")]
        assert times[1] - times[0] == pytest.approx(2.5, abs=0.2)
        assert len(times) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_limit_that_lasts_too_long_is_only_reported(way: str) -> None:
    times, model = counting([[Fail("rate_limit_exceeded", "Please try again in 1m20s.")]])
    async with calling(OPENAI, model) as call:
        await asks(call, way)
        await call.waits(100)
        assert len(times) == 1
        assert "1m20s" in call.errors[0].message


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("way", ["spoken", "typed"])
async def test_it_is_not_asked_for_again_once_the_caller_has_spoken(way: str, manual: bool) -> None:
    limit = Fail("rate_limit_exceeded", "Please try again in 4s.")
    times, model = counting([[limit], [Speak("Both.", seconds=0.5)]])
    async with calling(OPENAI, model, manual=manual) as call:
        await asks(call, way)
        await call.waits(1.0)
        await call.says()
        await call.waits(10)
        assert told(call) == [("Both.", "complete")]
        assert len(times) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_was_heard_in_part_is_not_asked_for_again(provider: Provider) -> None:
    broken: dict[str, Act] = {
        "openai": Fail("server_error", "Something broke."),
        "gemini": Raw({"serverContent": {"turnComplete": True, "turnCompleteReason": "MALFORMED_FUNCTION_CALL"}}),
    }
    times, model = counting([[Speak("It will", seconds=1.0), broken[provider.name]]])
    async with calling(provider, model) as call:
        await call.says()
        await call.waits(8)
        assert len(times) == 1
        assert statuses(call) == ["failed"]
        assert len(call.errors) == 1


# -- late pieces -------------------------------------------------------------------------------------------------------

TONE = "AAAA" * 800  # 0.05 s of silence
LATE: dict[str, list[dict[str, Any]]] = {
    "gemini-text": [{"serverContent": {"outputTranscription": {"text": " indeed."}}}],
    "gemini-audio": [{"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": TONE}}]}}}],
    "gemini-end": [{"serverContent": {"turnComplete": True}}, {"serverContent": {"generationComplete": True}}],
    "gemini-cut": [{"serverContent": {"interrupted": True}}, {"serverContent": {"turnComplete": True}}],
    "gemini-cancel": [{"toolCallCancellation": {"ids": ["no such call"]}}],
    "gemini-all": [
        {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": TONE}}]}}},
        {"serverContent": {"outputTranscription": {"text": " indeed."}}},
        {"serverContent": {"turnComplete": True}},
    ],
    "openai-text": [{"type": "response.output_audio_transcript.delta", "delta": " indeed."}],
    "openai-audio": [{"type": "response.output_audio.delta", "delta": TONE}],
    "openai-call": [
        {
            "type": "response.output_item.done",
            "item": {"type": "function_call", "id": "i", "call_id": "c", "name": "look", "arguments": "{}"},
        }
    ],
    "openai-end": [{"type": "response.done", "response": {"status": "completed", "output": []}}] * 2,
    "openai-begin": [{"type": "response.created", "response": {"status": "in_progress"}}],
    "openai-foreign-end": [{"type": "response.done", "response": {"id": "nobody", "output": []}}],
}


@pytest.mark.parametrize("kind", LATE)
async def test_what_comes_after_the_end_opens_nothing(kind: str) -> None:
    provider = OPENAI if kind.startswith("openai") else GEMINI
    async with calling(provider, [[Speak("It is", seconds=1.0)], [Speak("Second.", seconds=0.5)]]) as call:
        await call.says()
        await call.waits(1.5)
        for message in LATE[kind]:
            late = dict(message)
            if provider is OPENAI and kind != "openai-foreign-end":
                response_id = late_id(call)
                if "response" in late:
                    late["response"] = {**late["response"], "id": response_id}
                else:
                    late["response_id"] = response_id
            call.server.connections[0].send(late)
        await call.waits(2)
        assert not call.engine.parts.asks.busy
        assert len(call.came(ResponseStarted)) == 1
        await asks(call, "typed")
        await call.waits(4)
        assert told(call)[-1] == ("Second.", "complete")
        assert len(call.came(ResponseStarted)) == 2
        assert not call.errors
    assert bracketed(call)


def late_id(call: CountedCall) -> str:
    """The provider's id of the latest response."""
    return next(reversed(call.engine.parts.replies._kept)).provider_id


async def test_late_words_belong_to_the_answer_that_is_still_played() -> None:
    async with GEMINI.server([[Speak("It is", seconds=3.0)]]) as server:
        transport = MemoryTransport()
        pipeline = Pipeline([transport.input(), GEMINI.engine(server), transport.output()])
        async with BareCall(Session(pipeline)) as call:
            await call.types("How is it?")
            await call.waits(1.0)
            content = {"outputTranscription": {"text": " sunny."}}
            server.connections[0].send({"serverContent": {"turnComplete": True}})
            server.connections[0].send({"serverContent": content})
            await call.waits(6.0)
            assert [item.text for item in call.session.conversation if item.role == "agent"] == ["It is sunny."]


async def test_a_long_answer_that_nobody_asked_for_is_heard() -> None:
    async with calling(GEMINI, [[Speak("It is", seconds=0.5)]]) as call:
        await call.says()
        await call.waits(3)
        for _ in range(40):
            call.server.connections[0].send(
                {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": TONE}}]}}}
            )
        call.server.connections[0].send({"serverContent": {"turnComplete": True}})
        await call.waits(3)
        _, second = call.came(ResponseStarted)
        audio = [frame for frame in call.came(BotAudio) if frame.response_id == second.response_id]
        assert sum(len(frame.audio) for frame in audio) == 40 * 2400
        assert statuses(call) == ["completed", "completed"]
    assert bracketed(call)


# -- options that are sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ears", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_where_the_provider_may_not_be_interrupted_the_caller_does_not_silence_the_agent(
    provider: Provider, ears: bool
) -> None:
    options: Any = OpenAIRealtimeOptions(turn_detection=ServerVad(silence_duration_ms=200, interrupt_response=False))
    if provider is GEMINI:
        options = GeminiLiveOptions(silence_duration_ms=200, activity_handling="NO_INTERRUPTION")
    answers: Answers = [[Speak("A long answer.", seconds=4.0, pace=1.0)], [Speak("Second.", seconds=4.0, pace=1.0)]]
    async with calling(provider, answers, options=options, ears=ears) as call:
        await asks(call, "typed")
        await call.waits(1.0)
        await call.says(0.6)
        await call.waits(4.0)
        assert statuses(call)[:1] == ["completed"]
        assert told(call)[0] == ("A long answer.", "complete")
        await call.waits(0.5)
        call.session.interrupt()
        await call.waits(5.0)
        assert statuses(call)[1:] == ["interrupted"], "the application still interrupts"


# -- servers of others -------------------------------------------------------------------------------------------------


async def test_a_server_that_repeats_no_metadata_is_asked_once() -> None:
    times, model = counting([[Speak("Hi there!", seconds=0.5)], [Speak("Yes?", seconds=0.5)]])
    async with OPENAI.server(model) as server:
        assert isinstance(server, ScriptedOpenAI)
        server.echoes = False
        engine = OPENAI.engine(server)
        async with CountedCall(OPENAI, server, engine) as call:
            await asks(call, "typed")
            await call.waits(3)
            await asks(call, "said")
            await call.waits(3)
            await call.says()
            await call.waits(3)
            assert len(times) == 3
            assert [text for text, _ in told(call)] == ["Hi there!", "Yes?", "Yes."]


async def test_a_wrong_clock_does_not_replace_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpenAIDialect.__init__.__kwdefaults__ is not None
    now = OpenAIDialect.__init__.__kwdefaults__["now"]
    monkeypatch.setitem(OpenAIDialect.__init__.__kwdefaults__, "now", lambda: now() + 7_200)
    async with calling(OPENAI) as call:
        await call.waits(40)
        assert len(call.server.got) == 1


async def test_unknown_messages_are_reported_once_for_each_kind() -> None:
    async with calling(OPENAI) as call:
        for number in range(5):
            call.server.connections[0].send(json.dumps({"type": "response.audio.delta", "event_id": f"e{number}"}))
            call.server.connections[0].send(json.dumps({"type": "session.moon", "event_id": f"m{number}"}))
        await call.waits(1)
        assert len(call.errors) == 2


async def test_a_server_that_repeats_no_metadata_is_not_asked_once_more_for_words_without_a_voice() -> None:
    times, model = counting([[Speak("Hi there!", seconds=0.0)]])
    async with OPENAI.server(model) as server:
        server.echoes = False  # type: ignore[union-attr]
        async with CountedCall(OPENAI, server, OPENAI.engine(server)) as call:
            await asks(call, "typed")
            await call.waits(5)
            assert len(times) == 1
            assert call.errors


# -- the connection ----------------------------------------------------------------------------------------------------


async def test_a_certificate_that_is_not_trusted_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with GEMINI.server() as server:
        engine = GEMINI.engine(server, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        dials, dial = [], engine.dial

        async def counted(*args: Any) -> Any:
            dials.append(args)
            return await dial(*args)

        monkeypatch.setattr(engine, "dial", counted)
        outcome = await Session(Pipeline([engine])).run()
        assert "certificate" in str(outcome).lower()
        assert len(dials) == 1
        assert not server.got


async def test_a_provider_that_always_goes_away_is_not_dialled_all_the_time() -> None:
    def model(asked: Asked) -> list[Act]:
        return [Speak("Yes.", seconds=0.2)]

    async with GEMINI.server(model) as server:
        engine = GEMINI.engine(server)
        async with CountedCall(GEMINI, server, engine) as call:
            for _ in range(50):
                if server.connections:
                    server.connections[-1].send({"goAway": {"timeLeft": "50s"}})
                    server.connections[-1].send({"goAway": {"timeLeft": "5s"}})
                await call.waits(1.0)
            assert len(server.got) <= 3
