from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import Say
from duologue.processors.tools import Tools
from duologue.services.context import Budget
from duologue.services.llm import Message, messages
from duologue.session import Conversation, Ledger
from duologue.testing.mocks import MockLLM, MockTTS
from tests.patience import steps
from tests.services.story import asked, asks, check, said, story


class Log:
    """A conversation written by hand."""

    def __init__(self) -> None:
        self.conversation = Conversation("test", lambda: 0.0)
        self.ledger = Ledger(lambda r: None, lambda r: None, lambda r, h, i: None)

    def caller(self, text: str, turn: int = 0, **fields: Any) -> Log:
        self.conversation.add("message", "caller", turn=turn, text=text, **fields)
        return self

    def agent(self, text: str, turn: int = 0) -> Log:
        self.conversation.add("message", "agent", turn=turn, text=text)
        return self

    def speaking(self, response_id: str, text: str, turn: int = 0) -> Log:
        self.conversation.add("message", "agent", turn=turn, id=response_id, status="in_progress")
        self.ledger.open(response_id, turn)
        self.ledger.add_text(response_id, text)
        return self

    def call(self, call_id: str, turn: int = 0) -> Log:
        self.conversation.add("tool_call", "agent", turn=turn, call_id=call_id, name=f"tool_{call_id}", data={"n": 1})
        return self

    def result(self, call_id: str, text: str = "ok", turn: int = 0) -> Log:
        self.conversation.add("tool_result", "tool", turn=turn, call_id=call_id, text=text, data=text)
        return self

    def note(self, text: str, turn: int = 0) -> Log:
        self.conversation.add("note", "system", turn=turn, text=text)
        return self

    def handoff(self, text: str, turn: int = 0) -> Log:
        self.conversation.add("handoff", "system", turn=turn, text=text)
        return self

    @property
    def messages(self) -> tuple[Message, ...]:
        return messages(self.conversation, self.ledger)

    @property
    def lines(self) -> list[str]:
        return [said(message) for message in self.messages]


def test_the_sides_alternate() -> None:
    log = Log().agent("Hello.").agent("Who is there?").caller("It is me.").caller("Max.").agent("Hello, Max.")
    assert log.lines == ["assistant: Hello. Who is there?", "user: It is me.\nMax.", "assistant: Hello, Max."]


def test_a_call_is_part_of_what_was_said_before_it_and_its_result_follows() -> None:
    log = Log().caller("Weather?").agent("One moment.").call("a").result("a", "rain").agent("It rains.")
    assert log.lines == ["user: Weather?", "assistant: One moment. [tool_a]", "tool: rain", "assistant: It rains."]
    assert log.messages[1].calls[0].arguments == {"n": 1}
    assert log.messages[2].call_id == "a"
    assert log.messages[2].name == "tool_a"


def test_calls_without_words_before_them() -> None:
    log = Log().caller("Go.").call("a").call("b").result("b", "2").result("a", "1")
    assert log.lines == ["user: Go.", "assistant:  [tool_a] [tool_b]", "tool: 1", "tool: 2"]


def test_calls_of_two_responses_stay_apart() -> None:
    log = (
        Log()
        .caller("Go.")
        .agent("First.")
        .call("a")
        .result("a", "1")
        .agent("Then.")
        .call("b")
        .result("b", "2")
        .call("c")
        .result("c", "3")
    )
    assert log.lines == [
        "user: Go.",
        "assistant: First. [tool_a]",
        "tool: 1",
        "assistant: Then. [tool_b]",
        "tool: 2",
        "assistant:  [tool_c]",
        "tool: 3",
    ]


def test_a_call_without_a_result_is_pending() -> None:
    log = Log().caller("Go.").call("a").call("b").result("a", "1").caller("And now?", turn=1)
    assert log.lines == [
        "user: Go.",
        "assistant:  [tool_a] [tool_b]",
        "tool: 1",
        'tool: {"status": "pending"}',
        "user: And now?",
    ]


def test_a_late_result_takes_the_place_of_pending() -> None:
    log = Log().caller("Go.", 1).call("a", 1).caller("Hm?", 2).agent("Wait.", 2).result("a", "done", 1)
    assert log.lines == ["user: Go.", "assistant:  [tool_a]", "tool: done", "user: Hm?", "assistant: Wait."]


def test_notes_and_hand_offs_are_told_by_the_system_after_the_results() -> None:
    log = Log().caller("Go.", 1).call("a", 1).handoff("From Ann to Bob.", 1).result("a", "ok", 1).note("(a noise)", 2)
    assert log.lines == [
        "user: Go.",
        "assistant:  [tool_a]",
        "tool: ok",
        "system: From Ann to Bob.",
        "system: (a noise)",
    ]


def test_whoever_is_not_the_caller_is_named() -> None:
    log = Log().caller("Hello.").caller("Be brief.", author="supervisor")
    assert log.lines == ["user: Hello.\n[supervisor] Be brief."]


def test_images_come_with_the_words_next_to_them_one_in_a_message() -> None:
    log = Log()
    for number in (1, 2):
        log.caller("", name="image", data={"mime": "image/png", "url": f"u{number}", "image": b""})
    log.caller("Which is it?")
    assert [(m.role, m.url, m.mime, m.text) for m in log.messages] == [
        ("user", "u1", "image/png", ""),
        ("user", "u2", "image/png", "Which is it?"),
    ]


def test_what_is_being_said_counts_as_said() -> None:
    log = Log().caller("Tell.").speaking("resp_1", "Once upon a time").caller("Go on.")
    assert log.lines == ["user: Tell.", "assistant: Once upon a time", "user: Go on."]


def test_what_was_not_heard_was_not_said() -> None:
    log = Log().caller("Tell.").speaking("resp_1", "Once upon a time")
    log.ledger.cut(0)
    assert log.lines == ["user: Tell."]


OPERATIONS = st.lists(st.sampled_from(["caller", "agent", "call", "result", "note", "handoff", "late"]), max_size=30)


@given(OPERATIONS, st.data(), st.integers(0, 40))
def test_any_log_makes_a_request_that_a_model_accepts(operations: list[str], data: st.DataObject, limit: int) -> None:
    log, ids, turn = Log(), count(), 1
    open_calls: dict[str, int] = {}
    for what in operations:
        if what == "caller":
            turn += 1
            log.caller("words", turn)
        elif what == "call":
            call_id = str(next(ids))
            log.call(call_id, turn)
            open_calls[call_id] = turn
        elif what in ("result", "late") and open_calls:
            call_id = data.draw(st.sampled_from(sorted(open_calls)))
            log.result(call_id, turn=open_calls.pop(call_id))
        elif what in ("agent", "note", "handoff"):
            getattr(log, what)("words", turn)
    check(log.messages)
    for budget in (Budget(messages=limit), Budget(tokens=limit // 3)):
        within = messages(log.conversation, log.ledger, budget=budget)
        check(within)
        assert len(within) <= len(log.messages)
        words = [[m.text for m in told if m.role == "user"][-1:] for told in (log.messages, within)]
        assert words[0] == [] or words[0][0].endswith(words[1][0])
    assert sum(len(m.calls) for m in log.messages) == len([i for i in log.conversation if i.kind == "tool_call"])


# -- in a call ---------------------------------------------------------------------------------------------------------


async def test_an_answer_that_is_being_spoken_is_in_the_next_request() -> None:
    llm = MockLLM(["First. Second.", "Third."])
    async with story(llm=llm, tts=MockTTS(seconds_per_sentence=10.0)) as call:
        await call.types("One?")
        await call.waits_until(1)
        await call.types("Two?", author="supervisor")
        await call.waits_until(30)
    assert asked(llm.requests[1]) == ["user: One?", "assistant: First. Second.", "user: [supervisor] Two?"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("words", "words"),
        ("", ""),
        (0, "0"),
        (None, "null"),
        (False, "false"),
        ([], "[]"),
        ({}, "{}"),
        ({"a": [1]}, '{"a":[1]}'),
    ],
)
async def test_every_result_is_a_result_also_a_falsy_one(result: Any, text: str) -> None:  # pipecat 4298
    llm = MockLLM([asks("get"), "Thanks."])

    def get() -> Any:
        return result

    async with story(Tools([get]), llm=llm) as call:
        await call.types("Get it.")
        await call.waits_until(3)
        assert call.responses[-1] == ": Thanks. (completed)"
        assert [i.data for i in call.session.conversation if i.kind == "tool_result"] == [result]
    assert llm.requests[1].messages[-1] == Message(role="tool", text=text, call_id="c1", name="get")


async def test_frames_of_the_application_are_part_of_the_conversation() -> None:
    llm = MockLLM(["Fine."])
    async with story(llm=llm) as call:
        await call.session.send(Say(text="Welcome."))
        await call.waits_until(3)
        await call.types("Hello.")
        await call.waits_until(6)
    assert asked(llm.requests[0]) == ["assistant: Welcome.", "user: Hello."]


# -- the budget of a request -------------------------------------------------------------------------------------------


def within(log: Log, **budget: int) -> list[str]:
    """The messages within a budget, a message a line."""
    out = messages(log.conversation, log.ledger, budget=Budget(**budget))
    check(out)
    return [said(message) for message in out]


def chat(turns: int, text: str = "") -> Log:
    """So many turns of caller and agent."""
    log = Log()
    for turn in range(1, turns + 1):
        log.caller(f"q{turn}{text}", turn).agent(f"a{turn}{text}", turn)
    return log


def test_the_newest_messages_are_sent_and_notes_among_them() -> None:
    log = chat(10).note("A note.", 10).caller("q11", 11)
    assert within(log, messages=4) == ["user: q10", "assistant: a10", "system: A note.", "user: q11"]
    assert within(log, messages=1) == ["user: q11"]
    assert len(within(log)) == 22


def test_several_items_of_one_side_are_one_message_also_at_the_limit() -> None:
    log = chat(5).caller("one", 6).caller("two", 6).agent("three", 6).agent("four", 6).caller("five", 7)
    assert within(log, messages=3) == ["user: one\ntwo", "assistant: three four", "user: five"]


def test_a_call_and_its_results_are_kept_or_left_out_together() -> None:
    log = chat(3)
    log.caller("look", 4).agent("I look.", 4).call("c1", 4).call("c2", 4).result("c1", turn=4).result("c2", turn=4)
    log.agent("Found.", 4).caller("thanks", 5)
    for limit in range(1, 12):
        lines = within(log, messages=limit)
        assert ("assistant: I look. [tool_c1] [tool_c2]" in lines) == ("tool: ok" in lines) == (limit >= 4)
    for limit in range(0, 400, 10):
        within(log, tokens=limit // 3)


def test_bytes_count_in_utf_8_and_the_newest_turn_is_always_sent_whole() -> None:
    log = chat(10, "é" * 48)  # 100 bytes a message
    assert len(within(log, tokens=350)) == 10
    assert len(within(log, tokens=0)) == 2
    log.caller("look", 11).call("c1", 11).result("c1", "x" * 100_000, 11)
    assert [len(line) for line in within(log, tokens=3)] == [10, 21, 100_006]


def test_the_newest_words_of_the_caller_are_sent_however_old() -> None:
    log = chat(2).caller("first half,", 3).caller("second half", 3)
    for turn in range(3, 40):
        log.agent(f"a{turn}", turn).call(f"c{turn}", turn).result(f"c{turn}", turn=turn)
    assert within(log, messages=1)[0] == "user: first half,\nsecond half"
    assert within(log, tokens=3)[0] == "user: first half,\nsecond half"


def test_images_that_do_not_fit_are_named_and_what_was_said_stays() -> None:
    log = Log()
    for turn in range(1, 6):
        log.caller("", turn, name="image", data={"mime": "image/png", "url": "", "image": bytes(1_000)})
        log.caller(f"What is {turn}?", turn).agent(f"A {turn}.", turn)
    out = messages(log.conversation, log.ledger, budget=Budget(image_bytes=2_500))
    asked = [message for message in out if message.role == "user"]
    assert [len(message.image) for message in asked] == [0, 0, 0, 1_000, 1_000]
    assert [message.text for message in asked][2:4] == ["(an image that was shown before)\nWhat is 3?", "What is 4?"]


def test_400_images_in_the_log_are_no_request_of_76_megabytes() -> None:
    log = Log()
    for turn in range(1, 401):
        log.caller("", turn, name="image", data={"mime": "image/png", "url": "", "image": bytes(190_000)})
        log.caller("And this?", turn).agent("A cat.", turn)
    assert sum(len(message.image) for message in log.messages) <= 4 * 1024 * 1024
    assert len(log.messages) == 400
    assert {message.role for message in log.messages} == {"user", "assistant"}


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a budget's tokens must not be negative, not -1"):
        Budget(tokens=-1)


def test_the_time_that_a_request_takes_does_not_grow_with_the_log() -> None:
    def work(log: Log) -> int:
        return steps(lambda: messages(log.conversation, log.ledger))

    assert work(chat(2_500)) < 1.1 * work(chat(250))
