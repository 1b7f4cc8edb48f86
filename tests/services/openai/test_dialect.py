"""Messages to OpenAI Realtime."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from duologue.agents.engine import EngineConfig
from duologue.agents.tool import ToolSpec
from duologue.errors import BadInput
from duologue.frames import UserImage
from duologue.services.context import Message, ToolRequest
from duologue.services.native.dialect import Configured, Opened, Refused, TurnTaken
from duologue.services.openai import InputTranscription, OpenAIRealtimeOptions, SemanticVad, ServerVad, Tracing
from duologue.services.openai.dialect import OpenAIDialect
from tests.services.openai.wire import (
    audio,
    created,
    done,
    error,
    item_done,
    opened,
    read,
    sent,
    session_created,
    session_updated,
    told,
)

NEW = EngineConfig(instructions="Be brief.", tools=(ToolSpec(name="weather"),))


def new(options: OpenAIRealtimeOptions | None = None) -> OpenAIDialect:
    return OpenAIDialect("gpt-realtime-2.1", EngineConfig(), options or OpenAIRealtimeOptions(), now=lambda: 1000.0)


def change(dialect: OpenAIDialect, update_id: str, config: EngineConfig) -> dict[str, Any]:
    messages = dialect.update(update_id, config)
    assert messages is not None
    (message,) = messages
    plain = sent(message)
    assert plain["event_id"] == update_id
    session: dict[str, Any] = plain["session"]
    return session


# -- set-up ------------------------------------------------------------------------------------------------------------


def test_the_session_is_open_when_its_setup_has_been_applied() -> None:
    dialect = new()
    (message,) = dialect.setup()
    assert sent(message)["event_id"] == "setup"
    assert dialect.read(session_created(expires_at=4600)) == []
    assert dialect.read(session_updated()) == [Opened(session_id="sess_1", left_s=3600.0)]
    assert dialect.read(session_updated()) == []


@pytest.mark.parametrize("fields", [{}, {"expires_at": None}, {"expires_at": 0}])
def test_how_long_the_session_lasts_may_be_untold(fields: dict[str, Any]) -> None:
    dialect = new()
    dialect.setup()
    assert read(dialect, session_created(**fields), session_updated()) == [Opened(session_id="sess_1", left_s=None)]


@pytest.mark.parametrize(
    ("code", "kind", "fatal"),
    [
        ("invalid_value", "invalid_request_error", True),
        ("insufficient_quota", "insufficient_quota", True),
        (None, "insufficient_quota", True),
        ("model_not_found", "invalid_request_error", True),
        ("server_error", "server_error", False),
    ],
)
def test_a_refused_setup(code: str | None, kind: str, fatal: bool) -> None:
    dialect = new()
    dialect.setup()
    dialect.read(session_created())
    (refused,) = dialect.read(error(code, "No such voice.", about="setup", kind=kind))
    assert refused == Refused(code=code or kind, message="No such voice.", about="setup", fatal=fatal)
    assert dialect.read(session_updated()) == []


@pytest.mark.parametrize(
    ("code", "fatal"),
    [
        ("invalid_api_key", True),
        ("account_deactivated", True),
        ("billing_hard_limit_reached", True),
        ("insufficient_quota", True),
        ("session_expired", False),
        ("rate_limit_exceeded", False),
    ],
)
def test_an_error_about_nothing_that_was_sent(code: str, fatal: bool) -> None:
    assert new().read(error(code)) == [Refused(code=code, message="No.", fatal=fatal)]


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_tells_everything_and_is_acknowledged() -> None:
    dialect = opened()
    session = change(dialect, "update_1", NEW)
    assert session["instructions"] == "Be brief."
    assert [tool["name"] for tool in session["tools"]] == ["weather"]
    assert session["audio"]["output"]["voice"] == "marin"
    assert dialect.read(session_updated()) == [Configured(update_id="update_1")]


def test_changes_are_answered_in_their_order_and_refused_ones_are_left_out() -> None:
    dialect = opened()
    for number in (1, 2, 3):
        change(dialect, f"update_{number}", EngineConfig(instructions=str(number)))
    events = read(dialect, session_updated(), error("invalid_value", about="update_2"), session_updated())
    assert events == [
        Configured(update_id="update_1"),
        Refused(code="invalid_value", message="No.", about="update_2"),
        Configured(update_id="update_3"),
    ]


def test_what_is_removed_is_said_to_be_gone() -> None:
    session = change(opened(NEW), "update_1", EngineConfig())
    assert session["instructions"] == ""
    assert session["tools"] == []


def test_the_voice_changes_until_the_model_has_spoken() -> None:
    dialect = opened()
    assert change(dialect, "update_1", EngineConfig(voice="cedar"))["audio"]["output"]["voice"] == "cedar"
    read(dialect, session_updated(), created(), audio(b"\0\0"))
    assert dialect.update("update_2", EngineConfig(voice="marin")) is None
    output = change(dialect, "update_3", EngineConfig(voice="cedar", instructions="Be brief."))["audio"]["output"]
    assert "voice" not in output


def test_a_refused_change_does_not_count() -> None:
    dialect = opened()
    change(dialect, "update_1", EngineConfig(voice="cedar", instructions="One."))
    read(dialect, error("invalid_value", about="update_1"), created(), audio(b"\0\0"))
    assert "voice" not in change(dialect, "update_2", EngineConfig(voice="marin"))["audio"]["output"]
    assert dialect.update("update_3", EngineConfig(voice="cedar")) is None


def test_the_speed_is_told_only_if_it_changes() -> None:
    dialect = opened()
    assert "speed" not in change(dialect, "update_1", NEW)["audio"]["output"]
    assert change(dialect, "update_2", EngineConfig(options={"speed": 1.2}))["audio"]["output"]["speed"] == 1.2


@pytest.mark.parametrize(
    ("before", "options"),
    [
        (OpenAIRealtimeOptions(), {"turn_detection": None}),
        (OpenAIRealtimeOptions(turn_detection=None), {"turn_detection": ServerVad()}),
        (OpenAIRealtimeOptions(reasoning="low"), {"reasoning": None}),
        (OpenAIRealtimeOptions(transcription=InputTranscription(prompt="x")), {"transcription": InputTranscription()}),
        (OpenAIRealtimeOptions(tracing="auto"), {"tracing": None}),
        (OpenAIRealtimeOptions(tracing="auto"), {"tracing": Tracing(group_id="x")}),
    ],
)
def test_what_takes_a_new_connection(before: OpenAIRealtimeOptions, options: dict[str, Any]) -> None:
    dialect = opened(options=before)
    assert dialect.update("update_1", EngineConfig(options=options)) is None
    assert dialect.read(session_updated()) == []


@pytest.mark.parametrize(
    ("before", "options"),
    [
        (OpenAIRealtimeOptions(), {"turn_detection": SemanticVad()}),
        (OpenAIRealtimeOptions(), {"turn_detection": ServerVad(threshold=0.9)}),
        (OpenAIRealtimeOptions(), {"transcription": None}),
        (OpenAIRealtimeOptions(), {"tracing": "auto"}),
        (OpenAIRealtimeOptions(tracing="auto"), {"speed": 1.1}),
        (OpenAIRealtimeOptions(noise_reduction="near_field"), {"noise_reduction": None}),
    ],
)
def test_what_does_not(before: OpenAIRealtimeOptions, options: dict[str, Any]) -> None:
    session = change(opened(options=before), "update_1", EngineConfig(options=options))
    assert "tracing" not in session or before.tracing is None


def test_changes_that_nobody_answers_are_not_piled_up() -> None:
    dialect = opened()
    for number in range(64):
        assert dialect.update(str(number), EngineConfig(instructions=str(number))) is not None
    assert dialect.update("one more", NEW) is None


def test_who_answers_a_turn_changes_when_the_change_is_applied() -> None:
    dialect = opened()

    def taken(item: str) -> Any:
        return dialect.read(told("input_audio_buffer.committed", item_id=item))

    change(dialect, "update_1", EngineConfig(options={"turn_detection": ServerVad(create_response=False)}))
    assert taken("item_1") == [TurnTaken(item="item_1", answered=True)]
    dialect.read(session_updated())
    assert taken("item_2") == [TurnTaken(item="item_2", answered=False)]


# -- the caller --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 2, 4, 6, 960, 4800])
def test_audio_is_appended(size: int) -> None:
    pcm = bytes(range(256)) * 19
    message = sent(opened().audio(pcm[:size]))
    assert message["type"] == "input_audio_buffer.append"
    assert base64.b64decode(message["audio"]) == pcm[:size]


def test_who_brackets_turns() -> None:
    server, client = opened(), opened(options=OpenAIRealtimeOptions(turn_detection=None))
    assert server.server_turns
    assert server.turn_begins() + server.turn_ends() == []
    assert not client.server_turns
    assert [sent(m)["type"] for m in client.turn_begins()] == ["input_audio_buffer.clear"]
    assert [sent(m)["type"] for m in client.turn_ends()] == ["input_audio_buffer.commit"]
    assert client.read(told("input_audio_buffer.committed", item_id="a")) == [TurnTaken(item="a", answered=False)]
    assert not client.answers_turns


def test_history() -> None:
    history = (
        Message(role="user", text="What is the weather?"),
        Message(
            role="assistant",
            text="I look.",
            calls=(
                ToolRequest(call_id="call_1", name="weather", arguments={"city": "Köln"}),
                ToolRequest(call_id="call_2", name="weather", arguments={}),
            ),
        ),
        Message(role="tool", call_id="call_1", name="weather", text="sunny"),
        Message(role="tool", call_id="call_9", name="weather", text="nobody asked"),
        Message(role="assistant", text="It is sunny."),
        Message(role="user", text="And this?", image=b"png", mime="image/png"),
        Message(role="system", text="The caller is in a hurry."),
        Message(role="user"),
    )
    items = [sent(message)["item"] for message in opened().history(history)]
    assert items[:3] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is the weather?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Köln"}'},
    ]
    assert items[3:] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is sunny."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,cG5n"},
            ],
        },
        {
            "type": "message",
            "role": "system",
            "content": [{"type": "input_text", "text": "The caller is in a hurry."}],
        },
    ]


@pytest.mark.parametrize("role", ["user", "system"])
def test_text_with_and_without_an_answer(role: str) -> None:
    dialect = opened()
    (alone,) = dialect.text("Hello.", role=role)
    assert sent(alone)["item"] == {
        "type": "message",
        "role": role,
        "content": [{"type": "input_text", "text": "Hello."}],
    }
    first, second = dialect.text("Hello.", role=role, tag="ask_1")
    assert first == alone
    assert sent(second)["response"] == {"metadata": {"tag": "ask_1"}}


def test_instructions_of_a_response_are_added_to_those_of_the_session() -> None:
    dialect = opened(EngineConfig(instructions="Be brief."))
    (message,) = dialect.respond("ask_1", "Greet the caller.")
    assert sent(message)["response"]["instructions"] == "Be brief.\n\nGreet the caller."
    change(dialect, "update_1", EngineConfig())
    (message,) = dialect.respond("ask_2", "Greet the caller.")
    assert sent(message)["response"]["instructions"] == "Greet the caller."
    (message,) = dialect.respond("ask_3")
    assert "instructions" not in sent(message)["response"]


@pytest.mark.parametrize(
    ("result", "output"),
    [("sunny", "sunny"), ("", ""), (0, "0"), ({}, "{}"), (None, "null"), ({"a": [1]}, '{"a":[1]}')],
)
def test_results_of_tools(result: Any, output: str) -> None:
    (message,) = opened().tool_result("call_1", "weather", result, respond=True)
    assert sent(message)["item"] == {"type": "function_call_output", "call_id": "call_1", "output": output}


def test_images() -> None:
    dialect = opened()
    (by_bytes,) = dialect.image(UserImage(image=b"jpg"))
    (by_url,) = dialect.image(UserImage(url="data:image/png;base64,AAAA", mime="image/webp"))
    contents = [sent(message)["item"]["content"][0]["image_url"] for message in (by_bytes, by_url)]
    assert contents == ["data:image/jpeg;base64,anBn", "data:image/png;base64,AAAA"]
    with pytest.raises(BadInput, match="image/webp"):
        dialect.image(UserImage(image=b"webp", mime="image/webp"))


# -- interruption ------------------------------------------------------------------------------------------------------


def test_a_response_is_cancelled_only_while_it_goes_on() -> None:
    dialect = opened()
    dialect.read(created())
    (message,) = dialect.cancel("resp_1")
    assert sent(message) == {"type": "response.cancel", "response_id": "resp_1"}
    dialect.read(done())
    assert dialect.cancel("resp_1") == []


@pytest.mark.parametrize(("heard_ms", "end_ms"), [(1, 1), (60, 60), (100, 100), (101, 100), (9999, 100)])
def test_an_item_is_truncated_at_most_to_what_has_come(heard_ms: int, end_ms: int) -> None:
    dialect = opened()
    read(dialect, created(), audio(bytes(2400)), audio(bytes(2400)))  # 2 times 50 ms
    (message,) = dialect.truncate("item_1", heard_ms)
    assert sent(message) == {
        "type": "conversation.item.truncate",
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": end_ms,
    }


def test_what_was_not_heard_at_all_is_deleted() -> None:
    dialect = opened()
    read(dialect, created(), audio(bytes(2400)))
    (message,) = dialect.truncate("item_1", 0)
    assert sent(message) == {"type": "conversation.item.delete", "item_id": "item_1"}


def test_what_was_heard_to_the_end_is_left_alone() -> None:
    dialect = opened()
    item = {"type": "message", "id": "item_1", "role": "assistant", "content": [], "status": "completed"}
    read(dialect, created(), audio(bytes(2400)), item_done(item))
    assert dialect.truncate("item_1", 50) == []
    assert json.loads(dialect.truncate("item_1", 49)[0])["audio_end_ms"] == 49


def test_an_item_that_was_cut_short_is_truncated_also_at_its_end() -> None:
    dialect = opened()
    item = {"type": "message", "id": "item_1", "role": "assistant", "content": [], "status": "incomplete"}
    read(dialect, created(), audio(bytes(2400)), item_done(item))
    assert json.loads(dialect.truncate("item_1", 80)[0])["audio_end_ms"] == 50


def test_an_item_of_which_nothing_has_come_is_none_of_ours() -> None:
    assert opened().truncate("item_1", 0) == opened().truncate("item_1", 100) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("response_cancel_not_active", "No."),
        ("conversation_already_has_active_response", "No."),
        ("input_audio_buffer_commit_empty", "No."),
        (None, "Cancellation failed: no active response found"),
        (None, "Audio content of 2650ms is already shorter than 9100ms"),
        (None, "Only model output audio messages can be truncated"),
        ("item_truncate_invalid_item_id", "No."),
        ("item_delete_invalid_item_id", "No."),
    ],
)
def test_races_with_the_provider_are_no_errors(code: str | None, message: str) -> None:
    assert opened().read(error(code, message)) == []
