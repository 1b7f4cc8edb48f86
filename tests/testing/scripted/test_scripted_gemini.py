"""The scripted Gemini, as Google's own SDK sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue.audio.pcm import silence
from duologue.errors import IllegalState
from duologue.services.context import Message, ToolRequest
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import (
    Act,
    Asked,
    CallTool,
    Close,
    Fail,
    GoAway,
    HalfOpen,
    Raw,
    Speak,
    Twice,
    Wait,
)
from duologue.testing.tones import pieces, tone

RATE = 16_000
PLAIN, SYNC, LIVE, THINKING = (
    "gemini-2.5-flash-native-audio",
    "gemini-3.1-flash-live-preview",
    "gemini-3.8-live",
    "gemini-3.8-live-extended-thinking",
)
TRANSCRIBED: dict[str, Any] = {"input_audio_transcription": {}, "output_audio_transcription": {}}
MANUAL: dict[str, Any] = {"realtime_input_config": {"automatic_activity_detection": {"disabled": True}}}
LOW: dict[str, Any] = {"thinking_config": {"thinking_level": "LOW"}}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters_json_schema": {"type": "object", "properties": {"city_name": {"type": "string"}}},
}


Script = list[list[Act]]


def tools(**more: Any) -> dict[str, Any]:
    return {"tools": [{"function_declarations": [WEATHER | more]}]}


@asynccontextmanager
async def session(
    server: ScriptedGemini, *, model: str = LIVE, key: str = "test", **config: Any
) -> AsyncIterator[AsyncSession]:
    options = types.HttpOptions(
        base_url=server.url, api_version="v1beta", async_client_args={"ssl": server.ssl_context}
    )
    client = genai.Client(api_key=key, http_options=options)
    try:
        settings = types.LiveConnectConfig(**{"response_modalities": ["AUDIO"], **config})
        async with client.aio.live.connect(model=model, config=settings) as live:
            assert live.setup_complete is not None
            yield live
    finally:
        await client.aio.aclose()
        client.close()


async def send(live: AsyncSession, pcm: bytes, rate: int = RATE) -> None:
    """Sends audio in real time."""
    for piece in pieces(pcm, rate):
        await live.send_realtime_input(audio=types.Blob(data=piece, mime_type=f"audio/pcm;rate={rate}"))
        await asyncio.sleep(len(piece) / 2 / rate)


async def say(live: AsyncSession, seconds: float = 1.0) -> None:
    await send(live, tone(seconds, RATE) + silence(0.6, RATE))


async def write(live: AsyncSession, text: str) -> None:
    await live.send_realtime_input(text=text)


async def turn(live: AsyncSession) -> list[types.LiveServerMessage]:
    """All messages up to the end of the model's turn."""
    return [message async for message in live.receive()]


async def closing(live: AsyncSession) -> errors.APIError:
    """How the connection ends."""
    try:
        while True:
            await turn(live)
    except errors.APIError as error:
        return error


async def silent_for(live: AsyncSession, seconds: float) -> list[types.LiveServerMessage]:
    """The messages that come until none has come for this time."""
    messages = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(seconds):
                messages.append(await live._receive())
    return messages


def contents(messages: list[types.LiveServerMessage]) -> list[types.LiveServerContent]:
    return [message.server_content for message in messages if message.server_content]


def audio(messages: list[types.LiveServerMessage]) -> bytes:
    out = b""
    for content in contents(messages):
        for part in (content.model_turn.parts or ()) if content.model_turn else ():
            assert part.inline_data is not None
            assert part.inline_data.mime_type == "audio/pcm;rate=24000"
            out += part.inline_data.data or b""
    return out


def said(messages: list[types.LiveServerMessage]) -> str:
    return "".join(c.output_transcription.text or "" for c in contents(messages) if c.output_transcription)


def heard(messages: list[types.LiveServerMessage]) -> str:
    return "".join(c.input_transcription.text or "" for c in contents(messages) if c.input_transcription)


def calls(messages: list[types.LiveServerMessage]) -> list[types.FunctionCall]:
    return [call for message in messages if message.tool_call for call in message.tool_call.function_calls or ()]


def result(call_id: str | None, value: str = "Sunny.", **more: Any) -> types.FunctionResponse:
    return types.FunctionResponse(id=call_id, name="weather", response={"some_output": value}, **more)


def user(text: str) -> Message:
    return Message(role="user", text=text)


def agent(text: str) -> Message:
    return Message(role="assistant", text=text)


class TestTurns:
    async def test_a_spoken_turn_is_answered_in_audio_and_text(self) -> None:
        loop = asyncio.get_running_loop()
        speech = tone(0.95, 24_000, hz=300)
        script: Script = [[Speak("Hello there, friend.", audio=speech)]]
        async with ScriptedGemini(script, transcripts=["Good morning to you"]) as server:
            async with session(
                server, system_instruction="Be kind.", speech_config={"voice_config": voice("Kore")}, **TRANSCRIBED
            ) as live:
                await say(live)
                messages = await turn(live)
            got = server.got[0]
        assert audio(messages) == speech
        assert said(messages) == "Hello there, friend."
        assert heard(messages) == "Good morning to you"
        flags = [name for content in contents(messages) for name in sorted(content.model_fields_set)]
        assert flags.index("generation_complete") < flags.index("turn_complete") == len(flags) - 1
        finished = [c.input_transcription for c in contents(messages) if c.input_transcription]
        assert [bool(piece.finished) for piece in finished] == [False, False, True]
        assert loop.time() == pytest.approx(1.6 + 0.95, abs=0.2)  # the end of what is played
        assert bytes(got.audio) == tone(1, RATE) + silence(0.6, RATE)
        assert got.turns == [(0, 24_000)]
        assert got.history == [user("Good morning to you"), agent("Hello there, friend.")]
        assert (got.instructions, got.voice, got.closed, got.number) == ("Be kind.", "Kore", 1000, 1)

    async def test_consumption_is_told_by_modality(self) -> None:
        async with ScriptedGemini([[Speak("Hello.", seconds=2)]]) as server, session(server) as live:
            await say(live)
            usage = (await turn(live))[-1].usage_metadata
        assert usage is not None
        assert usage.response_tokens_details is not None
        assert [(d.modality, d.token_count) for d in usage.response_tokens_details] == [("AUDIO", 50)]
        assert usage.total_token_count == (usage.prompt_token_count or 0) + 50

    async def test_transcripts_come_only_if_asked_for(self) -> None:
        async with ScriptedGemini(transcripts=["Hello"]) as server, session(server) as live:
            await say(live)
            messages = await turn(live)
            assert (heard(messages), said(messages), server.got[0].history[0]) == ("", "", user("Hello"))

    async def test_a_late_transcript_follows_the_answer(self) -> None:
        async with (
            ScriptedGemini([[Speak("Yes.", seconds=1)]], transcripts=["Hello"], transcript_delay_s=3) as server,
            session(server, **TRANSCRIBED) as live,
        ):
            await say(live)
            assert heard(await turn(live)) == ""
            assert [heard([await live._receive()]) for _ in range(2)] == ["Hello", ""]

    async def test_a_recogniser_may_understand_the_turns(self) -> None:
        async with (
            ScriptedGemini(transcripts=lambda pcm: f"{len(pcm) // 2} samples") as server,
            session(server) as live,
        ):
            await send(live, silence(0.5, RATE))
            await say(live)
            await turn(live)
        assert server.got[0].turns == [(8_000, 32_000)]
        assert server.got[0].history[0] == user("24000 samples")

    async def test_the_setup_says_how_long_a_silence_ends_a_turn(self) -> None:
        detection = {"silence_duration_ms": 200, "prefix_padding_ms": 100}
        async with (
            ScriptedGemini() as server,
            session(server, realtime_input_config={"automatic_activity_detection": detection}) as live,
        ):
            await send(live, tone(0.05, RATE) + silence(0.5, RATE) + tone(0.5, RATE) + silence(0.3, RATE))
            await turn(live)
        assert server.got[0].turns == [(8_800, 20_000)]

    async def test_audio_of_another_rate(self) -> None:
        async with ScriptedGemini() as server, session(server) as live:
            await send(live, tone(0.5, 48_000) + silence(0.6, 48_000), 48_000)
            await turn(live)
            assert server.got[0].turns == [(0, 48_000)]

    async def test_the_end_of_the_stream_ends_the_turn(self) -> None:
        async with ScriptedGemini() as server, session(server) as live:
            await send(live, tone(0.5, RATE))
            await live.send_realtime_input(audio_stream_end=True)
            await turn(live)
            assert server.got[0].turns == [(0, 8_000)]

    async def test_turns_that_the_client_marks(self) -> None:
        async with (
            ScriptedGemini([[Speak("One.")]], transcripts=["Hello"]) as server,
            session(server, **MANUAL) as live,
        ):
            await say(live)  # outside of an activity: not listened to
            await live.send_realtime_input(activity_start=types.ActivityStart())
            await send(live, tone(0.5, RATE))
            await live.send_realtime_input(activity_end=types.ActivityEnd())
            await turn(live)
        assert server.got[0].turns == [(25_600, 33_600)]
        assert len(server.got[0].audio) == 67_200
        assert server.got[0].history == [user("Hello"), agent("One.")]

    async def test_marks_need_the_detection_to_be_off(self) -> None:
        async with ScriptedGemini() as server, session(server) as live:
            await live.send_realtime_input(activity_start=types.ActivityStart())
            assert (await closing(live)).code == 1007

    async def test_turns_that_the_test_tells(self) -> None:
        async with ScriptedGemini(turn_detection="told") as server, session(server) as live:
            await say(live)
            connection = server.connections[0]
            with pytest.raises(IllegalState, match="end_turn"):
                connection.end_turn()
            connection.begin_turn("Hello")
            await send(live, silence(0.5, RATE))
            connection.end_turn()
            await turn(live)
            assert server.got[0].turns == [(25_600, 33_600)]
            assert server.got[0].history[0] == user("Hello")
            server.behaviour.turn_detection = "energy"
            with pytest.raises(IllegalState, match="turn_detection"):
                connection.begin_turn()

    async def test_text_and_images(self) -> None:
        async with ScriptedGemini([[Speak("One.")], [Speak("Two.")]]) as server, session(server) as live:
            await live.send_realtime_input(video=types.Blob(data=b"jpeg", mime_type="image/jpeg"))
            await write(live, "First")
            await turn(live)
            await live.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Second")]))
            await turn(live)
            got = server.got[0]
        assert [message.text for message in got.history] == ["First", "One.", "Second", "Two."]
        assert got.messages[1]["realtime_input"]["video"]["mime_type"] == "image/jpeg"


def voice(name: str) -> dict[str, Any]:
    return {"prebuilt_voice_config": {"voice_name": name}}


class TestInterruption:
    SCRIPT = ([Speak("One two three four five six seven eight nine ten.", seconds=10, pace=1)],)

    async def test_the_caller_stops_the_model_which_remembers_what_it_sent(self) -> None:
        async with (
            ScriptedGemini(self.SCRIPT, transcripts=["Stop", "Sorry"]) as server,
            session(server, **TRANSCRIBED) as live,
        ):
            await say(live)
            await asyncio.sleep(3)
            await say(live)
            first, second = await turn(live), await turn(live)
        kinds = [content for content in contents(first) if content.interrupted or content.turn_complete]
        assert [bool(content.interrupted) for content in kinds] == [True, False]
        assert not any(content.generation_complete for content in contents(first))
        assert 2.9 <= len(audio(first)) / 48_000 <= 3.4
        assert server.got[0].history == [user("Stop"), agent("One two three"), user("Sorry"), agent("Yes.")]
        assert said(first) == "One two three"
        assert said(second) == "Yes."

    async def test_it_may_be_told_not_to(self) -> None:
        config: dict[str, Any] = {"realtime_input_config": {"activity_handling": "NO_INTERRUPTION"}}
        async with ScriptedGemini(self.SCRIPT) as server, session(server, **config) as live:
            await say(live)
            await asyncio.sleep(2)
            await say(live)
            first, second = await turn(live), await turn(live)
            assert len(audio(first)) == 480_000
            assert audio(second)
            assert len(server.got[0].turns) == 2

    async def test_text_interrupts_as_well(self) -> None:
        async with ScriptedGemini(self.SCRIPT) as server, session(server) as live:
            await say(live)
            await live.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Stop")]))
            assert any(content.interrupted for content in contents(await turn(live)))
            assert audio(await turn(live))

    async def test_calls_of_the_model_are_cancelled(self) -> None:
        async with (
            ScriptedGemini([[CallTool("weather", call_id="c1")]]) as server,
            session(server, model=PLAIN, **tools()) as live,
        ):
            await say(live)
            await say(live)
            messages = await turn(live)
            await live.send_tool_response(function_responses=result("c1"))  # too late
            await turn(live)
        cancelled = [message.tool_call_cancellation for message in messages if message.tool_call_cancellation]
        assert [cancellation.ids for cancellation in cancelled] == [["c1"]]
        assert server.got[0].results == []
        assert server.got[0].history == [user(""), user(""), agent("Yes.")]


class TestTools:
    async def test_a_blocking_call_waits_for_all_results_and_goes_on_in_the_same_turn(self) -> None:
        asked: list[Asked] = []

        def model(question: Asked) -> list[Act]:
            asked.append(question)
            if len(asked) > 1:
                return [Speak("It is sunny.")]
            return [Speak("Wait."), CallTool("weather", {"city_name": "Paris"}), CallTool("weather", call_id="second")]

        async with ScriptedGemini(model, transcripts=["Weather?"]) as server:
            async with session(server, model=PLAIN, **TRANSCRIBED, **tools()) as live:
                await say(live)
                messages: list[types.LiveServerMessage] = []
                async for message in live.receive():
                    messages.append(message)
                    if message.tool_call:
                        first, second = calls([message])
                        assert (first.name, first.args) == ("weather", {"city_name": "Paris"})
                        await live.send_tool_response(function_responses=result(first.id))
                        await asyncio.sleep(1)
                        assert len(asked) == 1
                        await live.send_tool_response(function_responses=result(second.id, "Warm."))
            got = server.got[0]
        assert said(messages) == "Wait.It is sunny."
        assert got.results == [(first.id, '{"some_output": "Sunny."}'), ("second", '{"some_output": "Warm."}')]
        assert got.tools[0]["parametersJsonSchema"]["properties"] == {"city_name": {"type": "string"}}
        assert got.tools == asked[0].tools
        assert [message.role for message in asked[1].history] == ["user", "assistant", "tool", "tool"]
        request = ToolRequest(call_id=first.id or "", name="weather", arguments={"city_name": "Paris"})
        assert asked[1].history[1].calls[0] == request
        assert (asked[0].said, asked[1].said) == ("Weather?", "")
        assert got.history[-1] == agent("It is sunny.")

    async def test_the_model_speaks_on_while_a_call_runs_and_tells_the_result_when_idle(self) -> None:
        script: Script = [[CallTool("weather"), Speak("Let me see.", seconds=1)], [Speak("Sunny.", seconds=1)]]
        async with ScriptedGemini(script) as server, session(server, **TRANSCRIBED, **tools()) as live:
            await say(live)
            await live.send_tool_response(function_responses=result("function-call-1"))
            first, second = await turn(live), await turn(live)
            assert (said(first), said(second)) == ("Let me see.", "Sunny.")
            assert calls(first)

    async def test_a_result_that_waits_is_told_with_the_answer_to_what_the_caller_says_next(self) -> None:
        script: Script = [[CallTool("weather"), Speak("Let me see.", seconds=9)], [Speak("Sunny, and stopped.")]]
        async with ScriptedGemini(script) as server, session(server, **TRANSCRIBED, **tools()) as live:
            await say(live)
            await live.send_tool_response(function_responses=result("function-call-1"))
            await write(live, "Stop")
            await turn(live)
            assert said(await turn(live)) == "Sunny, and stopped."
            assert await silent_for(live, 30) == []
            assert [message.role for message in server.got[0].history] == [
                "user",
                "assistant",
                "tool",
                "user",
                "assistant",
            ]

    async def test_a_result_may_interrupt_or_say_nothing(self) -> None:
        script: Script = [
            [CallTool("weather"), CallTool("weather"), Speak("One two three four.", seconds=8, pace=1)],
            [Speak("Sunny.")],
        ]
        async with ScriptedGemini(script) as server, session(server, **TRANSCRIBED, **tools()) as live:
            await say(live)
            await asyncio.sleep(2)
            silent = result("function-call-1", scheduling=types.FunctionResponseScheduling.SILENT)
            await live.send_tool_response(function_responses=silent)
            await asyncio.sleep(1)
            loud = result("function-call-2", scheduling=types.FunctionResponseScheduling.INTERRUPT)
            await live.send_tool_response(function_responses=loud)
            first, second = await turn(live), await turn(live)
            assert any(content.interrupted for content in contents(first))
            assert not any(message.tool_call_cancellation for message in first)
            assert said(second) == "Sunny."
            assert [call_id for call_id, _ in server.got[0].results] == ["function-call-1", "function-call-2"]

    async def test_a_call_may_have_several_results(self) -> None:
        script: Script = [[CallTool("weather")], [Speak("Cloudy so far.")], [Speak("Now sunny.")]]
        async with ScriptedGemini(script) as server, session(server, **TRANSCRIBED, **tools()) as live:
            await say(live)
            await turn(live)
            await live.send_tool_response(function_responses=result("function-call-1", will_continue=True))
            assert said(await turn(live)) == "Cloudy so far."
            await live.send_tool_response(function_responses=result("function-call-1"))
            assert said(await turn(live)) == "Now sunny."
            assert len(server.got[0].results) == 2

    async def test_thinking_models_tell_when_an_interaction_is_over(self) -> None:
        script: Script = [[Speak("Let me think.", seconds=1), Wait(5), Speak("It is 42.", seconds=1)]]
        async with ScriptedGemini(script) as server, session(server, model=THINKING, **LOW, **TRANSCRIBED) as live:
            await say(live)
            messages = await turn(live)  # the SDK reads on to the end of the interaction
        ends = [content.interaction_status for content in contents(messages) if content.turn_complete]
        assert ends == [types.InteractionStatus.IN_PROGRESS, types.InteractionStatus.IDLE]
        assert said(messages) == "Let me think. It is 42."


class TestSessions:
    async def test_a_handle_brings_the_history_back(self) -> None:
        async with ScriptedGemini([[Speak("One.")], [Speak("Two.")]]) as server:
            async with session(server, session_resumption={}) as live:
                await write(live, "First")
                messages = [*await turn(live), await live._receive()]
            updates = [message.session_resumption_update for message in messages if message.session_resumption_update]
            assert [(bool(update.resumable), bool(update.new_handle)) for update in updates] == [
                (False, False),
                (True, True),
            ]
            handle = updates[-1].new_handle
            async with session(server, session_resumption={"handle": handle}) as live:
                await write(live, "Second")
                await turn(live)
        assert [message.text for message in server.got[1].history] == ["First", "One.", "Second", "Two."]
        assert (server.got[1].handle, server.got[0].handle) == (handle, "")

    async def test_no_handle_is_given_while_a_call_runs(self) -> None:
        async with (
            ScriptedGemini([[CallTool("weather")]]) as server,
            session(server, session_resumption={}, **tools()) as live,
        ):
            await write(live, "Weather?")
            messages = [*await turn(live), await live._receive()]
            silent = result("function-call-1", scheduling=types.FunctionResponseScheduling.SILENT)
            await live.send_tool_response(function_responses=silent)
            messages.append(await live._receive())
        updates = [message.session_resumption_update for message in messages if message.session_resumption_update]
        assert [bool(update.resumable) for update in updates] == [False, False, True]

    @pytest.mark.parametrize("refused", [True, False])
    async def test_a_handle_may_be_refused_or_unknown(self, refused: bool) -> None:
        async with ScriptedGemini(refuse_handles=refused) as server:
            with pytest.raises(errors.APIError) as caught:
                async with session(server, session_resumption={"handle": "old"}):
                    pass
        assert caught.value.code == 1007

    async def test_a_resumed_session_takes_no_history(self) -> None:
        async with ScriptedGemini() as server:
            async with session(server, session_resumption={}) as live:
                await write(live, "First")
                await turn(live)
                update = (await live._receive()).session_resumption_update
            assert update is not None
            async with session(server, session_resumption={"handle": update.new_handle}) as live:
                await live.send_client_content(turns=history("A note.", "")[0], turn_complete=False)
                await asyncio.sleep(1)
                assert server.got[1].history == [user("First"), agent("Yes."), user("A note.")]
                await live.send_client_content(turns=history("First", "Yes."), turn_complete=False)
                assert (await closing(live)).code == 1007

    @pytest.mark.parametrize("model", [SYNC, LIVE])
    async def test_a_session_begins_with_a_history(self, model: str) -> None:
        config: dict[str, Any] = {"history_config": {"initial_history_in_client_content": True}}
        async with ScriptedGemini() as server, session(server, model=model, **config) as live:
            await live.send_client_content(turns=history("Hello", "Hi."), turn_complete=True)
            await write(live, "And now?")
            await turn(live)
            assert [message.text for message in server.got[0].history] == ["Hello", "Hi.", "And now?", "Yes."]
            assert [message.role for message in server.got[0].history[:2]] == ["user", "assistant"]

    async def test_the_initial_history_comes_before_everything_else(self) -> None:
        config: dict[str, Any] = {"history_config": {"initial_history_in_client_content": True}}
        async with ScriptedGemini() as server, session(server, **config) as live:
            await live.send_client_content(turns=history("Hello", "Hi."), turn_complete=False)
            await send(live, silence(0.02, RATE))
            assert "initial history" in str((await closing(live)).details)

    async def test_the_instructions_and_tools_change_in_mid_session(self) -> None:
        asked: list[Asked] = []

        def model(question: Asked) -> list[Act]:
            asked.append(question)
            return [Speak("Yes.")]

        async with ScriptedGemini(model) as server, session(server, system_instruction="Old.", **tools()) as live:
            await live.send_context_update(system_instruction="New.")
            await write(live, "One")
            await turn(live)
            await live.send_context_update(tools=[])
            await write(live, "Two")
            await turn(live)
            assert server.got[0].tools == ()
        assert [(question.instructions, len(question.tools)) for question in asked] == [("New.", 1), ("New.", 0)]

    async def test_a_session_ends_at_its_limit(self) -> None:
        async with ScriptedGemini(session_limit_s=600) as server, session(server) as live:
            assert (await closing(live)).code == 1011
        assert asyncio.get_running_loop().time() == pytest.approx(600, abs=1)


def history(asked: str, answered: str) -> list[types.Content | types.ContentDict]:
    return [
        types.Content(role="user", parts=[types.Part(text=asked)]),
        types.Content(role="model", parts=[types.Part(text=answered)]),
    ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "config"),
        [
            (LIVE, LOW),
            (THINKING, {}),
            (THINKING, {"thinking_config": {"thinking_level": "HIGH", "thinking_budget": 100}}),
            (THINKING, LOW | tools(behavior="BLOCKING")),
            (SYNC, tools(behavior="NON_BLOCKING")),
            (PLAIN, LOW),
            (LIVE, {"response_modalities": ["TEXT"]}),
        ],
    )
    async def test_a_setup_that_the_model_does_not_take(self, model: str, config: dict[str, Any]) -> None:
        async with ScriptedGemini() as server:
            with pytest.raises(errors.APIError) as caught:
                async with session(server, model=model, **config):
                    pass
        assert caught.value.code == 1007
        assert server.got[0].closed == 1007

    @pytest.mark.parametrize(
        ("extra", "reason"),
        [
            ({"tools": []}, "invalid argument"),
            ({"sessionResumption": {"handle": None}}, "invalid argument"),
            ({"sessionResumption": {"transparent": True}}, "transparent"),
            ({"instructions": "Be kind."}, "instructions"),
        ],
    )
    async def test_a_setup_that_the_sdk_would_not_send(self, extra: dict[str, Any], reason: str) -> None:
        async with ScriptedGemini() as server:
            path = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
            async with connect(
                server.url.replace("https", "wss") + path,
                ssl=server.ssl_context,
                additional_headers={"x-goog-api-key": "test"},
            ) as socket:
                await socket.send(json.dumps({"setup": {"model": f"models/{SYNC}", **extra}}))
                with pytest.raises(ConnectionClosed, match=reason):
                    await socket.recv()

    @pytest.mark.parametrize("config", [{"enable_affective_dialog": True}, {"proactivity": {"proactive_audio": True}}])
    async def test_a_setup_that_is_never_answered(self, config: dict[str, Any]) -> None:
        async with ScriptedGemini() as server:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10), session(server, model=SYNC, **config):
                    pass

    async def test_a_wrong_key_and_an_unknown_model(self) -> None:
        async with ScriptedGemini(models=frozenset([LIVE])) as server:
            with pytest.raises(errors.APIError, match="API key not valid") as caught:
                async with session(server, key="wrong"):
                    pass
            assert caught.value.code == 1007
            with pytest.raises(errors.APIError, match="not found") as caught:
                async with session(server, model=PLAIN):
                    pass
            assert caught.value.code == 1008
            async with session(server):
                pass

    async def test_the_door_is_shut(self) -> None:
        async with ScriptedGemini(refuse=1) as server:
            with pytest.raises(InvalidStatus, match="503"):
                async with session(server):
                    pass
            async with session(server):
                assert len(server.got) == len(server.connections) == 1

    async def test_messages_that_the_model_does_not_take(self) -> None:
        async with ScriptedGemini() as server:
            async with session(server, model=SYNC) as live:
                await live.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Hello")]))
                assert (await closing(live)).code == 1007
            async with session(server, model=PLAIN) as live:
                await live.send_context_update(system_instruction="New.")
                assert (await closing(live)).code == 1007
            async with session(server, model=PLAIN) as live:
                await live.send_client_content(turns=history("Hello", "Hi."), turn_complete=False)
                assert (await closing(live)).code == 1007
            async with session(server) as live:
                await live._ws.send('{"realtime_output": {}}')
                assert "realtimeOutput" in str((await closing(live)).details)
            async with session(server) as live:
                await live._ws.send("no JSON")
                assert (await closing(live)).code == 1007


class TestFaults:
    async def test_a_late_setup(self) -> None:
        loop = asyncio.get_running_loop()
        async with ScriptedGemini(setup_delay_s=4) as server:
            async with session(server):
                assert loop.time() == pytest.approx(4, abs=0.1)
            server.behaviour.setup_delay_s = math.inf
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10), session(server):
                    pass

    async def test_every_message_is_late(self) -> None:
        async with ScriptedGemini([[Speak("Yes.", seconds=0.1)]], delay_s=0.5) as server, session(server) as live:
            before = asyncio.get_running_loop().time()
            await write(live, "Hello")
            await live._receive()
            assert asyncio.get_running_loop().time() == pytest.approx(before + 0.5)

    @pytest.mark.parametrize(
        ("act", "code"), [(Fail(), 1011), (Close(1008, "No."), 1008), (Close(0), 1006), (GoAway(3), 1001)]
    )
    async def test_the_connection_ends(self, act: Act, code: int) -> None:
        async with ScriptedGemini([[act]]) as server, session(server) as live:
            await write(live, "Hello")
            assert (await closing(live)).code == code
            await asyncio.sleep(0.1)
            assert server.connections == []
        assert server.got[0].closed == code

    async def test_the_end_is_announced(self) -> None:
        async with ScriptedGemini() as server, session(server) as live:
            before = asyncio.get_running_loop().time()
            server.connections[0].go_away(2.5)
            message = await live._receive()
            assert message.go_away is not None
            assert message.go_away.time_left == "2.5s"
            await closing(live)
            assert asyncio.get_running_loop().time() == pytest.approx(before + 2.5)

    @pytest.mark.parametrize("by", ["script", "test"])
    async def test_a_half_open_connection_is_silent_and_does_not_hold_up_the_end(self, by: str) -> None:
        loop = asyncio.get_running_loop()
        script: Script = [[Speak("Hello.", seconds=0.1), HalfOpen(), Speak("Lost.")]]
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(ScriptedGemini(script))
            async with session(server) as live:
                if by == "test":
                    server.connections[0].go_half_open()
                await write(live, "Hello")
                answer = await silent_for(live, 5)
                assert len(audio(answer)) == (4_800 if by == "script" else 0)
                answered, _ = await asyncio.wait([asyncio.ensure_future(await live._ws.ping())], timeout=5)
                assert not answered
                assert server.got[0].closed is None
                before = loop.time()
                await stack.aclose()
                assert loop.time() == before
                assert server.got[0].closed == 1006
                assert (await closing(live)).code == 1006

    async def test_messages_as_they_are_and_twice(self) -> None:
        unknown = {"newThing": {"a": 1}}
        script: Script = [[Raw(unknown), Raw("no JSON"), Raw(b"{}"), Twice(), Speak("Hello.", seconds=0.1)]]
        async with ScriptedGemini(script) as server, session(server) as live:
            await write(live, "Hello")
            assert json.loads(await live._ws.recv()) == unknown
            assert [await live._ws.recv() for _ in range(2)] == ["no JSON", b"{}"]
            messages = await turn(live)
            assert len(audio(messages)) == 2 * 4_800
            server.connections[0].send({"toolCallCancellation": {"ids": ["x"]}})
            assert (await live._receive()).tool_call_cancellation is not None

    async def test_an_error_in_the_script_is_raised_at_the_end(self) -> None:
        def model(_: Asked) -> list[Act]:
            raise RuntimeError("the script is wrong")

        async def call() -> None:
            async with ScriptedGemini(model) as server, session(server) as live:
                await write(live, "Hello")
                assert (await closing(live)).code == 1011

        with pytest.raises(RuntimeError, match="the script is wrong"):
            await call()

    async def test_an_address_needs_a_running_server(self) -> None:
        server = ScriptedGemini()
        with pytest.raises(IllegalState):
            _ = server.url
        async with server:
            assert server.url.startswith("https://127.0.0.1:")

    async def test_the_end_of_the_server_ends_its_connections(self) -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(ScriptedGemini([[Speak("Hello.", seconds=5, pace=1)]]))
            async with session(server) as live:
                await write(live, "Hello")
                await live._receive()
                await stack.aclose()
                assert server.connections == []
                assert (await closing(live)).code == 1006
