"""Messages to Gemini Live."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.genai import types

from duologue.agents.engine import EngineConfig
from duologue.agents.tool import ToolSpec
from duologue.errors import BadInput
from duologue.frames import UserImage
from duologue.services.context import Message, ToolRequest
from duologue.services.google.dialect import NO_HISTORY, GeminiDialect
from duologue.services.google.options import GeminiLiveOptions, live_family
from duologue.services.google.setup import tools

from .live_api import FAMILY_MODELS, content, context_update_of, dialect, read, sent, speech

NATIVE_2_5, FLASH_3_1, LIVE_3_8, THINKING_3_8 = FAMILY_MODELS
WEATHER = ToolSpec(
    name="weather",
    description="How the weather is.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def checked(message: dict[str, Any]) -> dict[str, Any]:
    """The message, which the SDK's types must know."""
    types.LiveClientMessage.model_validate(message)
    return message


START: dict[str, Any] = {"realtime_input": {"activityStart": {}}}
END: dict[str, Any] = {"realtime_input": {"activityEnd": {}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": text}]}


def model(text: str) -> dict[str, Any]:
    return {"role": "model", "parts": [{"text": text}]}


def said(*turns: dict[str, Any], complete: bool) -> list[dict[str, Any]]:
    return [checked({"client_content": {"turns": list(turns), "turnComplete": complete}})]


def test_audio_goes_as_base64_of_16_khz() -> None:
    pcm = bytes(range(256)) * 3
    message = checked(json.loads(dialect().audio(pcm)))
    blob = message["realtime_input"]["audio"]
    assert blob["mime_type"] == "audio/pcm;rate=16000"
    assert base64.b64decode(blob["data"], validate=True) == pcm


def test_turns_of_the_framework_are_bracketed() -> None:
    gemini = dialect(turn_detection=None)
    assert sent(gemini.turn_begins()) == [START]
    assert sent(gemini.turn_ends()) == [END]


@pytest.mark.parametrize("name", [NATIVE_2_5, LIVE_3_8, THINKING_3_8, "gemini-9-live"])
def test_text_is_content(name: str) -> None:
    gemini = dialect(name)
    assert sent(gemini.text("Hi")) == said(user("Hi"), complete=False)
    assert sent(gemini.text("Hi", tag="t")) == said(user("Hi"), complete=True)
    assert sent(gemini.text("Ann has joined.", role="system")) == said(user("[Ann has joined.]"), complete=False)
    assert sent(gemini.respond("t")) == [{"client_content": {"turnComplete": True}}]
    assert sent(gemini.respond("t", "Be brief.")) == said(user("[For your next response: Be brief.]"), complete=True)


def test_a_model_that_answers_all_text_gets_only_what_is_to_be_answered() -> None:
    gemini = dialect(FLASH_3_1)
    assert gemini.text("Hi") == []
    assert gemini.text("Ann has joined.", role="system") == []
    assert sent(gemini.respond("t")) == [{"realtime_input": {"text": "Hi\n[Ann has joined.]"}}]
    assert sent(gemini.respond("t")) == [{"realtime_input": {"text": "[Respond now.]"}}]


def test_realtime_text_is_a_turn_of_its_own_if_the_framework_takes_turns() -> None:
    gemini = dialect(FLASH_3_1, turn_detection=None)
    assert sent(gemini.text("Hi", tag="t")) == [START, {"realtime_input": {"text": "Hi"}}, END]
    assert gemini.text("A note.", role="system") == []
    assert sent(gemini.turn_begins()) == [START, {"realtime_input": {"text": "[A note.]"}}]
    assert sent(gemini.text("Hi", tag="t")) == [{"realtime_input": {"text": "Hi"}}]
    assert sent(gemini.turn_ends()) == [END]


def test_a_resumed_session_is_told_nothing_that_could_be_history_before_it_has_answered() -> None:
    gemini = dialect(resumed=True)
    assert gemini.text("A note.", role="system") == []
    assert sent(gemini.text("Hi", tag="t")) == said(user("[A note.]\nHi"), complete=True)
    content(gemini, modelTurn=speech(b"\0\0"))
    assert sent(gemini.text("Another.", role="system")) == said(user("[Another.]"), complete=False)


HISTORY = (
    Message(role="user", text="Hello"),
    Message(role="system", text="Ann has joined."),
    Message(
        role="assistant", text="Let me see.", calls=(ToolRequest(call_id="f", name="weather", arguments={"a": 1}),)
    ),
    Message(role="tool", text='{"sun": true}', call_id="f", name="weather"),
    Message(role="user", text="Well?"),
    Message(role="assistant", text="Sunny."),
)
TURNS = (
    user("Hello\n[Ann has joined.]"),
    model('Let me see.\n[Called weather with {"a":1}]'),
    user('[Result of weather: {"sun": true}]\nWell?'),
    model("Sunny."),
)


def test_the_conversation_so_far() -> None:
    assert sent(dialect(LIVE_3_8).history(HISTORY)) == said(*TURNS, complete=False)
    assert dialect(LIVE_3_8).history(()) == []


def test_a_family_whose_history_must_end_with_the_caller() -> None:
    ending = user("[The conversation goes on from here.]")
    assert sent(dialect(NATIVE_2_5).history(HISTORY)) == said(*TURNS, ending, complete=False)
    assert sent(dialect(NATIVE_2_5).history(HISTORY[:1])) == said(user("Hello"), complete=False)


def test_a_family_that_waits_for_its_history() -> None:
    assert sent(dialect(FLASH_3_1).history(HISTORY)) == said(*TURNS, complete=True)
    assert dialect(FLASH_3_1).history(()) == []
    checked(json.loads(NO_HISTORY))


def test_images_in_the_conversation_so_far() -> None:
    messages = (
        Message(role="user", image=b"jpeg", mime="image/jpeg"),
        Message(role="user", text="What is that?"),
        Message(role="user", url="https://example.org/a.png", mime="image/png"),
    )
    (message,) = sent(dialect().history(messages))
    (turn,) = checked(message)["client_content"]["turns"]
    assert turn["parts"] == [
        {"inline_data": {"data": base64.b64encode(b"jpeg").decode(), "mime_type": "image/jpeg"}},
        {"text": "What is that?\n[An image: https://example.org/a.png]"},
    ]


def test_an_image() -> None:
    (message,) = sent(dialect().image(UserImage(image=b"png", mime="image/png")))
    assert checked(message)["realtime_input"]["video"] == {
        "data": base64.b64encode(b"png").decode(),
        "mime_type": "image/png",
    }


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (UserImage(url="https://example.org/a.jpg"), r"example\.org/a\.jpg"),
        (UserImage(image=b"gif", mime="image/gif"), "image/gif"),
        (UserImage(), "bytes"),
    ],
)
def test_an_image_that_it_cannot_take(image: UserImage, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        dialect().image(image)


@pytest.mark.parametrize("result", [0, "", {}, [], None, False, {"sun": True}, "sunny"])
def test_a_result_is_a_result_whatever_it_is(result: Any) -> None:
    (message,) = sent(dialect().tool_result("f1", "weather", result, respond=True))
    assert checked(message) == {
        "tool_response": {"functionResponses": [{"id": "f1", "name": "weather", "response": {"result": result}}]}
    }


@pytest.mark.parametrize(
    ("name", "options", "scheduling"),
    [
        (NATIVE_2_5, {}, None),
        (NATIVE_2_5, {"tool_behavior": "NON_BLOCKING"}, "SILENT"),
        (FLASH_3_1, {}, None),
        (LIVE_3_8, {}, "SILENT"),
        (LIVE_3_8, {"tool_behavior": "BLOCKING"}, None),
        (THINKING_3_8, {}, "SILENT"),
    ],
)
def test_a_result_that_is_not_to_be_answered_is_silent_where_that_is_possible(
    name: str, options: dict[str, Any], scheduling: str | None
) -> None:
    (message,) = sent(dialect(name, **options).tool_result("f1", "weather", 1, respond=False))
    assert checked(message)["tool_response"]["functionResponses"][0].get("scheduling") == scheduling


def test_the_results_of_calls_that_were_made_together_are_answered_once() -> None:
    gemini = dialect()
    calls = [{"id": f"f{number}", "name": "weather"} for number in (1, 2, 3)]
    read(gemini, toolCall={"functionCalls": calls})
    assert [silent(gemini, "f2", True), silent(gemini, "f1", True), silent(gemini, "f3", False)] == [True, True, False]


def test_a_call_that_was_cancelled_is_not_waited_for() -> None:
    gemini = dialect()
    read(gemini, toolCall={"functionCalls": [{"id": "f1", "name": "weather"}, {"id": "f2", "name": "weather"}]})
    read(gemini, toolCallCancellation={"ids": ["f1"]})
    assert not silent(gemini, "f2", True)


def silent(gemini: GeminiDialect, call_id: str, respond: bool) -> bool:
    """True if the result of a call is sent as one that is not answered."""
    (message,) = sent(gemini.tool_result(call_id, "weather", 1, respond=respond))
    return "scheduling" in checked(message)["tool_response"]["functionResponses"][0]


def test_a_result_that_is_no_json_value() -> None:
    with pytest.raises(BadInput, match="weather"):
        dialect().tool_result("f1", "weather", object(), respond=True)


def test_there_is_nothing_to_cancel_or_to_truncate_with() -> None:
    assert dialect().cancel("r1") == []
    assert dialect().truncate("", 100) == []


# -- changes in mid-session --------------------------------------------------------------------------------------------

OLD = EngineConfig(agent="Ann", instructions="Be kind.", tools=(WEATHER,))


def changed(**fields: Any) -> EngineConfig:
    return EngineConfig(**{"agent": "Bert", "instructions": "Be kind.", "tools": (WEATHER,), **fields})


@pytest.mark.parametrize("name", [LIVE_3_8, THINKING_3_8])
async def test_instructions_and_tools_change_in_place_as_the_sdk_would_do_it(name: str) -> None:
    time = ToolSpec(name="time", description="What time it is.", parameters={})
    gemini = dialect(name, config=OLD, google_search=True)
    options, family = GeminiLiveOptions(google_search=True), live_family(name)

    ours = gemini.update("u1", changed(instructions="Be brief.", tools=(WEATHER, time)))
    assert ours is not None
    given = tools((WEATHER, time), options, family)
    (message,) = ours
    assert _plain(checked(json.loads(message))) == _plain(await context_update_of("Be brief.", given))

    assert gemini.update("u2", changed(instructions="Be brief.", tools=(WEATHER, time))) == []
    (message,) = gemini.update("u3", changed(instructions="Be brief.", tools=(), language="German")) or []
    update = json.loads(message)["contextUpdate"]
    assert update["systemInstruction"]["parts"] == [{"text": "Be brief.\n\nLanguage: Always respond in German"}]
    assert update["tools"] == {"tools": [{"googleSearch": {}}]}


def _plain(message: Any) -> Any:
    """Without the order of tools, and with the wire's two spellings of a key as one."""
    if isinstance(message, list):
        return sorted((_plain(item) for item in message), key=json.dumps)
    if isinstance(message, dict):
        return {key.replace("_", "").lower(): _plain(value) for key, value in sorted(message.items())}
    return message


def test_all_tools_go() -> None:
    (message,) = dialect(config=OLD).update("u", changed(tools=())) or []
    assert json.loads(message) == {"contextUpdate": {"tools": {"tools": []}}}


@pytest.mark.parametrize(
    "change",
    [{"voice": "Kore"}, {"options": {"temperature": 0.5}}, {"instructions": ""}],
    ids=["voice", "options", "none"],
)
def test_the_rest_takes_a_new_connection(change: dict[str, Any]) -> None:
    gemini = dialect(config=OLD)
    assert gemini.update("u1", changed(**change)) is None
    assert gemini.update("u2", changed()) == []


@pytest.mark.parametrize("name", [NATIVE_2_5, FLASH_3_1, "gemini-9-live"])
def test_other_models_change_by_a_new_connection(name: str) -> None:
    gemini = dialect(name, config=OLD)
    assert gemini.update("u1", changed(instructions="Be brief.")) is None
    assert gemini.update("u2", changed(tools=())) is None
    assert gemini.update("u3", changed()) == []


def test_the_default_voice_may_be_named() -> None:
    assert dialect(config=OLD).update("u", changed(voice="Puck")) == []
