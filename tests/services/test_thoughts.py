"""A model's thoughts are neither said nor logged, nor told to the model as its words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.frames import Interrupted
from duologue.services.thoughts import ModelText, Thoughts, begins_with_thoughts
from duologue.testing.mocks import MockLLM, MockTTS
from tests.services.story import story

FORMS = [
    ("<think>secret</think>Hello", "Hello"),
    ("Well. <think>secret</think> Hello", "Well.  Hello"),
    ("<THINK>\nsecret\n</THINK>Hello", "Hello"),
    ('<thinking effort="3">secret</thinking>Hello', "Hello"),
    ("<reasoning>secret</reasoning>Hello", "Hello"),
    ("<thought>secret</thought>Hello", "Hello"),
    ("<seed:think>secret</seed:think>Hello", "Hello"),
    ("<antThinking>secret</antThinking>Hello", "Hello"),
    ("<think>a<think>b</think>c</think>Hello", "Hello"),
    ("<think>a<thinking>b</think>Hello", "Hello"),
    ("<think>secret", ""),
    ("<think>secret</th", ""),
    ("<think/>Hello", "Hello"),
    ("<think></think>Hello</think>!", "Hello!"),
    ("[THINK]secret[/THINK]Hello", "Hello"),
    ("◁think▷secret◁/think▷Hello", "Hello"),
    ("<|begin_of_thought|>secret<|end_of_thought|>Hello", "Hello"),
    ("<|START_THINKING|>secret<|END_THINKING|>Hello", "Hello"),
    ("<|channel>thought\nsecret<channel|>Hello", "Hello"),
    (
        "<|channel|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final<|message|>Hello<|return|>",
        "Hello",
    ),
    ("secret</think>Hello", "Hello"),
    ("a secret</thinking>\nHello", "\nHello"),
    ("I think <b>so</b>, if a < b and [c]", "I think <b>so</b>, if a < b and [c]"),
    ("I <thin", "I <thin"),
    ("<", "<"),
]


@pytest.mark.parametrize(("text", "said"), FORMS)
@pytest.mark.parametrize("first", [False, True])
@given(places=st.lists(st.integers(0, 110), max_size=8))
def test_thoughts_are_taken_out_however_the_text_is_cut(text: str, said: str, first: bool, places: list[int]) -> None:
    ends = sorted(min(place, len(text)) for place in places)
    thoughts, found = Thoughts(first=first), ""
    for begin, end in zip([0, *ends], [*ends, len(text)], strict=True):
        piece = thoughts.feed(text[begin:end])
        found = piece if thoughts.void else found + piece
        thoughts.void = False
    assert found + thoughts.flush() == said


@given(st.lists(st.text(st.sampled_from("<>/|[]think◁▷ \ud83d\ude00a"), max_size=8), max_size=12))
def test_no_text_makes_it_fail_or_hold_back_for_ever(pieces: list[str]) -> None:
    text = ModelText(thinks_first=True)
    for piece in pieces:
        assert text.feed(piece) == "" or not text._thoughts._first
    text.flush()
    plain = Thoughts()
    assert len(plain.feed("<" + "x" * 500)) == 501


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("deepseek-r1:14b", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", True),
        ("Qwen/QwQ-32B", True),
        ("Qwen3-30B-A3B-Thinking-2507", True),
        ("gpt-5", False),
        ("Qwen3-8B", False),
        ("", False),
    ],
)
def test_models_that_mark_only_the_end_are_known(model: str, first: bool) -> None:
    assert begins_with_thoughts(model) is first


@pytest.mark.parametrize(("text", "said"), [form for form in FORMS if form[1] == "Hello"])
async def test_thoughts_are_neither_spoken_nor_logged_nor_told_to_the_model(text: str, said: str) -> None:
    tts, llm = MockTTS(seconds_per_sentence=0.5), MockLLM([[*text], "Fine."])
    llm.thinks_first = not text.startswith(("<", "[", "◁"))
    async with story(llm=llm, tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        await call.types("And now?")
        await call.waits_until(10)
        assert tts.spoken == ["Hello", "Fine."]
        assert call.log == ["caller: Hello?", "agent: Hello", "caller: And now?", "agent: Fine."]
        assert [message.text for message in llm.requests[-1].messages] == ["Hello?", "Hello", "And now?"]


async def test_an_unknown_model_that_marks_only_the_end_is_broken_off_and_asked_again() -> None:
    """It cannot be known before the tag comes. After that the text waits for it."""
    text = "The caller is a VIP. I must be nice. " * 3 + "</think>Hello, how can I help?"
    tts, llm = MockTTS(seconds_per_sentence=1.0), MockLLM([text, text, text])
    async with story(llm=llm, tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        await call.types("Again?")
        await call.waits_until(10)
        answer = "agent: Hello, how can I help?"
        assert call.log == ["caller: Hello?", answer, "caller: Again?", answer]
        assert [signal.reason for signal in call.came(Interrupted)] == ["thoughts"]
        assert tts.spoken[-2:] == ["Hello, how can I help?"] * 2
        assert not any("VIP" in message.text for request in llm.requests for message in request.messages)
        assert [error.message for error in call.errors] == [
            "the model says its thoughts, and marks only their end: from now on its text waits for that"
        ]
