"""Retrieval: passages for the caller's words, looked for while they speak, for one answer only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import anyio
import pytest

from duologue import Cascade, Retrieval
from duologue.errors import ConfigurationError
from duologue.frames import BotAudio, Respond, UserText
from duologue.services.retrieval import HEADING, Passage
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.test_inside_cascade import heard_call

QUESTION = "when do you open on Sunday"


class Shelf:
    """A search that takes its time, and records when each began and ended."""

    def __init__(self, seconds: float = 0.1, found: Sequence[Any] = (Passage("We open at ten.", "hours.md"),)) -> None:
        self.seconds, self.found = seconds, found
        self.asked: list[str] = []
        self.done: list[str] = []

    async def search(self, words: str) -> Sequence[Any]:
        self.asked.append(words)
        await anyio.sleep(self.seconds)
        self.done.append(words)
        return self.found


def engine(retrieval: Retrieval, *texts: str, interim_s: float | None = 0.05) -> Cascade:
    stt = MockSTT(texts or [QUESTION], interim_s=interim_s)
    return Cascade(stt, MockLLM(["At ten.", "Yes."]), MockTTS(seconds_per_sentence=0.5), heard=[retrieval])


async def answered(retrieval: Retrieval, *texts: str, may_fail: bool = False, turns: int = 1, **options: Any) -> Any:
    """A call of some turns: the requests to the model, and the call."""
    cascade = engine(retrieval, *texts, **options)
    async with heard_call(cascade, may_fail=may_fail) as call:
        for turn in range(turns):
            await call.says(seconds=0.6)
            await call.waits_until(4.0 * (turn + 1))
        assert call.is_quiet()
    llm = cascade.llm
    assert isinstance(llm, MockLLM)
    return llm.requests, call


async def test_passages_are_the_last_message_of_that_answer_and_not_in_the_log() -> None:
    shelf = Shelf()
    retrieval = Retrieval(shelf.search)
    (first, second), call = await answered(retrieval, QUESTION, "thank you", turns=2)
    shelf.found = ()
    assert first.messages[-1].role == "system"
    assert first.messages[-1].text == f"{HEADING}\n\n[1] hours.md\nWe open at ten."
    assert second.messages[: len(first.messages) - 1] == first.messages[:-1]  # the provider's cache serves it
    assert call.log == [f"caller: {QUESTION}", "agent: At ten.", "caller: thank you", "agent: Yes."]
    assert retrieval.latest == (Passage("We open at ten.", "hours.md"),)


async def test_the_search_begins_while_the_caller_speaks_and_costs_the_answer_nothing() -> None:
    begun = []
    for shelf in (Shelf(0.0), Shelf(0.15)):
        cascade = engine(Retrieval(shelf.search, debounce_s=0.05))
        async with heard_call(cascade) as call:
            await call.says(seconds=0.9)
            await call.waits_until(4)
            begun.append(call.times(BotAudio)[0])
        assert shelf.asked[-1] == shelf.done[-1] == QUESTION
        assert shelf.asked.count(QUESTION) == 1  # the final words are those of the last interim text
    assert begun[0] == begun[1]


async def test_other_words_cancel_the_search() -> None:
    shelf = Shelf(0.5)
    await answered(Retrieval(shelf.search, debounce_s=0.0, deadline_s=1.0))
    assert len(shelf.asked) > 2
    assert shelf.done == [QUESTION]


async def test_interim_words_are_debounced() -> None:
    shelf = Shelf(0.0)
    await answered(Retrieval(shelf.search, debounce_s=0.3))
    assert shelf.asked == [QUESTION]


@pytest.mark.parametrize(("seconds", "found"), [(0.2, True), (0.5, False), (60.0, False)])
async def test_the_answer_waits_until_the_deadline_and_not_longer(seconds: float, found: bool) -> None:
    shelf = Shelf(seconds)
    (request,), call = await answered(Retrieval(shelf.search, deadline_s=0.3), interim_s=None)
    assert (request.messages[-1].role == "system") is found
    assert len(call.errors) == (not found)
    if not found:
        assert "longer than 0.3 s after the end of the turn" in call.errors[0].message
    assert call.log[-1] == "agent: At ten."


class Broken:
    async def search(self, words: str) -> Sequence[Any]:
        raise RuntimeError("no index")


@pytest.mark.parametrize(
    ("search", "why"), [(Broken().search, "no index"), (Shelf(0.0, [7]).search, "a search returned int")]
)
async def test_a_search_that_fails_is_reported_and_the_answer_begins(search: Any, why: str) -> None:
    (request,), call = await answered(Retrieval(search), may_fail=True)
    assert request.messages[-1].role == "user"
    assert why in call.errors[0].message
    assert len(call.errors) == 1


class Odd:
    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (lambda: 5, "a search returned int"),
        (lambda: "We open at ten.", "a search returned str"),
        (lambda: b"ten", "a search returned bytes"),
        (lambda: {"text": "ten"}, "a search returned dict"),
        (Odd, "a search returned Odd"),
        (lambda: [Passage(None)], "the text of a passage is None"),  # type: ignore[arg-type]
        (lambda: [Passage("ten", 5)], "the source of a passage is 5"),  # type: ignore[arg-type]
        (lambda: (1 / n for n in [0]), "division by zero"),
    ],
)
async def test_rubbish_of_a_search_is_reported_and_the_answer_begins(found: Any, why: str) -> None:
    async def search(words: str) -> Any:
        return found()

    (request,), call = await answered(Retrieval(search), may_fail=True)
    assert request.messages[-1].role == "user"
    assert [why in error.message for error in call.errors] == [True]
    assert call.log[-1] == "agent: At ten."


async def test_passages_without_end_or_with_half_a_character() -> None:
    async def search(words: str) -> Any:
        return repeat("te\ud83dn")

    (request,), call = await answered(Retrieval(search))
    assert request.messages[-1].text.count("te") >= 4
    assert request.messages[-1].text.endswith("[4]\nte\ufffdn")
    assert call.log[-1] == "agent: At ten."


async def test_passages_are_bounded_in_number_and_bytes() -> None:
    shelf = Shelf(0.0, ["one", "x" * 5000, "two", "ü" * 2000, "three", "four"])
    retrieval = Retrieval(shelf.search, max_passages=5, max_bytes=4020)
    await answered(retrieval)
    assert [passage.text[:5] for passage in retrieval.latest] == ["one", "two", "ü" * 5, "three"]


async def test_nothing_found_adds_nothing() -> None:
    (request,), call = await answered(Retrieval(Shelf(0.0, ()).search))
    assert request.messages[-1].role == "user"
    assert call.errors == []


async def test_a_typed_question_gets_passages_too() -> None:
    cascade = engine(Retrieval(Shelf(0.1).search))
    async with heard_call(cascade) as call:
        await call.session.send(UserText(text=QUESTION))
        await call.waits_until(4)
        assert call.is_quiet()
    assert isinstance(cascade.llm, MockLLM)
    (request,) = cascade.llm.requests
    assert [message.role for message in request.messages] == ["user", "system"]
    assert call.log == [f"caller: {QUESTION}", "agent: At ten."]


async def test_the_instructions_of_an_answer_stay() -> None:
    shelf = Shelf(0.0)
    cascade = engine(Retrieval(shelf.search))
    async with heard_call(cascade) as call:
        await call.session.send(Respond(instructions="Greet."))
        await call.waits_until(2)
        await call.says()
        await call.waits_until(6)
    assert isinstance(cascade.llm, MockLLM)
    assert [request.messages[-1].text[:8] for request in cascade.llm.requests] == ["Greet.", HEADING[:8]]


async def test_the_search_is_a_tool_for_a_native_engine() -> None:
    retrieval = Retrieval(Shelf(0.0).search)
    tool = retrieval.tool("look_up")
    assert tool.__name__ == "look_up"
    assert "We open at ten." in await tool("opening hours")
    assert await Retrieval(Shelf(0.0, ()).search).tool()("x") == "Nothing was found."


def test_wrong_options_are_refused() -> None:
    for options in ({"deadline_s": -1}, {"max_passages": 0}, {"max_bytes": 0}):
        with pytest.raises(ConfigurationError):
            Retrieval(Shelf().search, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be a search"):
        Retrieval("nothing")  # type: ignore[arg-type]
