"""Messages from Gemini Live."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duologue.frames import Usage
from duologue.services.google.dialect import GeminiDialect
from duologue.services.native.dialect import (
    AudioComplete,
    Called,
    CallsCancelled,
    Consumed,
    CutShort,
    GoingAway,
    HandleGiven,
    Opened,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    TurnTranscribed,
    Unknown,
    Voiced,
)

from .live_api import audio, content, dialect, read, speech

ONE, TWO = b"\x01\x00" * 4, b"\x02\x00" * 4


def test_a_session_is_open_once_it_is_set_up() -> None:
    gemini = dialect()
    assert gemini.setup() == []
    assert read(gemini, setupComplete={"sessionId": "s-1"}) == [Opened(session_id="s-1")]
    assert read(gemini, setupComplete={"sessionId": "s-1"}) == []


def test_a_turn_of_the_model() -> None:
    gemini = dialect()
    assert content(gemini, modelTurn=speech(ONE)) == [ResponseBegan(response="r1"), Voiced(response="r1", pcm=ONE)]
    assert content(gemini, outputTranscription={"text": "Hel"}) == [Said(response="r1", text="Hel")]
    assert content(gemini, outputTranscription={"text": "lo."}) == [Said(response="r1", text="lo.")]
    assert content(gemini, outputTranscription={"finished": True}) == []
    assert content(gemini, generationComplete=True) == [AudioComplete(response="r1")]
    assert content(gemini, turnComplete=True) == [ResponseFinished(response="r1")]
    assert content(gemini, modelTurn=speech(TWO))[0] == ResponseBegan(response="r2")


def test_all_parts_of_a_frame_are_read_in_order() -> None:
    events = content(
        dialect(),
        inputTranscription={"text": "Hi."},
        modelTurn=speech(ONE, TWO),
        outputTranscription={"text": "Hello."},
        turnComplete=True,
    )
    assert events == [
        TurnTranscribed(text="Hi.", final=False),
        TurnTranscribed(text="Hi."),
        ResponseBegan(response="r1"),
        Voiced(response="r1", pcm=ONE),
        Voiced(response="r1", pcm=TWO),
        Said(response="r1", text="Hello."),
        ResponseFinished(response="r1"),
    ]


def test_frames_may_be_text() -> None:
    message = json.dumps({"serverContent": {"modelTurn": speech(ONE)}})
    assert dialect().read(message) == [ResponseBegan(response="r1"), Voiced(response="r1", pcm=ONE)]


def test_thoughts_are_not_said() -> None:
    gemini = dialect()
    assert content(gemini, modelTurn={"parts": [{"text": "**Planning**", "thought": True}]}) == []
    parts = [{"text": "hm", "thought": True}, audio(ONE), {"executableCode": {"code": "1", "language": "PYTHON"}}]
    assert content(gemini, modelTurn={"parts": parts}) == [ResponseBegan(response="r1"), Voiced(response="r1", pcm=ONE)]


def test_text_of_the_model_counts_only_where_there_is_no_transcript() -> None:
    part = {"parts": [{"text": "Hello."}]}
    assert content(dialect(), modelTurn=part) == []
    quiet = dialect(output_transcription=False)
    assert content(quiet, modelTurn=part) == [ResponseBegan(response="r1"), Said(response="r1", text="Hello.")]


def test_the_transcript_of_the_caller_grows_until_it_is_finished() -> None:
    gemini = dialect()
    assert content(gemini, inputTranscription={"text": " What is", "languageCode": "en-US"}) == [
        TurnTranscribed(text="What is", final=False, language="en-US")
    ]
    assert content(gemini, inputTranscription={"text": " it?"}) == [
        TurnTranscribed(text="What is it?", final=False, language="en-US")
    ]
    assert content(gemini, inputTranscription={"finished": True}) == [
        TurnTranscribed(text="What is it?", language="en-US")
    ]
    assert content(gemini, inputTranscription={"text": "Yes.", "finished": True}) == [TurnTranscribed(text="Yes.")]
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r1")


def test_the_transcript_is_complete_when_the_model_begins_or_its_turn_is_over() -> None:
    gemini = dialect()
    content(gemini, inputTranscription={"text": "Hello"})
    assert content(gemini, modelTurn=speech(ONE))[0] == TurnTranscribed(text="Hello")
    content(gemini, inputTranscription={"text": "there"})
    assert content(gemini, turnComplete=True) == [TurnTranscribed(text="there"), ResponseFinished(response="r1")]


def test_the_caller_goes_on_speaking_after_a_barge_in() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    content(gemini, inputTranscription={"text": "No,"})
    assert content(gemini, interrupted=True) == [CutShort(), ResponseFinished(response="r1", status="interrupted")]
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, inputTranscription={"text": " wait."}) == [TurnTranscribed(text="No, wait.", final=False)]


def test_what_is_told_twice_counts_once() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    assert content(gemini, interrupted=True) == [CutShort(), ResponseFinished(response="r1", status="interrupted")]
    assert content(gemini, interrupted=True) == []
    call = {"functionCalls": [{"id": "f1", "name": "weather"}]}
    assert len(read(gemini, toolCall=call)) == 3
    assert read(gemini, toolCall=call) == []


def test_text_that_follows_an_interruption_is_no_new_response() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    content(gemini, interrupted=True)
    assert content(gemini, outputTranscription={"text": " and so"}) == []
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, outputTranscription={"text": "Yes."}) == [
        ResponseBegan(response="r2"),
        Said(response="r2", text="Yes."),
    ]


def test_calls_stand_and_end_their_response() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    calls = [{"id": "f1", "name": "weather", "args": {"city": "Paris"}}, {"id": "f2", "name": "time"}]
    assert read(gemini, toolCall={"functionCalls": calls}) == [
        Called(response="r1", call_id="f1", name="weather", arguments={"city": "Paris"}),
        Called(response="r1", call_id="f2", name="time", arguments={}),
        ResponseFinished(response="r1"),
    ]
    assert content(gemini, modelTurn=speech(TWO)) == [ResponseBegan(response="r2"), Voiced(response="r2", pcm=TWO)]
    assert content(gemini, turnComplete=True) == [ResponseFinished(response="r2")]


def test_the_turn_that_a_call_has_ended_is_not_ended_again() -> None:
    gemini = dialect()
    gemini.respond("tag-1")
    read(gemini, toolCall={"functionCalls": [{"id": "f1", "name": "weather"}]})
    gemini.respond("tag-2")
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r2", tag="tag-2")


def test_calls_are_cancelled() -> None:
    events = read(dialect(), serverContent={"interrupted": True}, toolCallCancellation={"ids": ["f1", "f2"]})
    assert events == [CutShort(), CallsCancelled(call_ids=("f1", "f2"))]


def test_the_oldest_tag_goes_to_the_response_that_begins() -> None:
    gemini = dialect()
    gemini.respond("a")
    gemini.text("Hello", tag="b")
    gemini.text("A note", role="system")
    for tag in ("a", "b", ""):
        assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(
            response=f"r{gemini._responses.count}", tag=tag
        )
        content(gemini, turnComplete=True)


def test_a_model_that_was_asked_and_says_nothing_has_answered() -> None:
    gemini = dialect()
    gemini.respond("a")
    assert content(gemini, turnComplete=True) == [
        ResponseBegan(response="r1", tag="a"),
        ResponseFinished(response="r1"),
    ]
    assert content(gemini, turnComplete=True) == []


def test_a_response_may_be_stopped_before_its_first_word() -> None:
    gemini = dialect()
    gemini.respond("a")
    assert content(gemini, interrupted=True) == [
        CutShort(),
        ResponseBegan(response="r1", tag="a"),
        ResponseFinished(response="r1", status="interrupted"),
    ]
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r2")


def test_a_response_that_is_asked_for_while_another_goes_on_begins_when_that_is_stopped() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    gemini.respond("a")
    assert content(gemini, interrupted=True) == [CutShort(), ResponseFinished(response="r1", status="interrupted")]
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r2", tag="a")


def test_a_turn_or_a_result_that_the_model_does_not_answer_has_been_dealt_with() -> None:
    gemini = dialect(turn_detection=None)
    gemini.turn_begins()
    gemini.turn_ends()
    assert content(gemini, turnComplete=True) == [ResponseBegan(response="r1"), ResponseFinished(response="r1")]
    read(gemini, toolCall={"functionCalls": [{"id": "f1", "name": "weather"}]})
    content(gemini, turnComplete=True)
    gemini.tool_result("f1", "weather", 1, respond=True)
    assert content(gemini, turnComplete=True) == [ResponseBegan(response="r3"), ResponseFinished(response="r3")]
    assert content(gemini, turnComplete=True) == []


@pytest.mark.parametrize("reason", ["PROHIBITED_INPUT_CONTENT", "MALFORMED_FUNCTION_CALL"])
def test_a_response_may_fail(reason: str) -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    assert content(gemini, turnComplete=True, turnCompleteReason=reason) == [
        ResponseFinished(response="r1", status="failed", reason=reason)
    ]
    assert content(gemini, turnComplete=True, turnCompleteReason=reason) == [
        ResponseBegan(response="r2"),
        ResponseFinished(response="r2", status="failed", reason=reason),
    ]


def test_a_model_that_waits_for_more_has_not_failed() -> None:
    assert content(dialect(), turnComplete=True, turnCompleteReason="NEED_MORE_INPUT") == []


USAGE = {
    "promptTokenCount": 30,
    "cachedContentTokenCount": 5,
    "responseTokenCount": 12,
    "thoughtsTokenCount": 3,
    "toolUsePromptTokenCount": 2,
    "totalTokenCount": 47,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 20}],
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 12}],
}
CONSUMED = Usage(
    service="GeminiLive",
    model="gemini-3.8-live",
    input_tokens=32,
    output_tokens=15,
    cached_tokens=5,
    input_audio_tokens=20,
    output_audio_tokens=12,
    thought_tokens=3,
)


def test_usage_belongs_to_the_response_that_it_comes_with() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    events = read(gemini, serverContent={"turnComplete": True}, usageMetadata=USAGE)
    assert events == [ResponseFinished(response="r1", usage=CONSUMED)]


def test_usage_may_come_before_the_end_or_after_it() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    assert read(gemini, usageMetadata=USAGE) == []
    assert content(gemini, turnComplete=True) == [ResponseFinished(response="r1", usage=CONSUMED)]
    assert read(gemini, usageMetadata=USAGE) == []  # told before
    content(gemini, modelTurn=speech(TWO))
    assert content(gemini, turnComplete=True) == [ResponseFinished(response="r2")]
    assert read(gemini, usageMetadata=USAGE) == [Consumed(usage=CONSUMED)]
    assert read(gemini, usageMetadata=USAGE) == []


def test_tokens_are_counted_by_modality() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    usage = {
        "promptTokenCount": 500,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 100},
            {"modality": "AUDIO", "tokenCount": 300},
            {"modality": "IMAGE", "tokenCount": 40},
            {"modality": "VIDEO", "tokenCount": 60},
        ],
        "cachedContentTokenCount": 90,
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 70}],
        "responseTokenCount": 80,
        "thoughtsTokenCount": 20,
    }
    (finished,) = read(gemini, serverContent={"turnComplete": True}, usageMetadata=usage)
    assert isinstance(finished, ResponseFinished)
    assert finished.usage == Usage(
        service="GeminiLive",
        model="gemini-3.8-live",
        input_tokens=500,
        output_tokens=100,
        cached_tokens=90,
        input_audio_tokens=300,
        input_image_tokens=100,
        cached_audio_tokens=70,
        output_audio_tokens=80,  # without details: the model answers in audio
        thought_tokens=20,
    )


@pytest.mark.parametrize("count", [-5, "many", None, [7], 0.5])
def test_a_count_that_is_none_costs_no_other(count: Any) -> None:
    gemini = dialect()
    events = gemini.read(json.dumps({"usageMetadata": {"promptTokenCount": count, "responseTokenCount": 3}}).encode())
    (consumed,) = [event for event in events if isinstance(event, Consumed)]
    assert (consumed.usage.input_tokens, consumed.usage.output_tokens) == (0, 3)


def test_extended_thinking_ends_when_it_is_idle() -> None:
    gemini = dialect("gemini-3.8-live-extended-thinking")
    content(gemini, modelTurn=speech(ONE), interactionStatus="IN_PROGRESS")
    assert content(gemini, turnComplete=True, interactionStatus="IN_PROGRESS") == []
    assert content(gemini, modelTurn=speech(TWO)) == [Voiced(response="r1", pcm=TWO)]
    assert content(gemini, turnComplete=True) == []
    assert content(gemini, interactionStatus="IDLE") == [ResponseFinished(response="r1")]
    assert content(gemini, interactionStatus="IDLE") == []
    content(gemini, modelTurn=speech(ONE))
    assert content(gemini, turnComplete=True, interactionStatus="IDLE") == [ResponseFinished(response="r2")]


def test_extended_thinking_may_go_on_right_after_an_interruption() -> None:
    gemini = dialect("gemini-3.8-live-extended-thinking")
    content(gemini, modelTurn=speech(ONE), interactionStatus="IN_PROGRESS")
    content(gemini, interrupted=True)
    assert content(gemini, turnComplete=True, interactionStatus="IN_PROGRESS") == []
    assert content(gemini, outputTranscription={"text": "Yes."})[0] == ResponseBegan(response="r2")


def test_silence_has_no_transcript() -> None:
    gemini = dialect()
    assert content(gemini, inputTranscription={"text": " "}) == []
    assert content(gemini, inputTranscription={"finished": True}) == []
    assert content(gemini, modelTurn=speech(ONE))[0] == ResponseBegan(response="r1")


def test_for_other_models_a_turn_is_over_when_it_is_complete() -> None:
    gemini = dialect()
    content(gemini, modelTurn=speech(ONE))
    assert content(gemini, turnComplete=True, interactionStatus="IN_PROGRESS") == [ResponseFinished(response="r1")]


def test_handles_and_the_end_of_a_connection() -> None:
    gemini = dialect()
    assert read(gemini, sessionResumptionUpdate={"newHandle": "h1", "resumable": True}) == [HandleGiven(handle="h1")]
    assert read(gemini, sessionResumptionUpdate={"resumable": False}) == [HandleGiven(handle="")]
    assert read(gemini, goAway={"timeLeft": "9.5s"}) == [GoingAway(left_s=9.5)]
    assert read(gemini, goAway={"timeLeft": "60s"}) == [GoingAway(left_s=60.0)]


def test_what_is_not_known_passes() -> None:
    gemini = dialect()
    assert gemini.read('{"newThing": {"a": [1]}, "goAway": {"timeLeft": "1s"}}') == [
        GoingAway(left_s=1.0),
        Unknown(kind="newThing"),
    ]
    assert gemini.read('{"voiceActivity": {"type": "ACTIVITY_START"}}') == []
    assert gemini.read("{}") == []
    error = {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}
    assert gemini.read(json.dumps(error)) == [Refused(code="RESOURCE_EXHAUSTED", message="Quota exceeded.")]


def test_images_of_the_model_are_no_speech() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert content(dialect(), modelTurn={"parts": [part]}) == []


def test_a_dialect_begins_anew() -> None:
    gemini: GeminiDialect = dialect()
    assert gemini.answers_results
    assert gemini.answers_turns
    assert not gemini.tells_speech
    assert not gemini.acknowledges_updates
    assert gemini.server_turns
    assert not dialect(turn_detection=None).server_turns
