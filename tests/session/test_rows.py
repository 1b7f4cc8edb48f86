from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import anyio.lowlevel
import pytest

from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import BotStoppedSpeaking, Transcribed
from duologue.processors.kernel.tasks import wall_time
from duologue.processors.tools import Tools
from duologue.session import Session
from duologue.session.feed import TooSlow
from duologue.session.rows import Removed, Row, RowEvent, Rows
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport
from tests.services.story import asks, story
from tests.session.calls import running


def heard(session: Session, **options: Any) -> list[RowEvent]:
    """All rows from now on."""
    events: list[RowEvent] = []
    Rows(session, **options).listen(events.append)
    return events


def brief(events: list[RowEvent]) -> list[str]:
    return [f"{e.id} {e.message}{'.' if e.final else ''}" if isinstance(e, Row) else f"{e.id} --" for e in events]


def ears() -> MockSTT:
    return MockSTT(["can I ask"], interim_s=0.15)


async def test_the_callers_row_is_rewritten_under_one_id_until_it_is_final() -> None:
    async with story(stt=ears(), llm=MockLLM(["Yes."])) as call:
        events = heard(call.session)
        await call.says(0.5)
        await call.waits_until(1.0)
    mine = [e for e in events if isinstance(e, Row) and e.role == "caller"]
    assert [row.message for row in mine] == ["can", "can I", "can I ask", "can I ask"]
    assert len({row.id for row in mine}) == 1
    assert [row.final for row in mine] == [False, False, False, True]
    assert {row.timestamp for row in mine} == {0.0}
    assert mine[-1].metadata == {"turn": 1, "status": "complete"}
    assert mine[0].metadata == {"turn": 1, "status": "in_progress"}


async def test_the_agents_row_tells_what_is_generated_and_how_much_of_it_is_heard() -> None:
    transport = MemoryTransport()
    llm = MockLLM(["One two three four."], token_s=0.05)
    async with story(transport.output(), llm=llm, tts=MockTTS(seconds_per_sentence=1.0)) as call:
        events = heard(call.session)
        await call.types("Count.")
        await call.waits_until(3.0)
    mine = [e for e in events if isinstance(e, Row) and e.role == "agent"]
    assert len({row.id for row in mine}) == 1
    counts = [row.metadata["heard"] for row in mine]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert any(0 < count < len("One two three four.") for count in counts)
    assert len(mine) < 15  # about ten per second
    assert (mine[-1].message, mine[-1].final, mine[-1].metadata["status"]) == ("One two three four.", True, "complete")
    assert counts[-1] == len(mine[-1].message)
    assert not any(row.final for row in mine[:-1])


async def test_what_was_not_heard_is_gone_in_the_end() -> None:
    transport = MemoryTransport()
    async with story(transport.output(), llm=MockLLM(["One two three four five six."])) as call:
        events = heard(call.session)
        await call.types("Count.")
        await call.waits_until(0.7)
        call.session.interrupt()
        last = events[-1]
        assert isinstance(last, Row)
        assert last.final
        assert last.metadata["status"] == "interrupted"
        assert "One two three four five six.".startswith(last.message)
        assert len(last.message) < 20


async def test_a_message_of_which_nothing_was_heard_is_taken_back() -> None:
    transport = MemoryTransport()
    async with story(transport.output(), llm=MockLLM(["Never heard."]), tts=MockTTS(first_audio_s=2.0)) as call:
        events = heard(call.session)
        await call.types("Say it.")
        await call.waits_until(0.5)
        shown = events[-1]
        assert isinstance(shown, Row)
        assert shown.message == "Never heard."
        call.session.interrupt()
        await call.waits_until(0.7)
        assert events[-1] == Removed(id=shown.id)


async def test_speech_that_was_not_understood_is_taken_back() -> None:
    async with running() as call:
        events = heard(call.session)
        call.session.broadcast(Transcribed(text="erm", final=False, start_s=1.0, utterance="speech_1"))
        call.session.broadcast(Transcribed(text="", start_s=1.0, end_s=1.5, utterance="speech_1"))
        assert brief(events) == ["speech_1 erm", "speech_1 --"]


async def test_interim_words_that_nobody_logs_are_taken_back_at_the_end() -> None:
    async with running() as call:
        events = heard(call.session)
        call.session.broadcast(Transcribed(text="hel", final=False, start_s=1.0, utterance="speech_1"))
    assert brief(events) == ["speech_1 hel", "speech_1 --"]


async def test_interims_of_many_speeches_are_bounded() -> None:
    async with running() as call:
        events = heard(call.session)
        for number in range(100):
            call.session.broadcast(Transcribed(text="hm", final=False, utterance=str(number)))
        assert sum(isinstance(event, Removed) for event in events) == 36


async def test_a_native_engines_place_in_the_log_and_its_interim_words_are_one_row() -> None:
    async with running() as call:
        session = call.session
        events = heard(session)
        session.broadcast(Transcribed(text="good", final=False, start_s=0.5, utterance="speech_1"))
        item = session.conversation.add("message", "caller", id="speech_1", turn=1, at=0.5, status="in_progress")
        session.broadcast(Transcribed(text="good morning", final=False, start_s=0.5, utterance="speech_1"))
        session.conversation.update(item.id, text="Good morning.", status="complete")
        place = session.conversation.add("message", "caller", id="item_2", turn=2, at=2.5, status="in_progress")
        session.broadcast(Transcribed(text="bye", final=False, start_s=2.5, utterance="item_2"))
        session.conversation.update(place.id, text="Bye.", status="complete")
    assert brief(events) == [
        *("speech_1 good", "speech_1 good morning", "speech_1 Good morning.."),
        *("item_2 bye", "item_2 Bye.."),
    ]


async def test_calls_and_results_notes_and_authors_are_rows() -> None:
    def weather(city: str) -> dict[str, int]:
        return {"degrees": 21}

    llm = MockLLM([[asks("weather", city="Paris")], "21 degrees."])
    async with story(Tools([Tool(weather)]), llm=llm) as call:
        events = heard(call.session)
        await call.types("Be quick.", author="supervisor", respond=False)
        await call.types("How warm is it?")
        await call.waits_until(3.0)
    rows = {(e.type, e.role): e for e in events if isinstance(e, Row) and e.final}
    assert rows["tool_call", "agent"].metadata["data"] == {"city": "Paris"}
    assert rows["tool_call", "agent"].metadata["name"] == "weather"
    assert rows["tool_result", "tool"].metadata["data"] == {"degrees": 21}
    assert rows["tool_result", "tool"].metadata["call_id"] == rows["tool_call", "agent"].metadata["call_id"] == "c1"
    first = events[0]
    assert isinstance(first, Row)
    assert (first.message, first.metadata["author"]) == ("Be quick.", "supervisor")


async def test_what_exists_already_comes_first() -> None:
    async with story(stt=ears(), llm=MockLLM(["Yes."])) as call:
        await call.types("Hello.", respond=False)
        await call.says(0.5)
        await call.waits_until(3.0)
        call.session.broadcast(Transcribed(text="and", final=False, utterance="u"))
        Rows(call.session)
        call.session.broadcast(Transcribed(text="and so", final=False, utterance="u"))
        late = heard(call.session)
        assert [event.message for event in late if isinstance(event, Row)] == ["Hello.", "can I ask", "Yes.", "and so"]


async def test_coalesce_gives_final_rows_alone() -> None:
    async with story(stt=ears(), llm=MockLLM(["Yes. Please do."])) as call:
        events = heard(call.session, mode="coalesce")
        await call.says(0.5)
        await call.waits_until(4.0)
    assert [(e.message, e.final) for e in events if isinstance(e, Row)] == [
        ("can I ask", True),
        ("Yes. Please do.", True),
    ]


async def test_append_gives_what_is_new_and_it_joins_to_the_message() -> None:
    transport = MemoryTransport()
    async with story(transport.output(), stt=ears(), llm=MockLLM(["One two three four."])) as call:
        events = heard(call.session, mode="append")
        await call.says(0.5)
        await call.waits_until(4.0)
    rows = [e for e in events if isinstance(e, Row)]
    assert [row.message for row in rows if row.role == "caller"] == ["can", " I", " ask", ""]
    agents = [row.message for row in rows if row.role == "agent"]
    assert len(agents) > 2
    assert "".join(agents) == "One two three four."
    assert [row.final for row in rows if row.role == "agent"].count(True) == 1


async def test_append_begins_anew_if_the_final_words_are_others() -> None:
    async with running() as call:
        events = heard(call.session, mode="append")
        for text in ("eight", "eight twenty", "ate", "ate twelve"):
            call.session.broadcast(Transcribed(text=text, final=False, utterance="u"))
        call.session.conversation.add("message", "caller", id="u", turn=1, text="I ate twelve.")
    rows = [(e.message, e.metadata.get("restart", False)) for e in events if isinstance(e, Row)]
    assert rows == [("eight", False), (" twenty", False), ("I ate twelve.", True)]


async def test_a_listener_can_stop_and_one_that_fails_harms_nobody() -> None:
    async with running(may_fail=True) as call:
        rows, first, second = Rows(call.session), list[RowEvent](), list[RowEvent]()

        def fail(event: RowEvent) -> None:
            raise RuntimeError("full disk")

        rows.listen(fail)
        stop = rows.listen(first.append)
        rows.listen(second.append)
        call.session.conversation.add("note", "system", text="a")
        stop()
        stop()
        call.session.conversation.add("note", "system", text="b")
        assert [len(first), len(second)] == [1, 2]
        assert [error.message for error in call.errors] == ["full disk", "full disk"]


async def test_reading_ends_with_the_session_and_has_all_of_it() -> None:
    seen: list[RowEvent] = []

    async def read(rows: Rows) -> None:
        seen.extend([event async for event in rows])

    async with story(llm=MockLLM(["Yes."])) as call:
        reader = asyncio.create_task(read(Rows(call.session)))
        await call.types("Hello.")
        await call.waits_until(3.0)
    await reader
    assert [event.message for event in seen if isinstance(event, Row) and event.final] == ["Hello.", "Yes."]
    again = [event.message async for event in Rows(call.session) if isinstance(event, Row)]
    assert again == ["Hello.", "Yes."]


async def test_a_slow_reader_gets_merged_rows_and_no_final_one_is_lost() -> None:
    async with running() as call:
        reader = aiter(Rows(call.session, capacity=4))
        first = asyncio.ensure_future(anext(reader))
        await anyio.lowlevel.checkpoint()
        conversation, broadcast = call.session.conversation, call.session.broadcast
        for speech in range(6):
            for word in range(5):
                broadcast(Transcribed(text=f"{speech} {word}", final=False, utterance=str(speech)))
        for speech in range(4):
            conversation.add("message", "caller", id=str(speech), turn=1, text=f"final {speech}")
        got = [await first]
        got += [await anext(reader) for _ in range(3)]
        await reader.aclose()
        finals = {event.message for event in got if isinstance(event, Row) and event.final}
        assert finals == {f"final {speech}" for speech in range(4)}


async def test_a_reader_that_is_far_too_slow_is_told_so() -> None:
    async with running() as call:
        call.session.conversation.add("note", "system", text="before")
        reader = aiter(Rows(call.session, capacity=3))
        assert isinstance(await anext(reader), Row)
        for number in range(10):
            call.session.conversation.add("note", "system", text=f"{number}")
        with pytest.raises(TooSlow, match="4 rows wait"):
            await anext(reader)


async def test_append_is_joined_while_it_waits() -> None:
    async with running() as call:
        reader = aiter(Rows(call.session, "append"))
        first = asyncio.ensure_future(anext(reader))
        await anyio.lowlevel.checkpoint()
        for text in ("a", "a b", "a b c"):
            call.session.broadcast(Transcribed(text=text, final=False, utterance="u"))
        row = await first
        assert isinstance(row, Row)
        assert row.message == "a b c"
        await reader.aclose()


async def test_the_call_ends_though_nobody_listens_any_more() -> None:
    async with story(llm=MockLLM(["A long answer."])) as call:
        stop = Rows(call.session).listen(lambda event: None)
        await call.types("Go.")
        await call.waits_until(0.3)
        stop()
        await call.waits_until(2.0)
    assert call.errors == []


async def test_wrong_settings_are_refused() -> None:
    async with running() as call:
        with pytest.raises(ConfigurationError, match="'all'"):
            Rows(call.session, "all")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="0 rows"):
            Rows(call.session, capacity=0)


async def test_without_listeners_nothing_is_timed() -> None:
    stopped = asyncio.Event()
    transport = MemoryTransport()
    async with story(transport.output(), llm=MockLLM(["Yes."])) as call:
        call.session.on(BotStoppedSpeaking, lambda _: stopped.set())
        rows = Rows(call.session)
        await call.types("Hello.")
        await stopped.wait()
        assert [row.message for row in _now(rows)] == ["Hello.", "Yes."]


def _now(rows: Rows) -> list[Row]:
    found: list[RowEvent] = []
    rows.listen(found.append)()
    return [event for event in found if isinstance(event, Row)]


async def test_rows_have_the_time_of_day_and_the_id_of_their_call() -> None:
    before = wall_time()
    async with story(stt=ears(), llm=MockLLM(["Yes."])) as call:
        session = call.session
        session.conversation.add("message", "caller", text="before the call", turn=0)
        events = heard(session)
        await call.waits_until(2.0)
        await call.types("Are you there?")
        await call.waits_until(4.0)
    rows = [event for event in events if isinstance(event, Row)]
    assert session.started_at is not None
    assert before <= session.started_at <= wall_time()
    for row in rows:
        offset = datetime.fromisoformat(row.time) - session.started_at
        assert offset.total_seconds() == pytest.approx(row.timestamp, abs=0.002)
        assert row.session_id == session.id
    assert {row.timestamp for row in rows} >= {0.0, 2.0}
    kept = session.conversation.rows()
    latest = {row.id: row.time for row in rows}
    assert {row["id"]: row["time"] for row in kept} == {row["id"]: latest[row["id"]] for row in kept}
