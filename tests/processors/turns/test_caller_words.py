"""The caller's words over the agent: which count, which are backchannels, which always interrupt."""

from __future__ import annotations

import pytest

from duologue.agents.agent import Agent
from duologue.frames import UserTranscript
from duologue.processors.turns.caller_words import CallerWords
from duologue.processors.turns.ear import Ear
from duologue.services.cascade import Cascade
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.processors.turns.sounds import voice


def heard(*texts: str, language: str = "", final: bool = True) -> CallerWords:
    """The words after these texts; all but the last one are final."""
    words = CallerWords()
    for place, text in enumerate(texts, 1):
        words.take(UserTranscript(text=text, final=final or place < len(texts)), language)
    return words


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Uh-huh."),
        ("en", "Yeah, yeah, okay."),
        ("en", "mm-hmm, I see"),
        ("en", "um, right"),
        ("de", "Ja, genau."),
        ("es", "Sí, claro."),
        ("hi", "हाँ, ठीक है"),
        ("fr", "D'accord."),
        ("en", "Yeahhh, okaaay"),
        ("en", "mmmhmm"),
        ("en", "I understand."),
        ("es", "mjm, síííí"),
        ("de", "jaaa, alles klaaar"),
        ("hi", "अच्छा जी"),
    ],
)
def test_a_backchannel_has_no_words_that_count(language: str, text: str) -> None:
    words = heard(text, language=language)
    assert (words.count, words.anything, words.is_backchannel, words.stops) == (0, True, True, False)


@pytest.mark.parametrize(
    ("text", "count"), [("No.", 1), ("yeah but what about Tuesday", 4), ("Tuesday", 1), ("okay no", 1), ("", 0)]
)
def test_other_words_count(text: str, count: int) -> None:
    words = heard(text, language="en")
    assert words.count == count
    assert not words.is_backchannel


@pytest.mark.parametrize(
    ("text", "slight"),
    [
        ("how lovely", False),
        ("super duper", True),
        ("no", False),
        ("two", False),
        ("cat in hat", False),
    ],
)
def test_one_or_two_words_without_a_question_or_an_answer_are_slight(text: str, slight: bool) -> None:
    assert heard(text, language="en").slight == slight


@pytest.mark.parametrize("text", ["stop", "Okay, stop!", "um wait", "hold on, I have", "yeah yeah excuse me"])
def test_a_stop_is_known_behind_backchannels(text: str) -> None:
    assert heard(text, language="en").stops


@pytest.mark.parametrize("text", ["the bus does not stop", "I can wait", "please go on"])
def test_a_stop_inside_a_sentence_is_none(text: str) -> None:
    assert not heard(text, language="en").stops


@pytest.mark.parametrize(
    ("text", "unclear"), [("I", True), ("got", True), ("no", False), ("that", True), ("I want", False)]
)
def test_the_beginning_of_a_backchannel_decides_nothing(text: str, unclear: bool) -> None:
    words = heard(text, language="en", final=False)
    assert words.unclear == unclear
    assert (words.count == 0) == unclear
    assert not words.is_backchannel
    assert heard(text, language="en").count > 0, "but a final text does"


def test_interim_texts_replace_each_other_and_final_ones_add_up() -> None:
    words = heard("could you", "please", "stop", language="en", final=False)
    words.take(UserTranscript(text="stop that", final=False), "en")
    assert (words.count, words.is_final) == (5, False)
    words = heard("could you", "please", language="en")
    assert (words.count, words.is_final) == (3, True)


def test_the_language_is_the_callers_then_the_agents_then_a_guess() -> None:
    words = CallerWords()
    words.take(UserTranscript(text="ja genau"), "", Agent(name="a", language="de-CH"))
    assert words.is_backchannel
    words.clear()
    words.take(UserTranscript(text="sí claro", language="es"), "", Agent(name="a", language="de-CH"))
    assert words.is_backchannel
    assert heard("sí, claro").is_backchannel
    assert heard("hai wakarimashita", language="ja").count == 2, "without a lexicon all words count"


@pytest.mark.virtual_clock
@pytest.mark.parametrize("interim_s", [0.2, None])
async def test_a_backchannel_is_marked_in_the_log_and_wants_no_answer(interim_s: float | None) -> None:
    stt = MockSTT(["tell me a story", "uh-huh"], interim_s=interim_s)
    llm = MockLLM(["Once upon a time there was a king. " * 10, "Yes?"])
    async with Call.through(Ear(), Cascade(stt, llm, MockTTS(s_per_character=0.06))) as call:
        await call.caller.play(voice(1.0), 16_000)
        await call.agent_begins()
        await call.waits(2.0)
        await call.caller.play(voice(0.4), 16_000)
        await call.waits(4.0)
        assert call.session.floor.agent_speaking
        items = [item for item in call.session.conversation if item.role == "caller"]
        assert [(item.text, item.backchannel) for item in items] == [("tell me a story", False), ("uh-huh", True)]
        assert len(llm.requests) == 1
