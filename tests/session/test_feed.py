"""The call as a stream of events: what watchers get, and that it costs and harms nothing."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import msgspec
import pytest

from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import (
    AccessChanged,
    ApprovalGiven,
    AudioLevel,
    BotAudio,
    ConnectionChanged,
    HandoffFailed,
    Interrupted,
    Transcribed,
    Usage,
    Word,
)
from duologue.processors.tools import Tools
from duologue.session import Session
from duologue.session.call_events import (
    CallBegan,
    CallEnding,
    CallEvent,
    FeedEvent,
    Level,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseReached,
    ResponseText,
    Speaking,
    SpeechCut,
    SpeechHeld,
    ToolChanged,
    TurnOver,
    TurnTimed,
    UsageReported,
)
from duologue.session.feed import TooSlow
from duologue.session.latency import LatencyMeter
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport
from tests.services.story import asks, story
from tests.session.calls import running


def watched(session: Session, *kinds: type[CallEvent]) -> list[FeedEvent]:
    """All events from now on."""
    events: list[FeedEvent] = []
    session.feed.on(events.append, *kinds)
    return events


def brief(events: list[FeedEvent]) -> list[str]:
    """Their tags, each once where it is repeated."""
    tags = [type(event).__struct_config__.tag for event in events]
    return [str(tag) for place, tag in enumerate(tags) if not place or tags[place - 1] != tag]


async def test_an_answer_is_told_from_its_first_word_to_its_last() -> None:
    transport = MemoryTransport()
    llm = MockLLM(["One two three four."], token_s=0.05)
    async with story(transport.output(), llm=llm, tts=MockTTS(seconds_per_sentence=1.0)) as call:
        events = watched(call.session)
        await call.types("Count.")
        await call.waits_until(3.0)
    texts = [event.text for event in events if isinstance(event, ResponseText)]
    assert "".join(texts) == "One two three four."
    kinds = (MessageChanged, ResponseOpened, ResponseComplete, Speaking)
    order = brief([e for e in events if isinstance(e, kinds) and not (isinstance(e, MessageChanged) and e.final)])
    assert order[:3] == ["response_opened", "message_changed", "speaking"]
    said = [event for event in events if isinstance(event, MessageChanged) and event.item.role == "agent"]
    assert [event.heard_chars for event in said] == sorted(event.heard_chars for event in said)
    assert {event.text for event in said[-3:]} == {"One two three four."}
    assert [event.final for event in said] == [False] * (len(said) - 1) + [True]
    assert said[-1].heard_s == pytest.approx(1.0, abs=0.05)
    assert len(said) < 16  # about ten a second


async def test_markup_counts_among_the_characters_that_are_heard() -> None:
    async with running() as call:
        ledger = call.session.ledger
        events = watched(call.session, MessageChanged)
        ledger.open("r", 1)
        ledger.add_text("r", "**Yes**, of course.")
        words = ("Yes, ", "of ", "course.")
        ledger.add_words("r", tuple(Word(text, 0.5 * n, 0.5 * n + 0.5) for n, text in enumerate(words)))
        ledger.sent("r", 1.5)
        await anyio.sleep(0.2)
        ledger.played("r", 0.6)
        last = events[-1]
        assert isinstance(last, MessageChanged)
        assert last.text[: last.heard_chars] in ("**Yes**,", "**Yes**, ")


async def test_words_and_their_message_have_one_id_whatever_their_times() -> None:
    """Interim words were joined to the log by the equality of two times."""
    async with running() as call:
        session = call.session
        events = watched(session, MessageChanged, MessageGone)
        session.broadcast(Transcribed(text="good", final=False, start_s=0.1 + 0.2, utterance="u1"))
        session.broadcast(Transcribed(text="bye", final=False, start_s=0.3, utterance="u2"))
        session.conversation.add("message", "caller", id="u2", turn=1, at=0.3, text="Bye.")
        session.conversation.add("message", "caller", id="u1", turn=1, at=0.3, text="Good morning.")
    told = [(event.item.id, event.text, event.final) for event in events if isinstance(event, MessageChanged)]
    assert told == [("u1", "good", False), ("u2", "bye", False), ("u2", "Bye.", True), ("u1", "Good morning.", True)]
    assert not any(isinstance(event, MessageGone) for event in events)


async def test_a_recognised_utterance_keeps_its_id_in_the_log() -> None:
    async with story(stt=MockSTT(["can I ask"], interim_s=0.15), llm=MockLLM(["Yes."])) as call:
        events = watched(call.session, Recognised, MessageChanged)
        await call.says(0.5)
        await call.waits_until(1.0)
        item = next(item for item in call.session.conversation if item.role == "caller")
    assert {event.utterance for event in events if isinstance(event, Recognised)} == {item.id}
    assert {event.item.id for event in events if isinstance(event, MessageChanged) and event.item.role == "caller"} == {
        item.id
    }


async def test_words_without_an_id_are_taken_back_for_the_message() -> None:
    async with running() as call:
        events = watched(call.session, MessageChanged, MessageGone)
        call.session.broadcast(Transcribed(text="he", final=False))
        call.session.broadcast(Transcribed(text="hello"))
        call.session.conversation.add("message", "caller", text="hello")
    assert brief(events) == ["message_changed", "message_gone", "message_changed"]


async def test_a_tools_call_is_told_in_each_of_its_states() -> None:
    def weather(city: str) -> dict[str, int]:
        return {"degrees": 21}

    llm = MockLLM([[asks("weather", city="Paris")], "21 degrees."])
    async with story(Tools([Tool(weather, needs_approval=True)]), llm=llm) as call:
        events = watched(call.session, ToolChanged)
        await call.types("How warm is it?")
        await call.waits_until(1.0)
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True, by="Ann"))
        await call.waits_until(3.0)
    states = [(e.state, e.call_id, e.name, e.by) for e in events if isinstance(e, ToolChanged)]
    assert states == [
        ("called", "c1", "weather", ""),
        ("waiting", "c1", "weather", ""),
        ("approved", "c1", "", "Ann"),
        ("answered", "c1", "weather", ""),
    ]
    first, last = events[0], events[-1]
    assert isinstance(first, ToolChanged)
    assert isinstance(last, ToolChanged)
    assert (first.arguments, last.result) == ({"city": "Paris"}, {"degrees": 21})


async def test_a_hold_of_the_speech_names_its_owners() -> None:
    transport = MemoryTransport()
    async with story(transport.output(), llm=MockLLM(["One two three four."]), tts=MockTTS()) as call:
        events = watched(call.session, SpeechHeld)
        floor = call.session.floor
        holds = [floor.hold(owner, patience_s=None) for owner in ("slow client", "caller")]
        for hold in holds:
            hold.release()
    assert [(event.held, event.owners) for event in events if isinstance(event, SpeechHeld)] == [
        (True, ("slow client",)),
        (False, ("slow client", "caller")),
    ]


async def test_nothing_is_followed_before_somebody_watches() -> None:
    transport = MemoryTransport()
    async with running(transport.input()) as call:
        session = call.session
        assert session.ledger.watcher is None
        watched(session)
        assert session.ledger.watcher is not None
        assert session.host.tap is None


async def test_levels_and_times_are_measured_only_while_somebody_asks_for_them() -> None:
    async with running() as call:
        everything = watched(call.session)
        levels: list[FeedEvent] = []
        stop = call.session.feed.on(levels.append, Level)
        call.session.broadcast(AudioLevel(who="agent", dbfs=-20.0))
        stop()
        call.session.broadcast(AudioLevel(who="agent", dbfs=-30.0))
        assert [(event.who, event.dbfs) for event in levels if isinstance(event, Level)] == [("agent", -20.0)]
        assert not any(isinstance(event, Level) for event in everything)


async def test_a_turn_is_told_and_timed_without_observing_every_push() -> None:
    transport = MemoryTransport()
    async with story(transport.output(), stt=MockSTT(["yes"]), llm=MockLLM(["Yes."]), tts=MockTTS()) as call:
        everything = watched(call.session)
        timed = watched(call.session, TurnTimed)
        assert call.session.host.tap is None
        await call.says(0.5)
        await call.waits_until(4.0)
    (ended,) = [event for event in everything if isinstance(event, TurnOver)]
    points = [event.point for event in everything if isinstance(event, ResponseReached)]
    assert points == ["asked", "text", "written", "audio"]
    assert not any(isinstance(event, TurnTimed) for event in everything)
    (turn,) = timed
    assert isinstance(turn, TurnTimed)
    assert turn.at == pytest.approx(ended.speech_end_s + turn.total_ms / 1000)
    (again,) = LatencyMeter.of(everything)
    assert again.stages_ms == turn.stages_ms


async def test_a_watcher_that_fails_harms_nobody() -> None:
    async with running(may_fail=True) as call:

        def fail(event: FeedEvent) -> None:
            raise RuntimeError("full disk")

        call.session.feed.on(fail, Noted)
        events = watched(call.session, Noted)
        call.session.conversation.add("note", "system", text="a")
        assert len(events) == 1
        assert [error.message for error in call.errors] == ["full disk"]


async def test_a_watcher_that_fails_at_everything_does_not_get_its_own_errors() -> None:
    async with running(may_fail=True) as call:
        seen: list[FeedEvent] = []

        def fail(event: FeedEvent) -> None:
            seen.append(event)
            raise RuntimeError("full disk")

        call.session.feed.on(fail)
        call.session.conversation.add("note", "system", text="a")
        assert brief(seen) == ["noted", "failed"]
        assert [error.message for error in call.errors] == ["full disk"]


async def test_a_type_that_is_not_an_events_is_refused() -> None:
    async with running() as call:
        with pytest.raises(ConfigurationError, match="BotAudio"):
            call.session.feed.on(lambda event: None, BotAudio)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="0 events"):
            await anext(call.session.feed.watch(capacity=0))


async def test_watching_gives_the_log_so_far_and_ends_with_the_call() -> None:
    seen: list[FeedEvent] = []
    async with running() as call:
        call.session.conversation.add("note", "system", text="before")

        async def read() -> None:
            seen.extend([event async for event in call.session.feed.watch()])

        reader = asyncio.create_task(read())
        await anyio.lowlevel.checkpoint()
        call.session.broadcast(AccessChanged(access="muted", by="Ann"))
    await reader
    assert brief(seen) == ["noted", "access_switched", "state_moved", "call_ending"]


async def test_what_waits_for_a_slow_watcher_is_merged_and_nothing_final_is_lost() -> None:
    async with running() as call:
        session = call.session
        reader = session.feed.watch(MessageChanged, ResponseText, capacity=3)
        first = asyncio.ensure_future(anext(reader))
        await anyio.lowlevel.checkpoint()
        for utterance in range(6):
            for words in ("a", "a b", "a b c"):
                session.broadcast(Transcribed(text=words, final=False, utterance=str(utterance)))
        for utterance in range(3):
            session.conversation.add("message", "caller", id=str(utterance), turn=1, text=f"final {utterance}")
        got = [await first, await anext(reader), await anext(reader)]
        await reader.aclose()
    assert [event.text for event in got if isinstance(event, MessageChanged)] == ["final 0", "final 1", "final 2"]


async def test_pieces_of_text_that_wait_are_joined() -> None:
    async with running() as call:
        reader = call.session.feed.watch(ResponseText)
        first = asyncio.ensure_future(anext(reader))
        await anyio.lowlevel.checkpoint()
        call.session.ledger.open("r", 1)
        for piece in ("Hel", "lo ", "you."):
            call.session.ledger.add_text("r", piece)
        event = await first
        await reader.aclose()
    assert isinstance(event, ResponseText)
    assert event.text == "Hello you."


async def test_a_watcher_that_is_far_too_slow_is_told_so() -> None:
    async with running() as call:
        reader = call.session.feed.watch(capacity=2)
        first = asyncio.ensure_future(anext(reader))
        await anyio.lowlevel.checkpoint()
        for number in range(5):
            call.session.conversation.add("note", "system", text=f"{number}")
        with pytest.raises(TooSlow, match="2 events wait"):
            await first


async def test_a_message_that_turns_out_not_to_be_heard_is_taken_back() -> None:
    async with running() as call:
        events = watched(call.session, MessageChanged, MessageGone)
        call.session.conversation.add("message", "agent", id="m", text="All of it.", heard_s=1.0)
        call.session.conversation.shorten("m", 0.0)
    assert brief(events) == ["message_changed", "message_gone"]


async def test_every_event_is_json_and_back() -> None:
    async with running(may_fail=True) as call:
        session = call.session
        events = watched(session)
        session.broadcast(Usage(service="x", model="m", input_tokens=3))
        session.broadcast(ConnectionChanged(engine="x", state="active"))
        session.broadcast(HandoffFailed(source="a", target="b", error="no"))
        session.broadcast(Interrupted(turn=1, heard="He", heard_s=0.2))
        session.report(RuntimeError("no"), "Test")
        session.conversation.add("note", "system", text="a")
        session.broadcast(Transcribed(text="hm", final=False, utterance="u"))
    assert {CallEnding, MessageGone, UsageReported, SpeechCut} <= {type(event) for event in events}
    assert CallBegan not in {type(event) for event in events}
    for event in events:
        assert msgspec.json.decode(msgspec.json.encode(event), type=FeedEvent) == event
