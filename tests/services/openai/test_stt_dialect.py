"""What `OpenAISTTDialect` makes of any messages in any order."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import BadInput
from duologue.services.openai.stt import OpenAISTTDialect
from duologue.services.openai.stt_options import OpenAISTTOptions, transcription_session
from duologue.services.remote import Opened, Recognized, Refused
from tests.services.openai.wire import sent, told

KIND = "conversation.item.input_audio_transcription"


def opened() -> OpenAISTTDialect:
    dialect = OpenAISTTDialect(lambda: transcription_session("gpt-transcribe", OpenAISTTOptions(), ""), lambda: None)
    for message in dialect.setup():
        sent(str(message))
    dialect.read(b'{"type": "session.created", "session": {"id": "s"}}')
    (event,) = dialect.read(b'{"type": "session.updated", "session": {}}')
    assert isinstance(event, Opened)
    return dialect


def uttered(dialect: OpenAISTTDialect) -> None:
    for message in (*dialect.begin(), *dialect.audio(bytes(48_000)), *dialect.finish()):
        sent(str(message))


def completed(item: str | None, text: str | None) -> bytes:
    fields: dict[str, Any] = {"item_id": item, "transcript": text, "content_index": 0}
    return json.dumps({"type": f"{KIND}.completed", **fields}).encode()


def test_the_completion_of_another_item_is_a_segment_and_not_the_answer() -> None:
    dialect = opened()
    uttered(dialect)
    dialect.read(told("input_audio_buffer.committed", item_id="mine", previous_item_id="other"))
    (other,) = dialect.read(completed("other", "before"))
    (mine,) = dialect.read(completed("mine", "the answer"))
    assert isinstance(other, Recognized)
    assert isinstance(mine, Recognized)
    assert (other.text, other.last, mine.text, mine.last) == ("before", False, "the answer", True)


def test_a_completion_that_overtakes_its_commit_is_the_answer() -> None:
    dialect = opened()
    uttered(dialect)
    (event,) = dialect.read(completed("mine", "the answer"))
    assert isinstance(event, Recognized)
    assert event.last
    assert not dialect.read(told("input_audio_buffer.committed", item_id="mine", previous_item_id=None))
    uttered(dialect)
    assert not dialect.read(completed("mine", "the answer"))
    (event,) = dialect.read(completed("next", "another"))
    assert isinstance(event, Recognized)
    assert event.last


def test_items_of_servers_that_name_none() -> None:
    dialect = opened()
    assert not dialect.read(completed(None, "too early"))
    uttered(dialect)
    (event,) = dialect.read(completed(None, "the answer"))
    assert isinstance(event, Recognized)
    assert event.last
    assert not dialect.read(completed(None, "the answer"))


def test_an_abandoned_utterance_is_cleared_and_its_deltas_are_dropped() -> None:
    dialect = opened()
    dialect.begin()
    dialect.audio(bytes(4_800))
    assert dialect.read(told(f"{KIND}.delta", item_id="old", content_index=0, delta="half a"))
    (clear,) = dialect.begin()
    assert sent(str(clear))["type"] == "input_audio_buffer.clear"
    assert not dialect.read(told(f"{KIND}.delta", item_id="old", content_index=0, delta=" word"))


def test_a_commit_that_the_server_calls_empty_is_an_empty_text() -> None:
    dialect = opened()
    uttered(dialect)
    error = {"type": "invalid_request_error", "code": "input_audio_buffer_commit_empty", "message": "m", "param": None}
    (event,) = dialect.read(told("error", error=error))
    assert isinstance(event, Recognized)
    assert (event.text, event.last) == ("", True)
    assert not dialect.read(told("error", error=error))


ids = st.sampled_from(["a", "b", "c", None, "", 7])
texts = st.sampled_from(["", "hello", "größe 🎉", None, 5, "x" * 200_000])
messages = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    f"{KIND}.delta",
                    f"{KIND}.completed",
                    f"{KIND}.failed",
                    f"{KIND}.segment",
                    "input_audio_buffer.committed",
                    "input_audio_buffer.cleared",
                    "session.updated",
                    "error",
                    "tide.table",
                ]
            )
        },
        optional={
            "item_id": ids,
            "delta": texts,
            "transcript": texts,
            "languages": st.sampled_from([None, [], ["en"], [{"code": "de"}], "en", 3]),
            "error": st.sampled_from([None, "no", {"code": "server_error"}, {"message": None}, 4]),
            "event_id": st.sampled_from([None, "e1", 3]),
        },
    ).map(lambda plain: json.dumps(plain).encode()),
    st.binary(max_size=20),
    st.just('{"type": "error", "error": {"message": "grö'.encode()[:-1]),
)


@given(st.lists(st.one_of(messages, st.just("utterance")), max_size=25))
def test_no_message_does_harm_and_an_utterance_has_one_answer(steps: list[bytes | str]) -> None:
    dialect = opened()
    answers = asked = 0
    for step in steps:
        if step == "utterance":
            uttered(dialect)
            asked += 1
            continue
        try:
            events = dialect.read(step)
        except BadInput:
            continue
        for event in events:
            assert isinstance(event, Recognized | Refused)
            if isinstance(event, Recognized):
                answers += event.last
                assert len(event.text) <= 100_000
    assert answers <= asked
