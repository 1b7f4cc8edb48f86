"""E4: tools that take long, that run in the background, and that give no result. The agent speaks, and tells no lie."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import anyio

from ....agents.tool import Tool
from ....agents.tool_context import ToolContext
from ....frames import ApprovalGiven, ApprovalWanted
from ....session.tool_calls import STILL_RUNNING
from ...scripted.server import Act, Asked, CallTool, Speak
from ..call import Call, calling
from ..phrases import LONDON, STORY, THANKS, WEATHER
from ..rig import FarEnd, Rig
from ..suite import scenario

FILLER = "One moment please."


def known(asked: Asked, text: str) -> bool:
    """Return True if a text is in the session's memory, in words that are not the agent's own."""
    return any(text in message.text for message in asked.history if message.role != "assistant")


@scenario("E4")
async def a_background_tool_lets_the_conversation_go_on(rig: Rig, random: Random) -> None:
    """During a tool in the background the caller is answered; the model gets the result later, once, in their pause."""
    runs: list[str] = []

    async def weather(city: str, context: ToolContext) -> str:
        """The weather of a city."""
        runs.append(context.key)
        await anyio.sleep(7.0)
        return "sunny and warm"

    def model(asked: Asked) -> list[Act]:
        if asked.said == WEATHER:
            return [CallTool("weather", {"city": "Paris"})]
        if asked.said == THANKS:
            return [Speak("You are welcome.")]
        return [Speak("It is sunny." if known(asked, "sunny and warm") else "I am looking.")]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[Tool(weather, mode="nonblocking")]) as call:
            await call.asks(WEATHER)
            assert call.session.floor.owner == "caller", "the floor is free while the tool runs"
            await call.asks(THANKS)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result")
            await call.settles()
        assert call.said_by_agent == ["I am looking.", "You are welcome.", "It is sunny."]
        assert len(runs) == 1
        assert len(far.asked) == 4, "the question, that it runs, the thanks, the result"
        assert known(far.asked[-1], "sunny and warm")
        (result,) = [item.data for item in call.session.conversation if item.kind == "tool_result"]
        assert result == "sunny and warm"


@scenario("E4")
async def a_filler_is_heard_before_the_answer(rig: Rig, random: Random) -> None:
    """A filler is heard while a tool takes long. The answer follows it, once, and the log says whose words they are."""

    async def weather(city: str) -> str:
        """The weather of a city."""
        await anyio.sleep(4.5)
        return "sunny and warm"

    def model(asked: Asked) -> list[Act]:
        if asked.said == WEATHER:
            return [CallTool("weather", {"city": "Paris"})]
        return [Speak("It is sunny." if known(asked, "sunny and warm") else FILLER)]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[Tool(weather, filler=FILLER, filler_after_s=1.0)]) as call:
            await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result", 30)
            await call.settles()
        assert call.said_by_agent == [FILLER, "It is sunny."]
        assert len([asked for asked in far.asked if known(asked, "sunny and warm")]) == 1
        _check_pairs(call, far)


@scenario("E4")
async def a_tool_that_gives_no_result_is_answered(rig: Rig, random: Random) -> None:
    """A call that is denied, that takes too long, or that has wrong arguments is answered, each with one request."""

    async def weather(city: str) -> str:
        """The weather of a city."""
        await asyncio.Event().wait()
        return "never"

    async def book(guests: int) -> str:
        """Book a table."""
        return "never"

    async def tell(kind: str) -> str:
        """Tell a story."""
        return "never"

    wanted = {
        WEATHER: CallTool("weather", {"city": "Paris"}),
        LONDON: CallTool("book", {"guests": "several"}),
        STORY: CallTool("tell", {"kind": "true"}),
    }
    reasons = {WEATHER: "no result within 2 s", LONDON: "wrong arguments", STORY: "denied: not now"}

    def model(asked: Asked) -> list[Act]:
        if asked.said in wanted:
            return [wanted[asked.said]]
        return [Speak(f"I cannot tell you that, number {sum(known(asked, reason) for reason in reasons.values())}.")]

    tools = [Tool(weather, timeout_s=2.0), Tool(book), Tool(tell, needs_approval=True)]
    async with rig.start(model) as far:
        async with calling(rig, far, tools=tools) as call:
            call.expect_error("no result within 2 s", "wrong arguments")
            call.session.on(
                ApprovalWanted,
                lambda wanted: call.session.broadcast(
                    ApprovalGiven(call_id=wanted.call_id, approved=False, reason="not now")
                ),
            )
            for said in wanted:
                await call.asks(said)
        assert call.said_by_agent == [f"I cannot tell you that, number {number}." for number in (1, 2, 3)]
        assert len(far.asked) == 6, "a question and a continuation each"
        told = [str(value) for _, value in far.results]
        assert all(reason in text for reason, text in zip(reasons.values(), told, strict=True)), told
        assert call.session.calls.open() == []


@scenario("E4")
async def a_tool_that_cannot_be_stopped_is_told_of_as_running(rig: Rig, random: Random) -> None:
    """The model learns that a tool which ignores its cancellation still runs, and gets its late result."""

    async def weather(city: str) -> str:
        """The weather of a city."""
        until = asyncio.get_running_loop().time() + 6.0
        while (left_s := until - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left_s)
        return "sunny and warm"

    def model(asked: Asked) -> list[Act]:
        if asked.said == WEATHER:
            return [CallTool("weather", {"city": "Paris"})]
        if known(asked, "sunny and warm"):
            return [Speak("It is sunny.")]
        return [Speak("It takes longer." if known(asked, STILL_RUNNING) else "A lie.")]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[Tool(weather, timeout_s=1.0)]) as call:
            call.expect_error("ignores its cancellation and goes on")
            await call.asks(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result", 30)
            await call.settles()
        assert call.said_by_agent == ["It takes longer.", "It is sunny."]
        assert len(far.asked) == 3
        _check_pairs(call, far)


def _check_pairs(call: Call, far: FarEnd) -> None:
    """Check that each call has its one result, in the log and in the model's memory."""
    assert [item.kind for item in call.session.conversation if item.call_id] == ["tool_call", "tool_result"]
    assert call.session.calls.open() == []
    asked = [made.call_id for message in far.history for made in message.calls]
    assert sorted(asked) == sorted(message.call_id for message in far.history if message.role == "tool")
