"""The part of the log that a provider's session knows, by position: handles, items that are due, and replay."""

from __future__ import annotations

from collections.abc import Sequence

from duologue.services.context import Message
from duologue.services.native.dialect import Dialect
from duologue.services.native.provider import MAX_NOTES, ProviderMemory
from duologue.session.conversation import Conversation
from duologue.session.ledger import Ledger


class Plain(Dialect):
    """Messages are their own texts."""

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        return [f"{role}: {text}"]

    def history(self, messages: Sequence[Message]) -> list[str]:
        return [message.text for message in messages]


def remembering(handle: str = "") -> tuple[Conversation, ProviderMemory]:
    log = Conversation("call", lambda: 0.0)
    ledger = Ledger(lambda _: None, lambda _: None, lambda *_: None)
    memory = ProviderMemory(log, ledger, replay_messages=20)
    memory.start(handle)
    return log, memory


def test_what_the_provider_hears_and_says_itself_is_not_due() -> None:
    log, memory = remembering()
    log.add("message", "caller", turn=1, text="Hello.")
    log.add("message", "agent", turn=1, text="Hello to you.")
    log.add("note", "system", name="connection", data={})
    assert memory.due() == []
    assert not memory.is_due


def test_notes_hand_offs_others_texts_and_results_are_due_in_order_and_once() -> None:
    log, memory = remembering()
    log.add("tool_call", "agent", call_id="c", name="look", data={})
    log.add("note", "system", text="A note.")
    log.add("message", "caller", author="supervisor", text="Be brief.")
    log.add("tool_result", "tool", call_id="c", name="look", text="42")
    assert [item.kind for item in memory.due()] == ["note", "message", "tool_result"]
    assert memory.take_due(Plain()) == [
        "system: A note.",
        "user: [supervisor] Be brief.",
        "system: The tool look has returned: 42",
    ]
    assert memory.due() == []


def test_a_result_that_its_connection_took_is_not_due() -> None:
    log, memory = remembering()
    log.add("tool_call", "agent", call_id="c", name="look", data={})
    log.add("tool_result", "tool", call_id="c", name="look", text="42")
    memory.result_given("c")
    assert memory.due() == []


def test_a_removed_item_is_not_due() -> None:
    log, memory = remembering()
    item = log.add("note", "system", text="A note.")
    log.remove(item.id)
    assert memory.due() == []
    assert memory.take_due(Plain()) == []


def test_a_handle_stands_for_the_log_up_to_its_position() -> None:
    log, memory = remembering("first")
    assert memory.usable_handle(()) == "first"
    item = log.add("message", "caller", turn=1, text="Hello.")
    assert memory.usable_handle(()) == ""
    assert memory.usable_handle({item.id}) == "first"  # it will be heard again
    memory.handle_given("second")
    assert memory.usable_handle(()) == "second"


def test_a_removed_item_does_not_make_room_for_another() -> None:
    log, memory = remembering()
    unheard = log.add("message", "agent", turn=1)
    memory.handle_given("handle")
    log.remove(unheard.id)
    log.add("message", "caller", turn=2, text="Are you there?")
    assert memory.usable_handle(()) == ""


def test_a_note_that_is_due_survives_a_reconnection_and_one_that_was_sent_voids_the_handle() -> None:
    log, memory = remembering()
    log.add("note", "system", text="Early.")
    memory.handle_given("handle")
    log.add("note", "system", text="Late.")
    assert memory.usable_handle(()) == "handle"
    memory.connected(resumed=True)
    assert [item.text for item in memory.due()] == ["Early.", "Late."]
    memory.take_due(Plain())
    assert memory.usable_handle(()) == ""  # the session behind the handle knows neither


def test_a_new_session_is_replayed_and_then_nothing_is_due() -> None:
    log, memory = remembering("handle")
    log.add("message", "caller", turn=1, text="Hello.")
    log.add("note", "system", text="A note.")
    memory.connected(resumed=False)
    assert [message.text for message in memory.replay()] == ["Hello.", "A note."]
    assert memory.due() == []
    assert memory.usable_handle(()) == ""


def test_the_log_is_left_for_good() -> None:
    log, memory = remembering()
    memory.stop()
    log.add("note", "system", text="For another engine.")
    assert memory.due() == []
    memory.start()
    assert memory.due() == []
    log.add("note", "system", text="A note.")
    assert [item.text for item in memory.due()] == ["A note."]


def test_notes_are_bounded() -> None:
    log, memory = remembering()
    for number in range(MAX_NOTES + 3):
        log.add("note", "system", text=str(number))
    assert len(memory.due()) == MAX_NOTES
    assert memory.due()[0].text == "3"
