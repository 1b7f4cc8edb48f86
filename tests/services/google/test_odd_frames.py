"""Frames that are malformed, or come in an odd order."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import BadInput
from duologue.services.native.dialect import Called, Event, ResponseBegan, ResponseFinished, Said, Voiced

from .live_api import content, dialect, speech
from .test_read import ONE, USAGE

SLOW = '{"data": "AAA=", "mimeType": "audio/pcm;rate=8000"}'
MALFORMED = [
    ("not JSON", "message"),
    (b"\xff\xfe", "message"),
    ("[]", "message"),
    ('{"serverContent": 5}', "serverContent"),
    ('{"serverContent": {"turnComplete": "yes"}}', r"serverContent.*turnComplete"),
    (
        '{"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "@@@"}}]}}}',
        r"parts\[0\]\.inlineData\.data",
    ),
    ('{"serverContent": {"modelTurn": {"parts": [{"inlineData": ' + SLOW + "}]}}}", "rate=8000"),
    ('{"serverContent": {"inputTranscription": {"text": 1}}}', r"inputTranscription\.text"),
    ('{"toolCall": {"functionCalls": [{"name": "weather"}]}}', "id"),
    ('{"toolCall": {"functionCalls": [{"id": "", "name": "weather"}]}}', r"functionCalls\[0\]"),
    ('{"toolCall": {"functionCalls": [{"id": "f", "name": "weather", "args": []}]}}', "args"),
    ('{"goAway": {"timeLeft": "soon"}}', r"goAway is malformed: timeLeft .*'soon'"),
    ('{"usageMetadata": {"promptTokenCount": -1}}', "promptTokenCount"),
    ('{"sessionResumptionUpdate": {"resumable": 1}}', "resumable"),
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
        gemini.read('{"serverContent": {"outputTranscription": {"text": "Hello"}}, "goAway": {"timeLeft": 5}}')
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


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=150, deadline=None)
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
