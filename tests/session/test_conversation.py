"""The log of a call: in order, paired, bounded, and readable as rows."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.errors import BadInput, IllegalState
from duologue.frames import Word
from duologue.session import Conversation, Item


class Log(Conversation):
    """A conversation whose clock is a number."""

    def __init__(self, limit: int = 5_000, **options: Any) -> None:
        self.time = 0.0
        super().__init__("s1", lambda: self.time, limit, **options)

    @property
    def texts(self) -> list[str]:
        return [item.text for item in self]

    def said(self, text: str, turn: int = 0, **fields: Any) -> Item:
        """The caller said something."""
        return self.add("message", "caller", text=text, turn=turn, **fields)

    def called(self, call_id: str, **fields: Any) -> Item:
        """The agent called a tool."""
        return self.add("tool_call", "agent", call_id=call_id, name="tool", data={}, **fields)

    def answered(self, call_id: str, data: Any = None) -> Item:
        """The tool answered."""
        return self.add("tool_result", "tool", call_id=call_id, name="tool", data=data)


def test_items_stand_in_the_order_in_which_they_came_with_their_time() -> None:
    log = Log()
    for second, text in enumerate("abc"):
        log.time = second
        log.said(text)
    log.said("early", at=0.5)
    assert [(item.text, item.at) for item in log] == [("a", 0), ("b", 1), ("c", 2), ("early", 0.5)]
    assert len(log) == 4
    assert len({item.id for item in log}) == 4


def test_what_comes_late_is_inserted_at_the_end_of_its_turn() -> None:
    log = Log()
    for text, turn in [("one", 1), ("two", 2), ("three", 3)]:
        log.said(text, turn)
    log.said("late two", 2)
    log.said("late one", 1)
    log.said("late zero", 0)
    assert log.texts == ["one", "late one", "two", "late two", "three", "late zero"]


def test_items_of_no_turn_stay_with_what_stands_before_them() -> None:
    log = Log()
    log.said("note before")
    log.said("one", 1)
    log.said("note after one")
    log.said("two", 2)
    log.said("note after two")
    log.said("late one", 1)
    log.said("late two", 2)
    assert log.texts == ["note before", "one", "note after one", "late one", "two", "note after two", "late two"]


def test_ids_are_unique_whoever_gives_them() -> None:
    log = Log()
    log.said("mine", id="item_2")
    made = [log.said("theirs") for _ in range(3)]
    assert [item.id for item in made] == ["item_1", "item_3", "item_4"]
    with pytest.raises(BadInput, match="the conversation already has an item 'item_2'"):
        log.said("again", id="item_2")
    assert len(log) == 4


def test_an_item_is_replaced_under_its_id() -> None:
    log = Log()
    item = log.add("message", "agent", id="r1", status="in_progress")
    changed = log.update("r1", text="Hello", status="complete")
    assert log.get("r1") is changed
    assert (item.text, changed.text) == ("", "Hello")
    assert log.items == (changed,)
    with pytest.raises(IllegalState, match="the conversation has no item 'r2'"):
        log.update("r2", text="?")


def test_an_item_taken_back_is_gone_and_its_id_is_free() -> None:
    log = Log()
    log.said("a", id="x")
    log.remove("x")
    log.remove("x")
    assert log.get("x") is None
    assert log.said("b", id="x").text == "b"


def test_a_call_and_its_result_are_a_pair() -> None:
    log = Log()
    log.called("c1")
    log.called("c2")
    assert [call.id for call in log.calls.open()] == ["c1", "c2"]
    log.answered("c2", 0)
    assert [call.id for call in log.calls.open()] == ["c1"]
    log.answered("c1", {})
    assert log.calls.open() == []


@pytest.mark.parametrize(
    ("do", "problem"),
    [
        (lambda log: log.answered("c9"), "a result for the tool call 'c9', which was never made"),
        (lambda log: (log.answered("c1"), log.answered("c1")), "a second result for the tool call 'c1'"),
        (lambda log: log.called("c1"), "a second tool call 'c1'"),
        (lambda log: log.called(""), "a tool_call needs its call_id"),
        (lambda log: log.answered(""), "a tool_result needs its call_id"),
        (lambda log: log.add("tool_call", "agent"), "a tool_call needs its call_id"),
    ],
)
def test_what_breaks_the_pairing_is_refused(do: Any, problem: str) -> None:
    log = Log()
    log.called("c1")
    before = len(log)
    with pytest.raises(BadInput, match=problem):
        do(log)
    assert len(log) - before <= 1  # the first of two results


def test_the_log_is_bounded_and_forgets_a_call_with_its_result() -> None:
    log = Log(limit=4)
    log.called("c1")
    log.said("a")
    log.answered("c1")
    log.said("b")
    assert (len(log), log.forgotten) == (4, 0)
    log.said("c")
    assert (log.texts, log.forgotten) == (["a", "b", "c"], 2)
    for text in "def":
        log.said(text)
    assert (log.texts, log.forgotten) == (["c", "d", "e", "f"], 4)
    with pytest.raises(BadInput, match="never made"):
        log.answered("c1")
    log.called("c1")


def test_listeners_hear_of_every_new_and_changed_item() -> None:
    log, heard = Log(), []
    log.listen(lambda item: heard.append((item.id, item.text)))
    log.said("a", id="x")
    log.update("x", text="b")
    assert heard == [("x", "a"), ("x", "b")]


def test_a_listener_that_fails_harms_nobody_else() -> None:
    problems: list[Exception] = []
    heard: list[str] = []
    log = Log(failed=problems.append)

    def fail(item: Item) -> None:
        raise ValueError(item.text)

    log.listen(fail)
    log.listen(lambda item: heard.append(item.text))
    log.said("a")
    assert heard == ["a"]
    assert [str(problem) for problem in problems] == ["a"]
    alone = Log()
    alone.listen(fail)
    with pytest.raises(ValueError, match="a"):
        alone.said("a")


def test_the_conversation_as_rows() -> None:
    log = Log()
    log.time = 1.23456
    log.said("Is it open?", 1, id="u1", ended_at=2.0)
    log.add("message", "agent", turn=1, id="r1", status="in_progress", agent="desk")
    log.called("c1", turn=1, agent="desk", id="t1")
    log.add("tool_result", "tool", turn=1, call_id="c1", name="tool", data=None, text="null", id="t2")
    log.add("message", "caller", text="[psst]", author="supervisor", id="u2")
    rows = log.rows()
    assert [row["id"] for row in rows] == ["u1", "t1", "t2", "u2"]  # of r1 nothing was heard yet
    assert rows[0] == {
        "role": "caller",
        "message": "Is it open?",
        "id": "u1",
        "timestamp": 1.235,
        "time": "",
        "type": "message",
        "metadata": {"turn": 1, "status": "complete", "ended_at": 2.0},
        "session_id": "s1",
    }
    assert rows[1]["metadata"] == {"turn": 1, "agent": "desk", "call_id": "c1", "name": "tool", "data": {}}
    assert rows[2]["metadata"] == {"turn": 1, "call_id": "c1", "name": "tool", "data": None}
    assert rows[3]["metadata"] == {"turn": 0, "status": "complete", "author": "supervisor"}


def test_a_falsy_result_is_in_its_row() -> None:
    log = Log()
    results: list[Any] = [0, "", False, None, [], {}]
    for number, result in enumerate(results):
        log.called(f"c{number}")
        log.answered(f"c{number}", result)
    rows = [row["metadata"]["data"] for row in log.rows() if row["type"] == "tool_result"]
    assert rows == results


def test_what_was_not_heard_after_all_is_taken_back() -> None:
    log = Log()
    words = tuple(
        Word(text, at, at + 1.0) for text, at in (("one ", 0.0), ("two ", 1.0), ("three ", 2.0), ("four", 3.0))
    )
    spoken: dict[str, Any] = {"text": "one two three four", "heard_s": 4.0}
    timed = log.add("message", "agent", words=words, **spoken)
    plain = log.add("message", "agent", **spoken)
    assert log.shorten(timed.id, 5.0) == timed
    assert log.texts == ["one two three four"] * 2
    left = log.shorten(timed.id, 2.6)
    assert left is not None
    assert (left.text, left.heard_s, left.status) == ("one two three", 2.6, "interrupted")
    assert left.words == words[:3]
    log.shorten(timed.id, 1.6)
    log.shorten(plain.id, 2.0)
    assert log.texts == ["one two", "one two"]
    assert log.shorten(timed.id, 0.0) is None
    assert len(log) == 1
    with pytest.raises(IllegalState, match=timed.id):
        log.shorten(timed.id, 0.0)


def test_a_listener_can_stop_listening() -> None:
    log, heard = Log(), []
    stops = [log.listen(lambda item, name=name: heard.append((name, item.text))) for name in "ab"]  # type: ignore[misc]
    log.said("one")
    stops[0]()
    stops[0]()
    log.said("two")
    assert heard == [("a", "one"), ("b", "one"), ("b", "two")]


def test_a_function_that_listens_twice_stops_once_at_a_time() -> None:
    log, heard = Log(), []

    def listener(item: Item) -> None:
        heard.append(item.text)

    stop = log.listen(listener)
    log.listen(listener)
    stop()
    stop()
    log.said("one")
    assert heard == ["one"]


def picture(size: int) -> dict[str, Any]:
    return {"mime": "image/png", "url": "", "image": bytes(size)}


def test_the_log_is_bounded_by_bytes_and_the_oldest_images_go_first() -> None:
    log, changed = Log(max_bytes=100_000), []
    log.said("first")
    for number in range(1, 6):
        log.add("message", "caller", id=f"image {number}", name="image", data=picture(30_000))
    log.listen(lambda item: changed.append((item.id, item.kind)))
    log.said("last")
    assert log.size <= 100_000
    assert [(item.kind, item.text, item.data is not None) for item in log] == [
        ("message", "first", False),
        ("note", "(an image that is not kept any longer)", False),
        ("note", "(an image that is not kept any longer)", False),
        ("message", "", True),
        ("message", "", True),
        ("message", "", True),
        ("message", "last", False),
    ]
    assert log.forgotten == 0
    log.add("message", "caller", id="image 6", name="image", data=picture(30_000))
    assert changed == [(log.items[-2].id, "message"), ("image 3", "note"), ("image 6", "message")]


def test_without_images_the_oldest_items_go_a_call_with_its_result() -> None:
    log = Log(max_bytes=50_000)
    log.called("c1")
    log.answered("c1", ["x" * 1_000] * 20)
    log.said("é" * 10_000)
    assert (len(log), log.forgotten) == (3, 0)
    log.said("y" * 20_000)
    assert ([item.kind for item in log], log.forgotten) == (["message", "message"], 2)
    assert log.calls.get("c1") is None
    log.update(log.items[0].id, text="z" * 40_000)
    assert ([item.text[0] for item in log], log.forgotten) == (["z"], 3)
    log.said("w" * 60_000)
    assert [item.text[0] for item in log] == ["w"], "the newest stays, whatever its size"
    log.remove(log.items[0].id)
    assert log.size == 0


def test_a_call_of_400_images_is_kept_in_16_mib() -> None:
    log = Log()
    for _ in range(400):
        log.add("message", "caller", name="image", data=picture(190_000))
    assert 15 * 1024 * 1024 < log.size <= 16 * 1024 * 1024
    assert (len(log), log.forgotten) == (400, 0)
