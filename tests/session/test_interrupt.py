"""An interruption: at once, everywhere, and the history holds what was heard."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue.errors import BadInput
from duologue.frames import BotText, ErrorRaised, Idle, Interrupted, ResponseEnded, Usage, Word
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Item, Session, UsageTotals
from tests.session.calls import Relay, Sink, TextCall, running, settled

pytestmark = pytest.mark.virtual_clock

TEXT = "The weather in Paris is fine today."


def respond(call: TextCall, text: str, *, sent_s: float, played_s: float, words: tuple[Word, ...] = ()) -> str:
    """The agent takes a turn and speaks; these seconds have been sent and played."""
    session = call.session
    session.audio.has_playout = True
    response_id = session.ledger.new_id()
    session.ledger.open(response_id, session.floor.begin(), "desk")
    session.ledger.add_text(response_id, text)
    session.ledger.add_words(response_id, words)
    session.ledger.sent(response_id, sent_s)
    session.ledger.all_sent(response_id)
    session.ledger.played(response_id, played_s)
    return response_id


async def test_the_caller_heard_what_was_played_and_the_history_says_so() -> None:
    async with running(Relay()) as call:
        told: list[Interrupted] = []
        call.session.on(Interrupted, told.append)
        response_id = respond(call, TEXT, sent_s=2.0, played_s=1.0)
        await anyio.sleep(3)
        signal = call.session.interrupt("barge-in")
        assert signal == Interrupted(turn=1, heard="The weather in", heard_s=1.0, reason="barge-in")
        assert told == [signal]
        item = call.session.conversation.get(response_id)
        assert item is not None
        assert (item.text, item.status, item.heard_s, item.ended_at) == ("The weather in", "interrupted", 1.0, 3.0)
        assert (item.role, item.agent, item.turn, item.at) == ("agent", "desk", 1, 0.0)


async def test_word_times_say_it_exactly_and_stay_with_the_item() -> None:
    words = (Word("The ", 0.0, 0.2), Word("weather ", 0.2, 0.9), Word("in ", 0.9, 1.3), Word("Paris", 1.3, 2.0))
    async with running(Relay()) as call:
        response_id = respond(call, TEXT, sent_s=2.0, played_s=1.0, words=words)
        assert call.session.interrupt().heard == "The weather"
        item = call.session.conversation.get(response_id)
        assert item is not None
        assert item.words == words[:3]


async def test_of_what_was_not_heard_nothing_stays() -> None:
    async with running(Relay()) as call:
        response_id = respond(call, TEXT, sent_s=2.0, played_s=0.0)
        assert call.session.conversation.get(response_id) is not None
        signal = call.session.interrupt()
        assert (signal.heard, signal.heard_s) == ("", 0.0)
        assert call.session.conversation.items == ()


async def test_several_responses_are_heard_as_one() -> None:
    async with running(Relay()) as call:
        respond(call, "Certainly.", sent_s=0.5, played_s=0.5)
        respond(call, "One moment please", sent_s=2.0, played_s=1.0)
        respond(call, "never begun", sent_s=1.0, played_s=0.0)
        signal = call.session.interrupt()
        assert (signal.turn, signal.heard, signal.heard_s) == (3, "Certainly. One", 1.5)
        items = call.session.conversation.items
        assert [(item.text, item.status) for item in items] == [("Certainly.", "complete"), ("One", "interrupted")]


async def test_an_interruption_of_silence_is_one_all_the_same() -> None:
    async with running(Relay()) as call:
        assert call.session.interrupt("typed input") == Interrupted(turn=0, reason="typed input")
        assert call.session.interrupt().turn == 0


async def test_every_fence_is_called_before_anything_else() -> None:
    order: list[str] = []

    class Ear(Processor):
        @handles(Interrupted)
        def interrupted(self, signal: Interrupted) -> None:
            order.append("signal")

    async with running(Ear()) as call:
        session = call.session

        def settled_now(item: Item) -> None:
            order.append("settled")

        session.conversation.listen(settled_now)
        respond(call, TEXT, sent_s=2.0, played_s=1.0)
        order.clear()
        stop = session.on_fence(lambda: order.append(f"fence {session.floor.fence}"))
        session.on_fence(lambda: order.append("fence too"))
        session.interrupt()
        assert order == ["fence 1", "fence too", "settled", "signal"]
        stop()
        stop()
        order.clear()
        session.interrupt()
        assert order == ["fence too", "signal"]


async def test_a_fence_that_fails_does_not_keep_the_others_from_falling() -> None:
    fell: list[str] = []

    def broken() -> None:
        raise ValueError("the device is gone")

    async with running(Relay(), sink := Sink(), may_fail=True) as call:
        call.session.on_fence(broken)
        call.session.on_fence(lambda: fell.append("second"))
        respond(call, TEXT, sent_s=2.0, played_s=1.0)
        assert call.session.interrupt().heard == "The weather in"
        assert fell == ["second"]
        assert [error.processor for error in call.errors] == ["on_fence"]
        await call.answers("stale", turn=1)
    assert sink.texts == ["End"]


async def test_a_listener_of_the_conversation_that_fails_does_not_stop_the_interruption() -> None:
    def broken(item: Item) -> None:
        raise ValueError("no database")

    async with running(Relay(), may_fail=True) as call:
        call.session.conversation.listen(broken)
        respond(call, "Certainly.", sent_s=0.5, played_s=0.5)
        respond(call, TEXT, sent_s=2.0, played_s=1.0)
        assert call.session.interrupt().heard == "Certainly. The weather in"
        assert {error.processor for error in call.errors} == {"conversation listener"}


async def test_without_a_playout_what_leaves_the_pipeline_was_said() -> None:
    async with running(Relay()) as call:
        session = call.session
        for response_id, status in [("r1", "completed"), ("r2", "interrupted")]:
            session.ledger.open(response_id, session.floor.begin(), "desk")
            session.ledger.add_text(response_id, TEXT)
            await session.send(
                ResponseEnded(turn=session.floor.turn, response_id=response_id, status=status)  # type: ignore[arg-type]
            )
        assert [(item.id, item.text) for item in session.conversation] == [("r1", TEXT)]


async def test_what_is_being_said_when_the_call_ends_is_settled_before_anyone_hears_of_the_end() -> None:
    texts: list[list[str]] = []

    class Writes(Processor):
        async def close(self) -> None:
            texts.append([item.text for item in self.session.conversation])

    async with running(Writes(), ends=False) as call:
        respond(call, TEXT, sent_s=2.0, played_s=1.0)
    assert texts == [["The weather in"]]
    assert call.session.ledger.unsettled == ()


async def test_a_response_that_the_conversation_has_forgotten_harms_nothing() -> None:
    async with running(Relay()) as call:
        session = call.session
        response_id = respond(call, TEXT, sent_s=2.0, played_s=0.0)
        session.conversation.remove(response_id)
        session.ledger.played(response_id, 1.0)
        assert session.interrupt().heard == "The weather in"
        assert len(session.conversation) == 0


async def test_a_response_is_not_opened_under_an_id_that_was_heard() -> None:
    async with running(Relay()) as call:
        ledger = call.session.ledger
        respond(call, TEXT, sent_s=2.0, played_s=2.0)
        ledger.finish("resp_1")
        with pytest.raises(BadInput, match="already has an item 'resp_1'"):
            ledger.open("resp_1", 2)
        assert ledger.unsettled == ()


# -- idleness ----------------------------------------------------------------------------------------------------------


def idle_times(call: TextCall) -> list[tuple[float, str]]:
    """When the call was found idle, and whose move it was."""
    found: list[tuple[float, str]] = []
    call.session.on(Idle, lambda signal: found.append((round(call.session.now(), 6), signal.owner)))
    return found


async def test_a_silent_call_is_idle_again_and_again_and_says_whose_move_it_is() -> None:
    async with running(Relay(), idle_s=5) as call:
        found = idle_times(call)
        await anyio.sleep(11)
        turn = call.session.floor.begin()
        await anyio.sleep(6)
        call.session.floor.finish(turn)
        await anyio.sleep(6)
        assert found == [(5, "caller"), (10, "caller"), (16, "agent"), (22, "caller")]


@pytest.mark.parametrize("who", ["agent_speaking", "caller_speaking"])
async def test_nobody_is_idle_while_someone_speaks(who: str) -> None:
    async with running(Relay(), idle_s=5) as call:
        found = idle_times(call)
        floor = call.session.floor
        for speaking, seconds in [(True, 33), (False, 7)]:
            setattr(floor, who, speaking)
            floor.touched()
            await anyio.sleep(seconds)
        assert found == [(38, "caller")]


async def test_without_a_time_nobody_is_ever_idle_and_after_the_end_neither() -> None:
    async with running(Relay()) as call:
        found = idle_times(call)
        await anyio.sleep(1000)
        assert found == []
    async with running(Relay(), idle_s=5) as call:
        found = idle_times(call)
    call.session.floor.begin()
    await anyio.sleep(100)
    assert found == []


# -- usage -------------------------------------------------------------------------------------------------------------


def test_usage_adds_up_per_service_and_model() -> None:
    totals = UsageTotals()
    for usage in [
        Usage(service="llm", model="a", input_tokens=10, output_tokens=5, cached_tokens=1, turn=1, response_id="r"),
        Usage(service="llm", model="a", input_tokens=1, output_tokens=2),
        Usage(service="llm", model="b", input_tokens=100),
        Usage(service="tts", characters=30, output_audio_s=1.5),
        Usage(service="tts", characters=12, output_audio_s=0.25, input_audio_s=2.0),
    ]:
        totals.add(usage)
    assert totals.by_service == {
        ("llm", "a"): Usage(service="llm", model="a", input_tokens=11, output_tokens=7, cached_tokens=1),
        ("llm", "b"): Usage(service="llm", model="b", input_tokens=100),
        ("tts", ""): Usage(service="tts", characters=42, output_audio_s=1.75, input_audio_s=2.0),
    }


# -- from the pipeline -------------------------------------------------------------------------------------------------


async def test_a_processor_may_interrupt_in_the_middle_of_what_it_handles() -> None:
    class Cuts(Processor):
        @handles(BotText)
        async def take(self, frame: BotText) -> None:
            if frame.text == "stop":
                self.session.interrupt()
            await self.push(frame)

    errors: list[Any] = []
    session = Session(Pipeline([Cuts(), sink := Sink()]))
    session.on(ErrorRaised, errors.append)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await settled()
        session.floor.begin()
        for text in ("go", "stop", "more"):
            await session.send(BotText(text=text, turn=1))
        session.floor.begin()
        await session.send(BotText(text="again", turn=2))
        await session.end()
    assert sink.texts == ["go", "again", "End"]
    assert errors == []
