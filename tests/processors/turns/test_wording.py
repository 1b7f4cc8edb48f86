from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.turns.fit import fitted, traits
from benchmarks.turns.moments import moments
from benchmarks.turns.rules import figures
from duologue.processors.turns import weights
from duologue.processors.turns.lexicon import known_languages, lexicon
from duologue.processors.turns.wording import Asked, asked_for, judge


def rule(text: str, language: str = "en", asked: Asked = "") -> str:
    found = lexicon(language)
    assert found is not None
    verdict = judge(text, found, asked)
    if verdict is None:
        return ""
    wait = "quick" if verdict.patience < 0 else "usual" if verdict.patience < 1 else "patient"
    return f"{wait}: {verdict.rule}"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("I'd like to cancel my order", "usual: short statement"),
        ("I'd like to cancel an order of last Monday", "usual: statement"),
        ("I'd like to cancel an order of the week before last Monday", "quick: statement"),
        ("I'd like to cancel my order.", "usual: statement"),
        ("I'd like to cancel my", "patient: open"),
        ("I want to", "patient: open"),
        ("I need a flight from Paris to", "patient: open"),
        ("I was thinking, um", "patient: filler"),
        ("It broke because", "patient: open"),
        ("It broke because.", "usual: open, but punctuated"),
        ("What time do you open", "usual: question"),
        ("Can you tell me what time you open", "quick: question"),
        ("Hi. What time do you open", "usual: question"),
        ("okay so what is it for", "usual: question"),
        ("I bought it for", "patient: open"),
        ("Tuesday", "usual: fragment"),
        ("no that's all thank you", "quick: closed"),
        ("yes it is", "quick: closed"),
        ("it is", "quick: closed"),
        ("the problem is", "patient: open"),
        ("my number is five five five", "patient: number"),
        ("my number is 555", "patient: number"),
        ("a table for two", "patient: short statement"),
        ("my name is J O H", "patient: spelling"),
        ("J for juliet, O for oscar", "patient: spelling"),
        ("it's my daughter's", "patient: open"),
        ("could you ask whether lamps", "patient: clause begun"),
        ("is that included", "quick: closed"),
        ("is that correct then", "usual: question"),
        ("do you deliver to", "patient: open"),
        ("I'd like the new", "patient: open"),
        ("two large", "patient: open"),
        ("it's 555 123 4567", "quick: full number"),
        (" ... ", ""),
        ("", ""),
    ],
)
def test_english(text: str, verdict: str) -> None:
    assert rule(text) == verdict


@pytest.mark.parametrize(
    ("language", "text", "verdict"),
    [
        ("de", "Ich möchte einen Termin vereinbaren", "usual: short statement"),
        ("de", "Ich rufe Sie morgen oder am Freitag noch einmal von zu Hause an", "quick: statement"),
        ("de", "Ich möchte einen Termin für", "patient: open"),
        ("de", "Wann haben Sie geöffnet", "usual: question"),
        ("de", "ich hätte da ähm", "patient: filler"),
        ("es", "Quisiera reservar una mesa para", "patient: open"),
        ("es", "Quisiera reservar una mesa", "patient: short statement"),
        ("fr", "Je voudrais annuler ma", "patient: open"),
        ("fr", "Je voudrais annuler ma commande", "usual: short statement"),
        ("it", "Vorrei prenotare un", "patient: open"),
        ("pt", "Eu queria cancelar o meu", "patient: open"),
        ("hi", "मुझे एक टेबल बुक करना है", "usual: short statement"),
        ("hi", "मुझे कल शाम के लिए चार लोगों की एक टेबल बुक करना है", "quick: statement"),
        ("hi", "मुझे दिल्ली से", "usual: fragment"),
        ("hi", "मुझे लाल टेबल", "usual: fragment"),
    ],
)
def test_other_languages(language: str, text: str, verdict: str) -> None:
    assert rule(text, language) == verdict


@pytest.mark.parametrize(
    ("asked", "text", "verdict"),
    [
        ("", "yes", "usual: fragment"),
        ("yes_no", "yes", "usual: bare answer"),
        ("yes_no", "No, that's wrong.", "usual: detail"),
        ("yes_no", "Not at all", "quick: answer"),
        ("yes_no", "I'd like to cancel it", "usual: detail"),
        ("yes_no", "I'd like to cancel it because it is late", "quick: detail"),
        ("detail", "on Tuesday", "usual: detail"),
        ("detail", "at", "patient: open"),
        ("story", "It broke yesterday", "patient: short statement"),
        ("digits", "seven", "patient: number"),
        ("", "seven", "usual: fragment"),
        ("digits", "C", "patient: number"),
        ("digits", "M as in mother", "patient: spelling"),
        ("digits", "I don't know it", "patient: short statement"),
    ],
)
def test_the_agents_question_counts(asked: Asked, text: str, verdict: str) -> None:
    assert rule(text, asked=asked) == verdict


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Is that correct?", "yes_no"),
        ("Fine. Would you like to go on?", "yes_no"),
        ("When would you like to come?", "detail"),
        ("How can I help you?", "story"),
        ("Please tell me what happened.", "story"),
        ("What is your phone number?", "digits"),
        ("Please tell me your account number.", "digits"),
        ("Please read me the letter.", "dictation"),
        ("Tell me about your trip.", "dictation"),
        ("Is there anything else?", "story"),
        ("Your order is on its way.", ""),
        ("Okay?", None),
        ("", None),
    ],
)
def test_what_the_agent_asks_for(text: str, asked: Asked | None) -> None:
    english = lexicon("en")
    assert english is not None
    assert asked_for(text, english) == asked


@given(text=st.text(max_size=300), language=st.sampled_from(known_languages()))
def test_any_text_has_a_verdict(text: str, language: str) -> None:
    assert rule(text, language).partition(":")[0] in ("", "quick", "usual", "patient")


def test_pauses_shorten_the_silence_after_words_that_may_be_complete() -> None:
    english = lexicon("en")
    assert english is not None
    verdicts = [judge("my washing machine broke", english, "story", pauses) for pauses in range(5)]
    patience = [verdict.patience for verdict in verdicts if verdict]
    assert patience[0] == 1.0
    assert 0 < patience[2] < patience[1] < patience[0]
    assert patience[4] == patience[3] <= patience[2]


def test_a_longer_text_is_more_often_complete() -> None:
    english = lexicon("en")
    assert english is not None
    verdicts = [judge("because the old machine " * count + "broke", english, "story") for count in range(5)]
    patience = [verdict.patience for verdict in verdicts if verdict]
    assert patience == sorted(patience, reverse=True)
    assert patience[0] > patience[3] == patience[4]


def test_the_silence_after_an_open_clause_is_never_quick() -> None:
    english = lexicon("en")
    assert english is not None
    for asked in get_args(Asked):
        for pauses in range(5):
            verdict = judge("please cancel my", english, asked, pauses)
            assert verdict is not None
            assert verdict.patience >= 0


@given(text=st.text(max_size=60), asked=st.sampled_from(get_args(Asked)), pauses=st.integers(0, 100))
def test_more_pauses_never_lengthen_the_silence(text: str, asked: Asked, pauses: int) -> None:
    english = lexicon("en")
    assert english is not None
    fewer, more = (judge(text, english, asked, count) for count in (pauses, pauses + 1))
    assert fewer == more or (fewer is not None and more is not None and more.patience < fewer.patience)


def test_a_verdict_looks_at_the_end_of_a_long_text_only() -> None:
    text = "I ordered it on Monday and it still has not come, so I'd like to know where it is and whether "

    def steps(text: str) -> int:
        count = 0

        def step(*event: object) -> None:
            nonlocal count
            count += 1

        rule(text)
        sys.setprofile(step)
        try:
            rule(text)
        finally:
            sys.setprofile(None)
        return count

    assert steps(text * 1_000) == steps(text * 20) < 400


def test_each_rule_brings_fewer_cut_offs_or_earlier_ends_on_the_tuning_set() -> None:
    cut_offs, ends, rules = figures()
    assert cut_offs < 25
    assert len(rules) > 10
    for rule in rules:
        fewer, later, _ = figures({rule})
        assert fewer > cut_offs or sum(later) > sum(ends), rule


BY_HAND = {"answer", "closed", "full number", "marked question", "open, but punctuated"}


def test_the_weights_are_those_of_the_tuning_set() -> None:
    said = list(moments())
    table = np.array([traits(moment) for moment in said])
    found = fitted(table, said)
    rules, asked, pauses = np.split(found.each[1:-1], [len(weights.RULES), len(weights.RULES) + len(weights.ASKED)])
    base = found.each[0] - found.usual_from + asked[list(weights.ASKED).index("story")] + pauses[0]
    for (rule, weight), each in zip(weights.RULES.items(), rules, strict=True):
        assert rule in BY_HAND or weight == pytest.approx(base + each, abs=0.006), rule
    assert [*weights.PAUSES] == pytest.approx([*(pauses - pauses[0])], abs=0.006)
    assert found.each[-1] == pytest.approx(weights.WORD, abs=0.001)
