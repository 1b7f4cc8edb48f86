"""Messages of other people's Realtime servers: an odd field of no importance does not cost the message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duologue.services.native.dialect import (
    Called,
    Crossed,
    Odd,
    Opened,
    Refused,
    ResponseBegan,
    ResponseFinished,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from duologue.services.openai.dialect import OpenAIDialect

from .wire import opened


def told(dialect: OpenAIDialect, kind: str, **fields: Any) -> list[Any]:
    return list(dialect.read(json.dumps({"type": kind, **fields})))


def without_reports(events: list[Any]) -> list[Any]:
    return [event for event in events if not isinstance(event, Odd)]


@pytest.mark.parametrize(
    "odd",
    [
        {"event_id": 17},
        {"response": {"id": "r", "metadata": {"tag": 5}}},
        {"response": {"id": "r", "metadata": "none"}},
        {"response": {"id": "r", "usage": "much", "output": None}},
        {"response": {"id": "r", "output": [5, {"type": 7}]}},
        {"response": {"id": "r", "status_details": []}},
    ],
)
def test_a_response_begins_and_ends_whatever_else_is_odd(odd: dict[str, Any]) -> None:
    dialect = opened()
    fields = {"response": {"id": "r"}} | odd
    assert without_reports(told(dialect, "response.created", **fields)) == [ResponseBegan(response="r")]
    ended = {**fields, "response": {"status": "completed", **fields["response"]}}
    assert without_reports(told(dialect, "response.done", **ended)) == [ResponseFinished(response="r")]


def test_what_was_left_out_is_named() -> None:
    (odd,) = told(opened(), "session.created", event_id=5)
    assert "event_id" in odd.problem


def test_a_response_without_an_id_has_a_beginning_pieces_and_an_end() -> None:
    dialect = opened()
    (began,) = told(dialect, "response.created", response={"status": "in_progress"})
    (voiced,) = told(dialect, "response.output_audio.delta", delta="AAAA")
    (ended,) = told(dialect, "response.done", response={"status": "completed"})
    assert began.response == voiced.response == ended.response != ""
    assert told(dialect, "response.done", response={"status": "completed"}) == []
    (again,) = told(dialect, "response.created", response={})
    assert again.response != began.response


@pytest.mark.parametrize("data", ["+//+/w==", "-__-_w==", "+//+/w", "+//+\n/w=="])
def test_every_form_of_base64_is_read(data: str) -> None:
    _, voiced = told(opened(), "response.output_audio.delta", response_id="r", delta=data)
    assert voiced == Voiced(response="r", pcm=b"\xfb\xff\xfe\xff")


def test_calls_without_an_id_or_with_arguments_as_an_object_are_made() -> None:
    dialect = opened()
    told(dialect, "response.created", response={"id": "r"})
    calls = [
        {"type": "function_call", "id": "item_1", "name": "weather", "arguments": {"city": "Paris"}},
        {"type": "function_call", "id": "item_2", "call_id": "c2", "arguments": "{}"},
    ]
    assert told(dialect, "response.done", response={"id": "r", "status": "completed", "output": calls}) == [
        Called(response="r", call_id="item_1", name="weather", arguments={"city": "Paris"}),
        Unknown(kind="a function call without a name"),
        ResponseFinished(response="r", items=("item_1", "item_2")),
    ]


@pytest.mark.parametrize(
    "error",
    [
        {"error": "Too fast."},
        {"message": "Too fast."},
        {"error": {"type": None, "code": None, "message": "Too fast.", "event_id": 5}},
    ],
)
def test_an_error_is_read_in_every_form(error: dict[str, Any]) -> None:
    (refused,) = without_reports(told(opened(), "error", **error))
    assert refused == Refused(code="error", message="Too fast.")


@pytest.mark.parametrize(
    "error",
    [
        {"type": "conversation_item_not_found", "code": None, "message": "No such item."},
        {"type": "invalid_request_error", "code": "response_cancel_not_active", "message": ""},
        {"type": None, "code": None, "message": "No conversation item with id 'item_5' exists."},
    ],
)
def test_races_are_known_by_code_type_and_text(error: dict[str, Any]) -> None:
    assert told(opened(), "error", error=error) == []


def test_a_request_that_crosses_a_response_is_named() -> None:
    error = {"type": "invalid_request_error", "code": "conversation_already_has_active_response", "event_id": "ask_1"}
    assert told(opened(), "error", error=error) == [Crossed(tag="ask_1")]


def test_a_turn_without_the_id_of_its_item_is_that_of_the_latest_speech() -> None:
    dialect = opened()
    told(dialect, "input_audio_buffer.speech_started", item_id="item_1")
    assert told(dialect, "input_audio_buffer.committed") == [TurnTaken(item="item_1", answered=True)]
    kind = "conversation.item.input_audio_transcription.completed"
    assert told(dialect, kind, transcript="Hi.", languages=["en"]) == [
        TurnTranscribed(item="item_1", text="Hi.", language="en")
    ]


def test_the_silence_that_lets_the_model_speak_is_no_turn_of_the_caller() -> None:
    dialect = opened()
    assert told(dialect, "input_audio_buffer.timeout_triggered", item_id="item_9") == []
    assert told(dialect, "input_audio_buffer.committed", item_id="item_9") == []
    assert told(dialect, "input_audio_buffer.committed", item_id="item_10") != []


@pytest.mark.parametrize(
    ("expires_at", "left_s"),
    [(1_030, 3_600), (900, 3_600), (20_000, 3_600), (1_600, 600), ("1600", 600), ("2026-11-30", None), (None, None)],
)
def test_by_our_own_clock_only_a_plausible_lifetime_counts(expires_at: Any, left_s: float | None) -> None:
    assert left_s == _left_s(expires_at, None)


@pytest.mark.parametrize(("expires_at", "left_s"), [(1_030, 30), (900, 0), (20_000, 19_000)])
def test_by_the_providers_clock_every_lifetime_counts(expires_at: Any, left_s: float) -> None:
    assert left_s == _left_s(expires_at, 1_000.0)


def _left_s(expires_at: Any, provider_now: float | None) -> float | None:
    from duologue.agents.engine import EngineConfig
    from duologue.services.openai.options import OpenAIRealtimeOptions

    dialect = OpenAIDialect(
        "gpt-realtime-2.1",
        EngineConfig(),
        OpenAIRealtimeOptions(),
        now=lambda: 1_000.0,
        provider_now=lambda: provider_now,
    )
    dialect.setup()
    told(dialect, "session.created", session={"id": "s", "expires_at": expires_at})
    (opening,) = told(dialect, "session.updated", session={})
    assert isinstance(opening, Opened)
    return opening.left_s
