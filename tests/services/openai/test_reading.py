"""Messages from OpenAI Realtime."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.agents.engine import EngineConfig
from duologue.errors import BadInput
from duologue.frames import Usage
from duologue.services.native.dialect import (
    Called,
    Consumed,
    Event,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from duologue.services.openai import OpenAIRealtimeOptions, ServerVad
from duologue.services.openai.dialect import OpenAIDialect
from duologue.services.openai.responses import MALFORMED
from tests.services.openai.wire import (
    SERVER_MESSAGES,
    audio,
    call,
    created,
    done,
    error,
    item_done,
    opened,
    read,
    told,
    words,
)

TOKENS = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_token_details": {"cached_tokens": 64, "audio_tokens": 80, "text_tokens": 20},
    "output_token_details": {"audio_tokens": 40, "text_tokens": 10},
}
USAGE = Usage(
    service="OpenAIRealtime",
    model="gpt-realtime-2.1",
    input_tokens=100,
    output_tokens=50,
    cached_tokens=64,
    input_audio_tokens=80,
    output_audio_tokens=40,
)


# -- the caller --------------------------------------------------------------------------------------------------------


def test_the_callers_turn() -> None:
    events = read(
        opened(),
        told("input_audio_buffer.speech_started", item_id="item_1", audio_start_ms=1200),
        told("input_audio_buffer.speech_stopped", item_id="item_1", audio_end_ms=2400),
        told("input_audio_buffer.committed", item_id="item_1", previous_item_id=None),
    )
    assert events == [
        SpeechBegan(item="item_1", at_ms=1200.0),
        SpeechCeased(item="item_1", at_ms=1900.0),  # the time told includes 500 ms of silence
        TurnTaken(item="item_1", answered=True),
    ]


def test_a_turn_that_the_provider_does_not_answer() -> None:
    dialect = opened(options=OpenAIRealtimeOptions(turn_detection=ServerVad(create_response=False)))
    events = dialect.read(told("input_audio_buffer.committed", item_id="item_1"))
    assert events == [TurnTaken(item="item_1", answered=False)]


def heard(delta: str | None, item: str = "item_1") -> bytes:
    kind = "conversation.item.input_audio_transcription.delta"
    return told(kind, item_id=item, content_index=0, delta=delta)


def understood(transcript: str, item: str = "item_1", **fields: Any) -> bytes:
    fields = {"usage": {"type": "tokens", "input_tokens": 0, "output_tokens": 0, "total_tokens": 0}} | fields
    kind = "conversation.item.input_audio_transcription.completed"
    return told(kind, item_id=item, content_index=0, transcript=transcript, **fields)


def test_a_transcript_grows_until_it_is_final() -> None:
    dialect = opened()
    events = read(dialect, heard("What "), heard("is"), heard(None), heard("Yes", "item_2"), heard(" it?"))
    assert events == [
        TurnTranscribed(item="item_1", text="What ", final=False),
        TurnTranscribed(item="item_1", text="What is", final=False),
        TurnTranscribed(item="item_2", text="Yes", final=False),
        TurnTranscribed(item="item_1", text="What is it?", final=False),
    ]
    final = dialect.read(understood("What is it?", languages=[{"code": "en"}]))
    assert final[0] == TurnTranscribed(item="item_1", text="What is it?", language="en")
    assert read(dialect, heard("late"), understood("again")) == []


def test_a_transcript_that_failed_is_final_and_empty() -> None:
    kind = "conversation.item.input_audio_transcription.failed"
    message = told(kind, item_id="item_1", content_index=0, error={"code": "x", "message": "No."})
    assert read(opened(), heard("What "), message)[1:] == [TurnTranscribed(item="item_1", text="")]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "type": "tokens",
                "input_tokens": 30,
                "output_tokens": 5,
                "total_tokens": 35,
                "input_token_details": {"audio_tokens": 28},
            },
            {"input_tokens": 30, "output_tokens": 5, "input_audio_tokens": 28},
        ),
        ({"type": "duration", "seconds": 2.5}, {"input_audio_s": 2.5}),
    ],
)
def test_what_a_transcript_consumed(usage: dict[str, Any], expected: dict[str, Any]) -> None:
    _, consumed = opened().read(understood("Yes.", usage=usage))
    assert consumed == Consumed(usage=Usage(service="OpenAIRealtime", model="gpt-transcribe", **expected))


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_sonic_response() -> None:
    events = read(
        opened(),
        created(tag="ask_1"),
        words("Hel"),
        audio(b"\1\0\2\0"),
        words("lo."),
        audio(b"\3\0"),
        done(usage=TOKENS),
    )
    assert events == [
        ResponseBegan(response="resp_1", tag="ask_1"),
        Said(response="resp_1", text="Hel"),
        Voiced(response="resp_1", item="item_1", pcm=b"\1\0\2\0"),
        Said(response="resp_1", text="lo."),
        Voiced(response="resp_1", item="item_1", pcm=b"\3\0"),
        ResponseFinished(response="resp_1", usage=USAGE),
    ]


def test_a_written_response() -> None:
    place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    events = read(opened(), created(), told("response.output_text.delta", delta="Hello.", **place), done())
    assert events[1:] == [Said(response="resp_1", text="Hello."), ResponseFinished(response="resp_1")]


@pytest.mark.parametrize("first", [words("Hello."), audio(b"\0\0"), item_done(call("call_1", "weather", "{}"))])
def test_a_response_begins_with_what_comes_first(first: bytes) -> None:
    assert opened().read(first)[0] == ResponseBegan(response="resp_1")


@pytest.mark.parametrize(
    ("status", "details", "expected", "reason"),
    [
        ("completed", None, "completed", ""),
        ("cancelled", {"type": "cancelled", "reason": "turn_detected"}, "interrupted", "turn_detected"),
        ("cancelled", {"type": "cancelled", "reason": "client_cancelled"}, "interrupted", "client_cancelled"),
        ("cancelled", None, "interrupted", "cancelled"),
        ("incomplete", {"type": "incomplete", "reason": "max_output_tokens"}, "completed", "max_output_tokens"),
        ("incomplete", {"type": "incomplete", "reason": "content_filter"}, "failed", "content_filter"),
        (
            "failed",
            {"type": "failed", "error": {"code": "server_error", "message": "Oh."}},
            "failed",
            "server_error: Oh.",
        ),
        ("failed", {"type": "failed", "error": {"type": "server_error"}}, "failed", "server_error"),
        ("failed", None, "failed", "failed"),
    ],
)
def test_how_a_response_ends(status: str, details: Any, expected: str, reason: str) -> None:
    (finished,) = read(opened(), created(), done(status=status, status_details=details))[1:]
    assert isinstance(finished, ResponseFinished)
    assert (finished.status, finished.reason) == (expected, reason)


def test_a_response_that_fails_for_good() -> None:
    details = {"type": "failed", "error": {"code": "insufficient_quota", "message": "Pay."}}
    events = read(opened(), created(), done(status="failed", status_details=details))
    assert events[-1] == Refused(code="insufficient_quota", message="Pay.", fatal=True)


def test_tokens_are_counted_by_modality() -> None:
    usage = {
        "input_tokens": 500,
        "output_tokens": 90,
        "input_token_details": {
            "text_tokens": 100,
            "audio_tokens": 300,
            "image_tokens": 100,
            "cached_tokens": 200,
            "cached_tokens_details": {"text_tokens": 50, "audio_tokens": 100, "image_tokens": 50},
        },
        "output_token_details": {"text_tokens": 20, "audio_tokens": 70, "reasoning_tokens": 5},
    }
    expected = Usage(
        service="OpenAIRealtime",
        model="gpt-realtime-2.1",
        input_tokens=500,
        output_tokens=90,
        cached_tokens=200,
        input_audio_tokens=300,
        input_image_tokens=100,
        cached_audio_tokens=100,
        cached_image_tokens=50,
        output_audio_tokens=70,
        thought_tokens=5,
    )
    assert opened().read(done(status="cancelled", usage=usage)) == [Consumed(usage=expected)]
    del usage["input_tokens"], usage["output_tokens"]  # the parts add up
    assert opened().read(done(status="cancelled", usage=usage)) == [Consumed(usage=expected)]


@pytest.mark.parametrize("count", ["12", 12.0])
def test_a_count_may_be_a_text(count: Any) -> None:
    (consumed,) = opened().read(done(status="cancelled", usage={"input_tokens": count, "output_tokens": 3}))
    assert isinstance(consumed, Consumed)
    assert (consumed.usage.input_tokens, consumed.usage.output_tokens) == (12, 3)


@pytest.mark.parametrize("count", [-5, 1e300, "many", None, [7], {}])
def test_a_count_that_is_none_costs_no_other(count: Any) -> None:
    response = {"id": "resp_1", "status": "cancelled", "usage": {"input_tokens": count, "output_tokens": 3}}
    events = opened().read(json.dumps({"type": "response.done", "response": response}).encode())
    (consumed,) = [event for event in events if isinstance(event, Consumed)]
    assert (consumed.usage.input_tokens, consumed.usage.output_tokens) == (0, 3)


def test_a_response_is_counted_once_also_if_its_report_is_late() -> None:
    dialect = opened()
    dialect.read(created())
    list(dialect.give_up("resp_1"))
    assert dialect.read(done(usage=TOKENS)) == [Consumed(usage=USAGE)]
    assert dialect.read(done(usage=TOKENS)) == []
    dialect = opened()
    finished = read(dialect, created(), done(usage=TOKENS))[-1]
    assert isinstance(finished, ResponseFinished)
    assert finished.usage == USAGE
    assert dialect.read(done(usage=TOKENS)) == []


def test_a_response_without_its_beginning() -> None:
    assert opened().read(done(status="cancelled")) == []
    assert opened().read(done(status="cancelled", usage=TOKENS)) == [Consumed(usage=USAGE)]
    events = opened().read(done(output=[call("call_1", "weather", "{}")]))
    assert [type(event) for event in events] == [ResponseBegan, Called, ResponseFinished]
    events = opened().read(done(status="failed"))
    assert [type(event) for event in events] == [ResponseBegan, ResponseFinished]
    events = opened().read(done(status="cancelled", metadata={"tag": "ask_1"}))
    assert events[0] == ResponseBegan(response="resp_1", tag="ask_1")


def test_nothing_is_told_of_a_response_after_its_end() -> None:
    dialect = opened()
    read(dialect, created(), done())
    late = [created(), words("x"), audio(b"\0\0"), item_done(call("call_1", "weather", "{}")), done(), done()]
    assert read(dialect, *late) == []


def test_audio_after_a_cancellation_is_told_until_the_end() -> None:
    dialect = opened()
    dialect.read(created())
    dialect.cancel("resp_1")
    assert dialect.read(audio(b"\0\0")) == [Voiced(response="resp_1", item="item_1", pcm=b"\0\0")]


def test_nothing_at_all_is_no_piece() -> None:
    assert read(opened(), created(), words(""), audio(b"")) == [ResponseBegan(response="resp_1")]


# -- tools -------------------------------------------------------------------------------------------------------------


def test_calls_are_told_when_the_response_stands() -> None:
    dialect = opened()
    first, second = call("call_1", "weather", '{"city": "Köln"}'), call("call_2", "time", "")
    arguments = {"response_id": "resp_1", "item_id": "i", "output_index": 0, "call_id": "call_1", "name": "weather"}
    before = [
        created(),
        told("response.function_call_arguments.delta", delta='{"ci', **arguments),
        told("response.function_call_arguments.done", arguments='{"city": "Köln"}', **arguments),
        item_done(first),
        item_done(second),
    ]
    assert read(dialect, *before) == [ResponseBegan(response="resp_1")]
    assert dialect.read(done(output=[first, second])) == [
        Called(response="resp_1", call_id="call_1", name="weather", arguments={"city": "Köln"}),
        Called(response="resp_1", call_id="call_2", name="time", arguments={}),
        ResponseFinished(response="resp_1", items=("item_call_1", "item_call_2")),
    ]


def test_calls_that_the_end_does_not_repeat() -> None:
    first, second = call("call_1", "weather", "{}"), call("call_2", "time", "{}")
    assert [type(e) for e in read(opened(), created(), item_done(first), done())] == [
        ResponseBegan,
        Called,
        ResponseFinished,
    ]
    events = read(opened(), created(), item_done(first), item_done(second), done(output=[second]))
    assert sorted(event.call_id for event in events if isinstance(event, Called)) == ["call_1", "call_2"]


@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", "turn_detected"), ("failed", None), ("incomplete", "max_output_tokens")]
)
def test_calls_of_a_response_that_does_not_stand_are_not_told(status: str, reason: str | None) -> None:
    item = call("call_1", "weather", "{}")
    details = {"type": status, "reason": reason}
    events = read(opened(), created(), item_done(item), done(status=status, status_details=details, output=[item]))
    assert [type(event) for event in events] == [ResponseBegan, ResponseFinished]


@pytest.mark.parametrize("arguments", ['{"city": "Kö', "[1]", "null", "city=Köln", "[" * 10_000, " "])
def test_arguments_that_are_no_object_cannot_be_taken_for_some(arguments: str) -> None:
    called = read(opened(), created(), done(output=[call("call_1", "weather", arguments)]))[1]
    assert isinstance(called, Called)
    assert called.arguments == {MALFORMED: arguments[:1000]}


# -- everything else ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [created(), words("x"), audio(b"\0\0"), heard("x"), error("server_error"), done()])
def test_a_message_that_comes_twice_is_told_once(message: bytes) -> None:
    dialect = opened()
    dialect.read(created("resp_0"))
    dialect.read(message)
    assert dialect.read(message) == []


def test_a_message_without_an_id_is_never_one_that_came_before() -> None:
    dialect = opened()
    for _ in range(2):
        assert dialect.read(b'{"type": "ping"}') == dialect.read('{"type": "ping"}') == [Unknown(kind="ping")]


def test_an_unknown_message_passes() -> None:
    assert opened().read(b'{"type": "response.video.delta", "delta": 1}') == [Unknown(kind="response.video.delta")]


def test_every_message_that_the_sdk_knows_is_known() -> None:
    dialect = opened()
    for kind in SERVER_MESSAGES:
        assert not any(isinstance(event, Unknown) for event in survive(dialect, json.dumps({"type": kind})))


def raw_audio(delta: Any, **fields: Any) -> bytes:
    plain = {"type": "response.output_audio.delta", "response_id": "resp_1", "item_id": "item_1", "delta": delta}
    return json.dumps(plain | fields).encode()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "not a JSON object with a type"),
        (b'{"type": 1}', "not a JSON object with a type"),
        (b'{"type": "response.created"}', r"response\.created .*: .*missing.*`response`"),
        (b'{"type": "response.created", "response": []}', r"response\.created .*: Expected `object`.*response`"),
        (
            b'{"type": "response.output_audio_transcript.delta", "response_id": "r", "delta": 1}',
            "`str`.*delta",
        ),
        (b'{"type": "response.output_audio_transcript.delta", "response_id": "r"}', "missing.*`delta`"),
        (raw_audio(17), r"response\.output_audio\.delta .*: Expected `bytes`.*delta`"),
        (raw_audio(None), r"response\.output_audio\.delta .*: Expected `bytes`.*delta`"),
        (raw_audio("AA*="), r"response\.output_audio\.delta .*: Invalid base64.*delta`"),
        (raw_audio("ä"), r"response\.output_audio\.delta .*: Invalid base64.*delta`"),
    ],
)
def test_a_malformed_message_is_named_and_changes_nothing(message: bytes, problem: str) -> None:
    dialect = opened()
    with pytest.raises(BadInput, match=problem):
        dialect.read(message)
    assert read(dialect, created(), audio(b"\0\0"), done()) == [
        ResponseBegan(response="resp_1"),
        Voiced(response="resp_1", item="item_1", pcm=b"\0\0"),
        ResponseFinished(response="resp_1"),
    ]


def test_a_message_is_not_known_before_it_was_read() -> None:
    dialect = opened()
    with pytest.raises(BadInput):
        dialect.read(raw_audio("*", event_id="event_x"))
    assert len(dialect.read(raw_audio("AAA=", event_id="event_x"))) == 2


def test_audio_in_an_unusual_form() -> None:
    dialect = opened()
    dialect.read(created())
    for message in (raw_audio("AAA=", event_id=None), raw_audio("AAA=", item_id=None)):
        (voiced,) = dialect.read(message)
        assert isinstance(voiced, Voiced)
        assert voiced.pcm == b"\0\0"


def test_what_is_remembered_is_bounded() -> None:
    dialect = opened()
    first = created("resp_first")
    dialect.read(first)
    for number in range(2000):
        item = call(f"call_{number}", "x", "{}")
        read(dialect, created(f"r{number}"), audio(b"\0\0", f"r{number}", f"i{number}"), heard("x", f"i{number}"))
        read(dialect, item_done(item, f"r{number}"))
    sizes = [len(kept) for kept in _memories(dialect)]
    assert max(sizes) <= 1024
    assert dialect.read(first) == [ResponseBegan(response="resp_first")]


def _memories(of: object) -> list[Any]:
    found: list[Any] = []
    for value in vars(of).values():
        if isinstance(value, dict | list | set):
            found.append(value)
        elif type(value).__module__.startswith("duologue.services.openai") and hasattr(value, "__dict__"):
            found += _memories(value)
    return found


# -- anything at all ---------------------------------------------------------------------------------------------------

KINDS = [
    "error",
    "session.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "response.created",
    "response.output_text.delta",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_item.done",
    "response.done",
    "response.content_part.done",
    "something.else",
]
FIELDS = [
    *("event_id", "session", "id", "expires_at", "error", "code", "message", "item", "item_id", "audio_start_ms"),
    *("audio_end_ms", "delta", "transcript", "languages", "usage", "response", "response_id", "metadata", "tag"),
    *("status", "status_details", "reason", "output", "type", "call_id", "name", "arguments", "seconds"),
    *("input_token_details", "audio_tokens", "input_tokens"),
]
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["AAA=", "{}", "r"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


def survive(dialect: OpenAIDialect, message: bytes | str) -> list[Event]:
    try:
        return dialect.read(message)
    except BadInput:
        return []


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), anything)), max_size=4))
def test_no_message_does_harm(messages: list[tuple[str, dict[str, Any]]]) -> None:
    dialect = opened()
    dialect.update("update_1", EngineConfig())
    for kind, fields in messages:
        survive(dialect, json.dumps({**fields, "type": kind}))
    final = dialect.read(done("resp_final", output=[call("call_1", "weather", "{}")]))
    assert [type(event) for event in final][-2:] == [Called, ResponseFinished] or final == []


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=100))
def test_no_bytes_do_harm(message: bytes | str) -> None:
    survive(opened(), message)
