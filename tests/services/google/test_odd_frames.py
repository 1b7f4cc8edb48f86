"""Frames that are malformed, or come in an odd order."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import BadInput
from duologue.services.native.dialect import (
    Called,
    Consumed,
    Event,
    GoingAway,
    Odd,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    Voiced,
)

from .live_api import content, dialect, speech
from .test_read import ONE, USAGE

SLOW = '{"data": "AAA=", "mimeType": "audio/pcm;rate=8000"}'
MALFORMED = [
    ("not JSON", "message"),
    (b"\xff\xfe", "message"),
    ("[]", "message"),
    ('{"serverContent": 5}', "serverContent"),
    ('{"goAway": {"timeLeft": "soon"}}', r"goAway is malformed: timeLeft .*'soon'"),
]


@pytest.mark.parametrize(("message", "named"), MALFORMED)
def test_what_is_malformed_is_named(message: str | bytes, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        dialect().read(message)


@pytest.mark.parametrize(("message", "named"), MALFORMED)
def test_what_is_malformed_changes_nothing(message: str | bytes, named: str) -> None:
    gemini = dialect()
    content(gemini, inputTranscription={"text": "Hi"})

    def state() -> dict[str, Any]:
        responses = gemini._responses
        return {**vars(gemini), **vars(responses), "tags": list(responses.tags)}

    before = state()
    with pytest.raises(BadInput):
        gemini.read(message)
    assert state() == before


def test_a_malformed_part_keeps_the_rest_of_its_frame_from_counting() -> None:
    gemini = dialect()
    with pytest.raises(BadInput):
        gemini.read('{"serverContent": {"outputTranscription": {"text": "Hello"}}, "goAway": {"timeLeft": "soon"}}')
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r1")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = """
    modelTurn inputTranscription outputTranscription interrupted turnComplete turnCompleteReason interactionStatus
    functionCalls ids timeLeft newHandle resumable sessionId parts promptTokensDetails promptTokenCount code
"""
KIND_NAMES = """
    serverContent toolCall toolCallCancellation usageMetadata goAway sessionResumptionUpdate setupComplete error
    somethingElse
"""
FIELDS = st.sampled_from(FIELD_NAMES.split())
KINDS = st.sampled_from(KIND_NAMES.split())
FRAMES = st.dictionaries(KINDS, st.dictionaries(FIELDS, JSON, max_size=3) | JSON, max_size=3)


@settings(max_examples=150)
@given(
    st.lists(FRAMES.map(json.dumps) | JSON.map(json.dumps) | st.binary(max_size=40) | st.text(max_size=40), max_size=4)
)
def test_no_frame_raises_anything_but_bad_input(frames: list[str | bytes]) -> None:
    gemini = dialect()
    for frame in frames:
        with suppress(BadInput):
            assert all(isinstance(event, Event) for event in gemini.read(frame))


GOOD = st.lists(
    st.sampled_from(
        [
            {"serverContent": {"modelTurn": speech(ONE)}},
            {"serverContent": {"outputTranscription": {"text": "a"}}},
            {"serverContent": {"inputTranscription": {"text": "b"}}},
            {"serverContent": {"inputTranscription": {"finished": True}}},
            {"serverContent": {"interrupted": True}},
            {"serverContent": {"turnComplete": True}, "usageMetadata": USAGE},
            {"serverContent": {"turnComplete": True, "interactionStatus": "IDLE"}},
            {"serverContent": {"interactionStatus": "IN_PROGRESS"}},
            {"toolCall": {"functionCalls": [{"id": "f1", "name": "weather"}]}},
            {"usageMetadata": USAGE},
        ]
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(GOOD, st.sampled_from(["gemini-3.8-live", "gemini-3.8-live-extended-thinking"]))
def test_responses_are_bracketed_whatever_the_order(frames: list[dict[str, Any]], model: str) -> None:
    gemini = dialect(model)
    going_on, ended = "", set[str]()
    for event in (event for frame in frames for event in gemini.read(json.dumps(frame))):
        match event:
            case ResponseBegan(response=response):
                assert not going_on
                assert response not in ended
                going_on = response
            case ResponseFinished(response=response):
                assert response == going_on
                ended.add(response)
                going_on = ""
            case Said(response=response) | Voiced(response=response) | Called(response=response):
                assert response == going_on


# -- forms that others write -------------------------------------------------------------------------------------------

PCM = b"\xfb\xff\xfe\xff"
SAID = [ResponseBegan(response="r1"), Voiced(response="r1", pcm=PCM), ResponseFinished(response="r1")]


def spoken(data: str, **more: Any) -> dict[str, Any]:
    """A frame with all of a short answer."""
    parts = [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": data}}]
    return {"serverContent": {"modelTurn": {"role": "model", "parts": parts}, "turnComplete": True, **more}}


@pytest.mark.parametrize("data", ["+//+/w==", "-__-_w==", "+//+/w", "-__-_w", "+//+\n/w==\r\n"])
def test_both_alphabets_of_base64_are_read_with_and_without_padding_and_breaks(data: str) -> None:
    assert dialect().read(json.dumps(spoken(data))) == SAID


def test_a_null_is_a_field_that_is_not_given() -> None:
    nulls = {"inputTranscription": None, "interrupted": None, "groundingMetadata": None, "turnCompleteReason": None}
    assert dialect().read(json.dumps(spoken("+//+/w==", **nulls) | {"toolCall": None, "goAway": None})) == SAID
    call = {"id": "f1", "name": "weather", "args": None, "partialArgs": None}
    events = dialect().read(json.dumps({"toolCall": {"functionCalls": [call, None]}}))
    assert events[1] == Called(response="r1", call_id="f1", name="weather", arguments={})
    assert dialect().read(json.dumps({"serverContent": {"modelTurn": None}})) == []


def test_names_in_snake_case_are_read_and_arguments_stay_as_they_are() -> None:
    blob = {"mime_type": "audio/pcm;rate=24000", "data": "+//+/w=="}
    content = {"model_turn": {"parts": [{"inline_data": blob}]}, "turn_complete": True}
    assert dialect().read(json.dumps({"server_content": content})) == SAID
    assert dialect().read(json.dumps({"serverContent": content | {"interrupted": None}})) == SAID
    call = {"id": "f1", "name": "weather", "args": {"city_name": None}}
    events = dialect().read(json.dumps({"tool_call": {"function_calls": [call]}}))
    assert events[1] == Called(response="r1", call_id="f1", name="weather", arguments={"city_name": None})
    assert dialect().read('{"go_away": {"time_left": "5s"}}') == [GoingAway(left_s=5)]


def test_a_field_that_does_not_fit_costs_only_itself() -> None:
    events = dialect().read(json.dumps(spoken("+//+/w==", inputTranscription={"text": 1}, turnCompleteReason=7)))
    assert events[:3] == SAID
    assert sorted(event.problem for event in events[3:] if isinstance(event, Odd)) == [
        "serverContent: Expected `str`, got `int` - at `$.inputTranscription.text`",
        "serverContent: Expected `str`, got `int` - at `$.turnCompleteReason`",
    ]
    odd = {"functionCalls": [{"name": 5}, {"id": "f2", "name": "time"}]}
    events = dialect().read(json.dumps({"toolCall": odd}))
    assert [event.name for event in events if isinstance(event, Called)] == ["time"]


def test_a_call_without_an_id_is_answered_without_one() -> None:
    gemini = dialect()
    events = gemini.read(json.dumps({"toolCall": {"functionCalls": [{"name": "weather"}, {"name": "time"}]}}))
    first, second = (event.call_id for event in events if isinstance(event, Called))
    assert first != second
    (answer,) = gemini.tool_result(second, "time", "noon", respond=True)
    (response,) = json.loads(answer)["tool_response"]["functionResponses"]
    assert "id" not in response
    assert response["name"] == "time"


def test_a_call_that_comes_in_pieces_is_made_once_with_all_its_arguments() -> None:
    gemini = dialect()

    def piece(**call: Any) -> list[Any]:
        return list(gemini.read(json.dumps({"toolCall": {"functionCalls": [call]}})))

    assert piece(name="book", id="f1", willContinue=True) == []
    more = {"jsonPath": "$.city", "stringValue": "Pa", "willContinue": True}
    assert piece(id="f1", partialArgs=[more], willContinue=True) == []
    rest = [{"jsonPath": "$.city", "stringValue": "ris"}, {"jsonPath": "$.seats[1].row", "numberValue": 4}]
    assert piece(partialArgs=[*rest, {"jsonPath": "$['on time']", "boolValue": True}], willContinue=True) == []
    _, called, _ = piece(id="f1")
    assert called.arguments == {"city": "Paris", "seats": [None, {"row": 4}], "on time": True}
    assert piece(id="f1", name="book") == [], "the same call again"


@pytest.mark.parametrize(
    ("told", "left_s"),
    [("9.5s", 9.5), ("PT9.5S", 9.5), ("PT1M5S", 65), (9, 9), ({"seconds": "9", "nanos": 500_000_000}, 9.5)],
)
def test_the_time_left_is_read_in_every_form(told: Any, left_s: float) -> None:
    assert dialect().read(json.dumps({"goAway": {"timeLeft": told}})) == [GoingAway(left_s=left_s)]


def test_counts_and_codes_may_be_texts() -> None:
    (consumed,) = dialect().read('{"usageMetadata": {"promptTokenCount": "12"}}')
    assert isinstance(consumed, Consumed)
    assert consumed.usage.input_tokens == 12
    error = {"code": "RESOURCE_EXHAUSTED", "message": "Quota exceeded."}
    assert dialect().read(json.dumps({"error": error})) == [
        Refused(code="RESOURCE_EXHAUSTED", message="Quota exceeded.")
    ]
