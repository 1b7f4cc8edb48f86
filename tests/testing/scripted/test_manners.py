"""The faults of scripted servers: each is shown where it is drawn, and a plan can be repeated."""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from duologue.errors import ConfigurationError, ServiceError
from duologue.services.tts import SpeechChunk
from duologue.testing import FAULTS, Manners
from duologue.testing.scripted.languages import LANGUAGES, words_after_space, words_before_space
from duologue.testing.scripted.manners import MAX_SHOWN, faults_of
from duologue.testing.scripted.manners_google import GeminiManners
from duologue.testing.scripted.manners_openai import OpenAIManners
from duologue.testing.scripted.server import Asked, Fail, Speak, Wait
from duologue.testing.scripted.spoiled import spoiled

ASKED = Asked(connection=1, instructions="", voice="", tools=(), history=(), said="hello")


class Always(Manners):
    """Shows its faults at each opportunity."""

    def draw(self, fault: str, part: Any, where: str = "", often: float = 1.0) -> bool:
        return super().draw(fault, part, where, 1.0)

    def stall_s(self) -> float:
        return math.inf


def openai_events(response_id: str = "resp_1", words: tuple[str, ...] = ("One ", "two.")) -> list[dict[str, Any]]:
    """Return the events of a response in the vendor's order."""
    own = {"response_id": response_id, "item_id": "item_1", "output_index": 0, "content_index": 0, "event_id": "e"}
    item = {"id": "item_1", "object": "realtime.item", "type": "message", "status": "completed", "content": []}
    pieces: list[dict[str, Any]] = []
    for word in words:
        pieces.append({"type": "response.output_audio_transcript.delta", "delta": word, **own})
        pieces.append({"type": "response.output_audio.delta", "delta": base64.b64encode(bytes(9600)).decode(), **own})
    return [
        {"type": "response.created", "event_id": "e", "response": {"id": response_id, "status": "in_progress"}},
        {"type": "response.output_item.added", "item": item, **own},
        *pieces,
        {"type": "response.output_audio.done", **own},
        {"type": "response.done", "event_id": "e", "response": {"id": response_id, "status": "completed"}},
    ]


def gemini_messages(words: tuple[str, ...] = ("One", " two.")) -> list[dict[str, Any]]:
    """Return the messages of an answer in the vendor's usual order."""
    messages: list[dict[str, Any]] = []
    for word in words:
        blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(bytes(9600)).decode()}
        messages.append({"serverContent": {"modelTurn": {"role": "model", "parts": [{"inlineData": blob}]}}})
        messages.append({"serverContent": {"outputTranscription": {"text": word}}})
    messages.append({"serverContent": {"generationComplete": True}})
    messages.append({"serverContent": {"turnComplete": True}, "usageMetadata": {"totalTokenCount": 3}})
    return messages


def through(kind: Any, fault: str, messages: list[dict[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return the messages that a filter sends in the place of these, and those that it sends late."""
    late: list[dict[str, Any]] = []
    wire = kind(Always(1, [fault]), lambda delay_s, message: late.append(message))
    return [sent for message in messages for sent in wire.send(message)], late


def spoken(messages: list[Any]) -> tuple[str, bytes]:
    """Return the words and the audio in the messages of either vendor."""
    words, pcm = "", b""
    for message in messages:
        if isinstance(message, Wait):
            continue
        kind, content = message.get("type", ""), message.get("serverContent") or {}
        if kind.endswith("audio_transcript.delta"):
            words += message["delta"]
        elif kind.endswith("output_audio.delta"):
            pcm += base64.b64decode(message["delta"])
        words += (content.get("outputTranscription") or {}).get("text", "")
        for part in (content.get("modelTurn") or {}).get("parts", ()):
            pcm += base64.b64decode(part["inlineData"]["data"])
    return words, pcm


BOTH = pytest.mark.parametrize(
    ("kind", "messages", "text"),
    [(OpenAIManners, openai_events, "One two."), (GeminiManners, gemini_messages, "One two.")],
    ids=["openai", "gemini"],
)


def ends(messages: list[Any]) -> int:
    return sum(
        not isinstance(one, Wait)
        and (one.get("type") == "response.done" or bool((one.get("serverContent") or {}).get("turnComplete")))
        for one in messages
    )


@BOTH
@pytest.mark.parametrize(
    "fault", ["pause", "reordering", "odd-pieces", "unknown-events", "nulls", "odd-types", "repeated-end"]
)
def test_a_fault_that_costs_nothing_loses_nothing(fault: str, kind: Any, messages: Any, text: str) -> None:
    sent, late = through(kind, fault, messages())
    assert sent != messages(), "it is shown"
    words, pcm = spoken(sent)
    assert words == text
    assert len(pcm) == 19200
    assert not late
    assert ends(sent) == (2 if fault == "repeated-end" else 1)


@BOTH
def test_late_pieces_come_after_the_end(kind: Any, messages: Any, text: str) -> None:
    sent, late = through(kind, "late-pieces", messages())
    words, pcm = spoken(sent)
    late_words, late_pcm = spoken(late)
    assert words + late_words == text
    assert late_words
    assert len(pcm) == 19200, "all of the audio came in time"
    assert late_pcm, "and a copy of its last piece afterwards"
    assert ends(sent) == 1


@BOTH
def test_audio_comes_without_words(kind: Any, messages: Any, text: str) -> None:
    sent, _ = through(kind, "audio-without-words", messages())
    words, pcm = spoken(sent)
    assert (words, len(pcm)) == ("", 19200)


@BOTH
def test_an_end_is_never_told(kind: Any, messages: Any, text: str) -> None:
    sent, _ = through(kind, "missing-end", messages())
    assert spoken(sent)[0] == text
    assert ends(sent) == 0


@BOTH
def test_an_answer_stops_in_the_middle(kind: Any, messages: Any, text: str) -> None:
    sent, _ = through(kind, "stall-in-the-middle", messages())
    words, pcm = spoken(sent)
    assert text.startswith(words)
    assert 0 < len(pcm) < 19200
    assert ends(sent) == 0


def test_an_answer_that_is_spoiled_leaves_the_script_where_it_was() -> None:
    script = [[Speak("One.")], [Speak("Two.")]]
    expected = {
        "empty-answer": [],
        "words-without-audio": [Speak("Um, one moment.", seconds=0.0)],
        "stall-before": [Wait(math.inf)],
    }
    for fault, acts in expected.items():
        left, manners = iter(script), Always(1, [fault])
        model = partial(_next_of, left)
        assert spoiled(manners, "openai", model, ASKED) == acts
        (act,) = spoiled(manners, "openai", model, ASKED)
        assert isinstance(act, Speak)
        assert act.text == "One.", "the answer after a spoiled one is spared"


def _next_of(script: Iterator[list[Speak]], asked: Asked) -> list[Speak]:
    return next(script)


def test_a_rate_limit_names_the_wait() -> None:
    (act,) = spoiled(Always(1, ["rate-limit"]), "gemini", lambda asked: [], ASKED)
    assert isinstance(act, Fail)
    assert "try again in " in act.message


def test_a_seed_is_one_plan() -> None:
    def story(seed: int) -> list[Any]:
        late: list[Any] = []
        manners = Manners(seed, parts=["openai"])
        wire = OpenAIManners(manners, lambda delay_s, message: late.append((delay_s, message)))
        return [*(sent for event in openai_events() for sent in wire.send(event)), late, str(manners)]

    assert story(5) == story(5)
    plans = {Manners(seed, parts=["openai"]).faults for seed in range(200)}
    assert {name for plan in plans for name in plan} == set(faults_of("openai"))


def test_a_plan_tells_what_it_has_shown() -> None:
    manners = Always(3, ["nulls"])
    list(OpenAIManners(manners, lambda delay_s, message: None).send(openai_events()[0]))
    assert str(manners).splitlines() == ["Manners(3, ['nulls'])", "  nulls: openai response.created"]


def test_a_plan_remembers_the_latest_of_what_it_has_shown_and_every_name() -> None:
    manners = Manners(3, ["pause", "nulls"])
    while not manners.draw("pause", "openai"):
        pass
    for number in range(3 * MAX_SHOWN):
        manners.draw("nulls", "openai", f"message {number}", often=1.0)
    assert len(manners.shown) == MAX_SHOWN
    assert manners.shown[-1].where == f"message {3 * MAX_SHOWN - 1}"
    assert manners.names == {"pause", "nulls"}
    assert not manners.costs


def test_a_plan_that_has_stopped_shows_nothing() -> None:
    manners = Always(3, list(FAULTS))
    manners.stop()
    wire = OpenAIManners(manners, lambda delay_s, message: None)
    assert [sent for event in openai_events() for sent in wire.send(event)] == openai_events()


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="bad-breath"):
        Manners(1, ["bad-breath"])


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES.keys())
def test_a_language_is_read_back(language: Any) -> None:
    text = "Hello, how can I help? It is sunny."
    written = language.write(text)
    assert written != text
    assert language.read(written) == text
    assert language.read(text) == text, "English stays as it is"
    assert "".join(words_before_space(written)) == "".join(words_after_space(written)) == written
    assert len(words_after_space(written)) >= 8


async def tokens() -> AsyncIterator[str]:
    for token in ("One ", "two ", "three."):
        yield token


async def test_a_mock_model_is_cut_within_words() -> None:
    assert [token async for token in Always(1, ["odd-pieces"]).tokens(tokens())] == list("One two three.")


async def speech() -> AsyncIterator[SpeechChunk]:
    yield SpeechChunk(bytes(4800))
    yield SpeechChunk(bytes(4800))


async def test_mock_speech_is_cut_at_odd_bytes() -> None:
    pieces = [chunk.audio async for chunk in Always(1, ["odd-pieces"]).speech(speech())]
    assert sum(map(len, pieces)) == 9600
    assert any(len(piece) % 2 for piece in pieces)


async def test_mock_speech_has_no_audio_or_a_rate_limit() -> None:
    assert [chunk async for chunk in Always(1, ["words-without-audio"]).speech(speech())] == []
    with pytest.raises(ServiceError, match="try again in"):
        [chunk async for chunk in Always(1, ["rate-limit"]).speech(speech())]


def test_each_fault_has_a_name_a_line_and_a_far_end() -> None:
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.summary.endswith(".")
        assert "\n" not in fault.summary
        assert fault.parts


async def test_a_mock_model_keeps_its_script_for_the_next_request() -> None:
    asked = 0

    async def generate() -> AsyncIterator[str]:
        nonlocal asked
        asked += 1
        yield "Hello."

    manners = Always(1, ["empty-answer"])
    assert [token async for token in manners.reply(generate)] == []
    assert not asked
    assert [token async for token in manners.reply(generate)] == ["Hello."]


async def test_a_mock_model_speaks_another_language() -> None:
    async def generate() -> AsyncIterator[str]:
        yield "Hello."

    manners = Manners(1, ["other-language"])
    (token,) = [token async for token in manners.reply(generate)]
    assert token != "Hello."
    assert manners.language.read(token) == "Hello."
