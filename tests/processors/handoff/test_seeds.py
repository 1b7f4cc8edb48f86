"""Whole calls of turns, interruptions, tools and hand-offs, in many orders of tasks: what always holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.agents.tool import Tool
from duologue.frames import (
    BotText,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    Transfer,
)
from duologue.processors.handoff.handoff import Handoff
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.llm import Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport
from tests.processors.handoff.test_handoff import to
from tests.services.story import Story, asks, check, story


async def quick(n: int) -> str:
    """Answers at once."""
    return f"quick {n}"


async def slow(n: int) -> str:
    """Takes half a second."""
    await anyio.sleep(0.5)
    return f"slow {n}"


LASTING = Tool(slow, name="lasting", cancel_on_interruption=False)

AGENTS = (
    Agent(name="Ann", instructions="You are Ann.", voice="anna", tools=[quick, slow], farewell="Bye."),
    Agent(name="Bob", instructions="You are Bob.", voice="bert", tools=[slow, LASTING], greeting="Hello."),
    Agent(name="Carl", instructions="You are Carl.", tools=[quick, LASTING]),
)


def model(dice: random.Random) -> Callable[[Request], list[str | ToolRequest]]:
    """Says something, calls some of the tools that it has, and hands over now and then."""

    def reply(request: Request) -> list[str | ToolRequest]:
        said: list[str | ToolRequest] = []
        if request.messages and request.messages[-1].role == "tool" and dice.random() < 0.7:
            return ["Done with it."]
        names = [tool.name for tool in request.tools]
        for _ in range(dice.choice((0, 0, 1, 2))):
            name = dice.choice(names)
            if name == "handoff_conversation":
                said.append(to(dice.choice(("Ann", "Bob", "Carl", "Zoe")), "h"))
            else:
                said.append(asks(name, "t", n=dice.randint(0, 9)))
        words = " ".join(["One two."] * dice.randint(0 if said else 1, 3))
        return [words, *said]

    return reply


def cascade(dice: random.Random) -> Cascade:
    tts = MockTTS(seconds_per_sentence=0.4, speed=dice.choice((1.2, 5.0, 50.0)))
    return Cascade(MockSTT(["Well.", "", "So what?"]), MockLLM(model(dice), first_token_s=0.1), tts)


async def the_caller(call: Story, dice: random.Random) -> None:
    """Speaks, types, interrupts and waits, as it comes; now and then the application hands the call over."""
    for _ in range(14):
        match dice.randint(0, 6):
            case 0 | 1:
                await call.says(dice.choice((0.06, 0.3)), interrupting=dice.random() < 0.5)
            case 2 | 3:
                await call.types("Hello?")
            case 4:
                call.session.interrupt()
            case 5:
                await call.session.send(Transfer(target=dice.choice(("Ann", "Bob", "Carl"))))
            case _:
                pass
        await anyio.sleep(dice.choice((0.0, 0.02, 0.11, 0.3, 1.0)))


def check_all(call: Story, engines: Iterable[Cascade], handoff: Handoff) -> None:
    """The rules of every call."""
    log = call.session.conversation.items
    # Every call has its one result.
    calls = [i.call_id for i in log if i.kind == "tool_call"]
    assert sorted(calls) == sorted(i.call_id for i in log if i.kind == "tool_result")
    assert len(set(calls)) == len(calls)
    # The log is in the order of turns.
    assert [i.turn for i in log] == sorted(i.turn for i in log)
    # Models were asked what they accept.
    for engine in engines:
        assert isinstance(engine.llm, MockLLM)
        for request in engine.llm.requests:
            check(request.messages)
    # Each response is bracketed, and after the fence of its turn nothing of it came but its end.
    outputs = [f for f in call.frames if isinstance(f, Output)]
    for response_id in {f.response_id for f in outputs}:
        own = [f for f in outputs if f.response_id == response_id]
        assert isinstance(own[0], ResponseStarted)
        assert isinstance(own[-1], ResponseEnded)
        assert len({f.turn for f in own}) == 1
        assert sum(isinstance(f, ResponseStarted | ResponseEnded) for f in own) == 2
    fence = -1
    for frame in call.in_order:
        if isinstance(frame, Interrupted):
            fence = frame.turn
        elif isinstance(frame, Output) and frame.turn <= fence:
            assert isinstance(frame, ResponseEnded), frame
            assert frame.status == "interrupted"
    # The agent's logged words are those that came out, or their beginning.
    texts = {f.response_id: "" for f in outputs}
    for frame in outputs:
        texts[frame.response_id] += frame.text if isinstance(frame, BotText) else ""
    for item in log:
        if item.kind == "message" and item.role == "agent":
            assert texts[item.id].startswith(item.text)
    # Everyone agrees on who has the call, and how often it went from one to another.
    assert call.session.agent is handoff.agent
    assert len([i for i in log if i.kind == "handoff"]) == handoff.state.handoffs
    assert len(call.came(HandoffCompleted)) == handoff.state.handoffs
    assert len(call.came(HandoffStarted)) <= handoff.state.handoffs + len(call.came(HandoffFailed))
    # The last that the caller said was answered, the floor is the caller's again, and nothing failed.
    assert [i.role for i in log if i.kind == "message"][-1] == "agent"
    assert call.is_quiet()
    assert [e for e in call.errors if "has the call already" not in e.message] == []


@pytest.mark.parametrize("scenario", range(10))
@pytest.mark.seeds(12)
async def test_one_engine(scenario: int) -> None:
    dice = random.Random(scenario)
    engine, handoff, line = cascade(dice), Handoff(AGENTS), MemoryTransport()
    async with story(handoff, Tools(), line.output(), engine=engine) as call:
        await the_caller(call, dice)
        await anyio.sleep(20)
        await call.types("Goodbye?")
        await anyio.sleep(20)
        check_all(call, [engine], handoff)


@pytest.mark.parametrize("scenario", range(10))
@pytest.mark.seeds(12)
async def test_two_engines(scenario: int) -> None:
    dice = random.Random(scenario)
    engines = {"one": cascade(dice), "two": cascade(dice)}
    ann, bob, carl = AGENTS
    handoff = Handoff([replace(ann, engine="one"), replace(bob, engine="two"), carl])
    line = MemoryTransport()
    async with story(handoff, Tools(), line.output(), engines=engines) as call:
        await the_caller(call, dice)
        await anyio.sleep(40)
        await call.types("Goodbye?")
        await anyio.sleep(20)
        check_all(call, engines.values(), handoff)
