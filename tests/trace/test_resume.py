"""A call goes on from its trace: what was said, who has it, what it cost, and what the caller still waits for."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from duologue import Agent, Cascade, Handoff, Tools
from duologue.agents.tool import Tool
from duologue.errors import BadInput, ConfigurationError
from duologue.frames import CallResumed, ToolBegan
from duologue.processors.kernel.host import Deadlines
from duologue.session.call_events import TakenUp
from duologue.session.life import Outcome
from duologue.session.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.trace import BadTrace, CallTaken, FolderStore, Resume, Trace, read, sqlite, state_of, verify
from duologue.transports.memory import MemoryTransport
from tests.services.story import Story, asked, asks, story
from tests.trace.servers import redis_server


def call(trace: Trace, answers: list[Any], *tools: Any, resume: Resume | None = None, **options: Any) -> Story:
    """A call with a model that gives these answers."""
    rest = (MemoryTransport().output(), Tools([Tool(tool) for tool in tools]))
    llm, tts = MockLLM(answers), MockTTS(seconds_per_sentence=1.0)
    made = story(*rest, llm=llm, tts=tts, trace=trace, resume=resume, **options)
    made.llm = llm  # type: ignore[attr-defined]
    return made


def killed(folder: Path, name: str, *, lines: int | None = None, last: str = "") -> None:
    """Make the trace that of a process which was killed: it ends after so many lines, or after a record with a text."""
    path = folder / f"{name}.jsonl"
    written = path.read_bytes().splitlines(keepends=True)
    if last:
        lines = 1 + max(n for n, line in enumerate(written) if last.encode() in line)
    path.write_bytes(b"".join(written[:lines]))


def first_request(resumed: Story) -> list[str]:
    """The messages of the first request to the model."""
    return asked(resumed.llm.requests[0])  # type: ignore[attr-defined]


async def test_a_call_goes_on_tomorrow(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["We open at ten."], id="monday") as monday:
        await monday.types("When do you open?")
        await monday.settles()
    async with call(second := Trace(tmp_path), ["At six."], resume=Resume(first.call)) as tuesday:
        resumed = tuesday.session.resumed
        assert resumed is not None
        assert (resumed.call, resumed.session_id, resumed.how, resumed.items) == (first.call, "monday", "replay", 2)
        await tuesday.settles()
        assert tuesday.log == monday.log  # nobody is waiting for an answer
        await tuesday.types("And close?")
        await tuesday.settles()
    assert first_request(tuesday) == ["user: When do you open?", "assistant: We open at ten.", "user: And close?"]
    (said,) = tuesday.came(CallResumed)
    assert (said.call, said.how, said.why, said.items) == (first.call, "replay", "", 2)
    records = list(read(tmp_path / f"{second.call}.jsonl"))
    assert records[0].facts["resumes"]["call"] == first.call
    (told,) = [r.facts for r in records if r.kind == "event" and r.facts["event"] == "taken_up"]
    assert (told["call"], told["how"]) == (first.call, "replay")
    assert verify(second.store, second.call).ok
    # The new trace has the whole call, and goes on in its turn.
    assert [i.text for i in state_of(read(second.store, second.call)).log] == [
        "When do you open?", "We open at ten.", "And close?", "At six.",
    ]  # fmt: skip


async def test_times_stay_those_of_the_wall_clock(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["Yes."]) as monday:
        await monday.types("Hello?")
        await monday.settles()
    await anyio.sleep(100)
    async with call(Trace(tmp_path), [], resume=Resume(first.call)) as tuesday:
        pass
    before, after = ([row["time"] for row in c.session.conversation.rows()] for c in (monday, tuesday))
    assert before == after[:2]
    assert all(item.at < -90 for item in tuesday.session.conversation.items[:2])


async def test_unanswered_words_are_answered(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["It is long."], ends=False) as before:
        await before.types("How long is it?")
        await first.flush()
    killed(tmp_path, first.call, last='"How long is it?"')
    async with call(Trace(tmp_path), ["It is long."], resume=Resume(first.call)) as after:
        await after.settles()
    assert after.said_by_caller == ["How long is it?"]
    assert after.said_by_agent == ["It is long."]
    assert first_request(after) == ["user: How long is it?"]


async def test_an_answer_that_was_cut_by_the_kill_is_given_again(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["It is very long. It is."], ends=False) as before:
        await before.types("How long is it?")
        await anyio.sleep(1.2)
        await first.flush()
    killed(tmp_path, first.call, last='"in_progress"')
    async with call(Trace(tmp_path), ["Very long."], resume=Resume(first.call)) as after:
        await after.settles()
    assert after.said_by_agent == ["Very long."]


# -- tools -----------------------------------------------------------------------------------------------------------


async def test_a_tool_that_had_begun_is_not_run_again(tmp_path: Path) -> None:
    ran: list[str] = []

    async def order(what: str) -> str:
        """Order something."""
        ran.append(what)
        await anyio.sleep(5)
        return "ordered"

    answers = [asks("order", what="tea"), "Your tea comes."]
    async with call(first := Trace(tmp_path), answers, order, ends=False) as before:
        await before.types("Tea, please.")
        await before.until(lambda: before.came(ToolBegan), "it begins")
        await anyio.sleep(1)
        await first.flush()
    killed(tmp_path, first.call, last='"tool_started"')
    async with call(
        Trace(tmp_path), ["I do not know whether it was ordered."], order, resume=Resume(first.call)
    ) as after:
        await after.settles()
        assert not after.session.calls.open()
    assert ran == ["tea"]
    assert "it had begun" in first_request(after)[-1]
    assert after.said_by_agent == ["I do not know whether it was ordered."]


async def test_a_tool_begins_once_that_is_in_the_trace(tmp_path: Path) -> None:
    seen: list[str] = []

    async def order() -> str:
        """Order."""
        seen.extend(r.facts["event"] for r in read(first.store, first.call) if r.kind == "event")
        return "ordered"

    async with call(first := Trace(tmp_path), [asks("order"), "Yes."], order) as before:
        await before.types("Tea, please.")
        await before.settles()
    assert "tool_started" in seen


async def test_a_recorded_result_is_told(tmp_path: Path) -> None:
    def order() -> str:
        """Order."""
        return "number 7"

    async with call(first := Trace(tmp_path), [asks("order"), "It has number 7."], order, ends=False) as before:
        await before.types("Tea, please.")
        await before.settles()
    killed(tmp_path, first.call, last='"tool_result"')
    async with call(Trace(tmp_path), ["Number 7."], resume=Resume(first.call)) as after:
        await after.settles()
    assert [line for line in first_request(after) if "number 7" in line] != []
    assert after.said_by_agent == ["Number 7."]


# -- the agent, the cost, the data -------------------------------------------------------------------------------------


def desk(trace: Trace, resume: Resume | None = None, answers: list[Any] | None = None) -> Story:
    agents = [
        Agent(name="Desk", instructions="You answer.", greeting="Welcome!"),
        Agent(name="Sales", instructions="You sell."),
    ]
    engine = Cascade(MockSTT([]), llm := MockLLM(answers or []), MockTTS(seconds_per_sentence=1.0))
    made = story(Handoff(agents), MemoryTransport().output(), engine=engine, trace=trace, resume=resume)
    made.llm = llm  # type: ignore[attr-defined]
    return made


async def test_the_agent_that_had_the_call_has_it_again(tmp_path: Path) -> None:
    moves = asks("handoff_conversation", target="Sales", reason="they buy", summary="Wants tea.")
    async with desk(first := Trace(tmp_path), answers=[moves, "Tea it is."]) as before:
        await before.types("Tea, please.")
        await before.settles()
    assert before.session.agent is not None
    assert before.session.agent.name == "Sales"
    async with desk(second := Trace(tmp_path), Resume(first.call), ["Two teas."]) as after:
        handoff = next(n for n in after.session.pipeline.children if isinstance(n, Handoff))  # type: ignore[attr-defined]
        assert handoff.agent.name == "Sales"
        assert (handoff.state.previous_agent, handoff.state.handoffs) == ("Desk", 1)
        await after.types("Two, please.")
        await after.settles()
    request = after.llm.requests[0]  # type: ignore[attr-defined]
    assert "You sell." in request.instructions
    assert "Welcome!" not in after.said_by_agent[1:]  # nobody is greeted twice
    assert after.said_by_agent[-1] == "Two teas."
    async with desk(Trace(tmp_path), Resume(second.call)) as third:
        assert third.session.agent is not None
        assert third.session.agent.name == "Sales"


async def test_consumption_and_cost_are_carried(tmp_path: Path) -> None:
    prices = {"mock": {"text_input": 1_000.0, "text_output": 1_000.0}}
    costs = []
    name = ""
    for _ in range(3):
        resume = Resume(name) if name else None
        trace = Trace(tmp_path)
        async with call(trace, ["A long answer with many words."], resume=resume, prices=prices) as one:
            await one.types("Hello?")
            await one.settles()
        name = trace.call
        costs.append(one.session.cost.usd)
        assert one.outcome.cost.usd == pytest.approx(costs[-1])
    assert 0 < costs[0] < costs[1] < costs[2]
    async with call(Trace(tmp_path), [], resume=Resume(name), prices=prices) as last:
        assert last.session.cost.usd == pytest.approx(costs[2])
        assert list(last.session.usage) == list(one.session.usage)


async def test_a_budget_that_the_earlier_call_has_used_up_ends_the_call(tmp_path: Path) -> None:
    prices = {"mock": {"text_input": 1_000.0, "text_output": 1_000.0}}
    async with call(first := Trace(tmp_path), ["A long answer."], prices=prices) as one:
        await one.types("Hello?")
        await one.settles()
    resumed = call(Trace(tmp_path), [], resume=Resume(first.call), prices=prices, budget_usd=1e-6, may_fail=True)
    async with resumed:
        pass
    assert resumed.outcome.reason == "budget"


async def test_the_sessions_data_goes_on(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["Yes."], data={"name": "Ann"}) as before:
        before.session.data["orders"] = [7]
        await before.types("Hello?")
        await before.settles()
    async with call(Trace(tmp_path), [], resume=Resume(first.call), data={"name": "?", "page": 2}) as after:
        assert after.session.data == {"name": "Ann", "orders": [7], "page": 2}
    assert [r.private for r in read(first.store, first.call) if r.kind == "data"] == [{"name": "Ann", "orders": [7]}]


async def test_data_of_another_shape_is_an_error_and_the_call_goes_on(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), [], data={"name": "Ann"}):
        pass
    async with call(Trace(tmp_path), [], resume=Resume(first.call), data=[], may_fail=True) as after:
        pass
    assert ["the session's data cannot be restored" in error.message for error in after.errors] == [True]


# -- which call ------------------------------------------------------------------------------------------------------


async def test_the_newest_call_with_the_same_models(tmp_path: Path) -> None:
    for text in ("First.", "Second."):
        async with call(trace := Trace(tmp_path), ["Yes."]) as one:
            await one.types(text)
            await one.settles()
        await anyio.sleep(1)
    async with call(Trace(tmp_path), [], resume=Resume()) as after:
        assert after.session.resumed is not None
        assert after.session.resumed.call == trace.call
        assert after.said_by_caller == ["Second."]
    other = Cascade(MockSTT([]), MockLLM([]), MockTTS())
    other.llm.model = "another"
    async with story(MemoryTransport().output(), engine=other, trace=Trace(tmp_path), resume=Resume()) as fresh:
        assert fresh.session.resumed is not None
        assert (fresh.session.resumed.how, fresh.session.resumed.call) == ("fresh", "")
    assert "no earlier call" in fresh.came(CallResumed)[0].why


async def test_a_call_that_goes_on_is_not_taken(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["Yes."]):
        await first.flush()
        second = call(Trace(tmp_path), [], resume=Resume(first.call), may_fail=True)
        async with second:
            pass
        assert isinstance(second.outcome.error, CallTaken)
        assert f"the call {first.call} is going on" in str(second.outcome.error)
        async with call(Trace(tmp_path), [], resume=Resume()) as third:  # nor found
            assert third.session.resumed is not None
            assert third.session.resumed.how == "fresh"


async def test_of_two_that_take_a_call_at_the_same_time_one_gets_it(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["Yes."]) as one:
        await one.types("Hello?")
        await one.settles()
    outcomes: list[Outcome] = []

    async def take() -> None:
        async with call(Trace(tmp_path), [], resume=Resume(first.call), may_fail=True) as other:
            await anyio.sleep(5)
        outcomes.append(other.outcome)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(take)
    assert sorted(type(outcome.error).__name__ for outcome in outcomes) == ["CallTaken", "CallTaken", "NoneType"]


async def test_a_call_that_was_taken_up_goes_on_from_the_last_one(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["One."]) as one:
        await one.types("Say one.")
        await one.settles()
    for number in ("Two.", "Three."):
        async with call(Trace(tmp_path), [number], resume=Resume(first.call)) as after:
            await after.types("And then?")
            await after.settles()
    assert after.said_by_agent == ["One.", "Two.", "Three."]


# -- what cannot be taken up -------------------------------------------------------------------------------------------


def bad(folder: Path, how: str) -> str:
    lines = (folder / "good.jsonl").read_bytes().splitlines(keepends=True)
    changed = {
        "missing": None,
        "empty": b"",
        "not a trace": b"hello\n",
        "another version": lines[0].replace(b'"version":1', b'"version":99') + lines[1],
        "torn in its first line": lines[0][:50],
        "broken in the middle": lines[0] + b"{}\n" + lines[2],
    }[how]
    if changed is not None:
        (folder / "bad.jsonl").write_bytes(changed)
    return "bad"


@pytest.mark.parametrize("or_fresh", [False, True])
@pytest.mark.parametrize(
    "how", ["missing", "empty", "not a trace", "another version", "torn in its first line", "broken in the middle"]
)
async def test_a_trace_that_cannot_be_read_is_named(how: str, or_fresh: bool, tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["One."]) as one:
        await one.types("Say one.")
    (tmp_path / f"{first.call}.jsonl").rename(tmp_path / "good.jsonl")
    resume = Resume(bad(tmp_path, how), or_fresh=or_fresh)
    trace = Trace(tmp_path)
    async with call(trace, ["Fresh."], resume=resume, may_fail=True) as after:
        if or_fresh:
            await after.types("Hello?")
            await after.settles()
    assert "bad" in after.errors[0].message
    assert after.errors[0].category == "bad_input"
    assert len(after.errors) == 1
    if or_fresh:
        assert after.said_by_agent == ["Fresh."]
        assert after.outcome.error is None
        assert after.came(CallResumed)[0].how == "fresh"
    else:
        assert isinstance(after.outcome.error, BadTrace)
    assert verify(trace.store, trace.call).ended
    assert FolderStore(tmp_path).hold("bad", "another", 1) == "another"  # it is not held


async def test_a_torn_end_is_left_out(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path), ["One."]) as one:
        await one.types("Say one.")
        await one.settles()
    path = tmp_path / f"{first.call}.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    async with call(Trace(tmp_path), [], resume=Resume(first.call)) as after:
        assert after.said_by_agent == ["One."]


async def test_a_redacted_call_goes_on_without_its_words(tmp_path: Path) -> None:
    async with call(first := Trace(tmp_path, words=False), ["One."]) as one:
        await one.types("Say one.")
        await one.settles()
    async with call(Trace(tmp_path), [], resume=Resume(first.call)) as after:
        await after.settles()
        assert after.said_by_agent == [""]


@pytest.mark.real_clock
async def test_a_store_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    class Hangs(FolderStore):
        def names(self) -> list[str]:
            free.wait(20)
            return []

    free = threading.Event()
    options = {"deadlines": Deadlines(start_s=0.2), "may_fail": True}
    async with call(Trace(Hangs(tmp_path)), [], resume=Resume(), **options) as after:
        pass
    free.set()
    assert "was not read from" in str(after.outcome.error)
    assert "within 0.2 s" in str(after.outcome.error)


async def test_a_store_that_is_down_and_comes_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with call(first := Trace(server.url), ["One."]) as one:
            await one.types("Say one.")
            await one.settles()
        server.stop()
        async with call(Trace(server.url), [], resume=Resume(first.call), may_fail=True) as refused:
            pass
        assert isinstance(refused.outcome.error, BadTrace)
        assert "RedisStore('127.0.0.1:" in str(refused.outcome.error)
        trace = Trace(server.url)
        async with call(trace, ["Hello."], resume=Resume(first.call, or_fresh=True), may_fail=True) as fresh:
            await fresh.types("Hello?")
            await fresh.settles()
            assert fresh.said_by_agent == ["Hello."]
            await trace.flush()
            server.start()
        assert sorted(error.processor for error in fresh.errors) == ["Resume", "Trace"]
        assert all("secret" not in error.message for error in fresh.errors)
        assert verify(trace.store, trace.call).ended
        async with call(Trace(server.url), [], resume=Resume(first.call)) as back:
            assert back.said_by_agent == ["One."]


async def test_a_database_that_cannot_be_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"sqlite:///{tmp_path / 'calls.db'}"
    async with call(first := Trace(address), ["One."]):
        pass
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with closing(sqlite3.connect(tmp_path / "calls.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with call(Trace(address), [], resume=Resume(first.call), may_fail=True) as refused:
            pass
    assert isinstance(refused.outcome.error, BadTrace)
    assert "calls.db') does not give the call: database is locked" in str(refused.outcome.error)


async def test_a_call_that_goes_on_is_not_recorded_for_a_replay(tmp_path: Path) -> None:
    async with call(Trace(tmp_path, replay=True), [], resume=Resume(), may_fail=True) as after:
        pass
    assert isinstance(after.outcome.error, ConfigurationError)
    assert "not recorded for a replay" in str(after.outcome.error)


def test_resume_needs_a_trace_and_a_name() -> None:
    with pytest.raises(ConfigurationError, match="resume needs a trace"):
        Session(MemoryTransport().output(), resume=Resume("a"))
    with pytest.raises(ConfigurationError, match="name of a trace"):
        Resume(7)  # type: ignore[arg-type]
    assert issubclass(BadTrace, BadInput)
    assert TakenUp.__struct_config__.tag == "taken_up"
