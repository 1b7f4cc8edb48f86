"""E4: tools. A call is made once, for a response that was not interrupted; its result reaches the model once."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import anyio

from ....agents.tool import Tool
from ....errors import ToolError
from ....frames import ConnectionChanged, Interrupted, ResponseStarted, ToolCall, ToolResult
from ...scripted.server import Act, Asked, CallTool, Speak, Twice, Wait
from ..call import calling
from ..phrases import HELLO, STOP, THANKS, WEATHER
from ..rig import Rig
from ..suite import scenario


class Shop:
    """Tools that record their calls."""

    def __init__(self, seconds: float = 0.0, result: Any = "sunny") -> None:
        self.calls: list[str] = []
        self.seconds = seconds
        self.result = result

    async def weather(self, city: str = "") -> Any:
        """The weather of a city."""
        self.calls.append(city)
        await anyio.sleep(self.seconds)
        return self.result

    def patient(self) -> Tool:
        """A tool that an interruption does not cancel."""
        return Tool(self.weather, cancel_on_interruption=False)


def look_up(*cities: str, first: str = "", then: str = "It is sunny.") -> Callable[[Asked], list[Act]]:
    """Return a model that calls `weather` when asked for the weather, and says `then` otherwise."""

    def model(asked: Asked) -> list[Act]:
        if asked.said != WEATHER:
            return [Speak(then)]
        spoken: list[Act] = [Speak(first)] if first else []
        return [*spoken, *(CallTool("weather", {"city": city}) for city in cities)]

    return model


@scenario("E4")
async def a_call_is_made_once_and_answered_once(rig: Rig, random: Random) -> None:
    """A tool is called once, its result reaches the model once, and the answer follows in the same turn."""
    shop = Shop()
    async with rig.start(look_up("Paris")) as far:
        async with calling(rig, far, tools=[shop.weather]) as call:
            await call.asks(WEATHER)
            await call.asks(THANKS)
        assert shop.calls == ["Paris"]
        assert [value for _, value in far.results] == ["sunny"]
        assert len(far.asked) == 3
        assert len({frame.turn for frame in call.came(ResponseStarted)[:2]}) == 1


@scenario("E4", faults=["duplicate"])
async def a_call_that_is_told_twice_is_made_once(rig: Rig, random: Random) -> None:
    """A call that the provider sends twice is made once."""
    shop = Shop()

    def model(asked: Asked) -> list[Act]:
        return [Twice(), CallTool("weather", {"city": "Paris"})] if asked.said == WEATHER else [Speak("It is sunny.")]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[shop.weather]) as call:
            await call.asks(WEATHER)
        assert shop.calls == ["Paris"]
        assert len(call.came(ToolCall)) == len(far.results) == 1
        assert call.said_by_agent == ["It is sunny."]


@scenario("E4")
async def the_tool_of_an_interrupted_response_is_not_called(rig: Rig, random: Random) -> None:
    """A call that follows in a response which the caller has interrupted is never made. (pipecat 4997)"""
    shop = Shop()

    def model(asked: Asked) -> list[Act]:
        if asked.said != WEATHER:
            return [Speak("As you like.")]
        return [
            Speak("I will look that up for you at once.", pace=1.0),
            Wait(1.0),
            CallTool("weather", {"city": "Paris"}),
        ]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[shop.weather]) as call:
            await call.says(WEATHER)
            await call.agent_begins()
            await call.waits(0.4)
            await call.says(STOP)
            await call.until(lambda: "agent: As you like." in call.log, "the answer to the interruption")
            await call.waits(4.0)
        assert shop.calls == []
        assert call.came(ToolCall) == []
        assert not any(message.calls for message in far.history), "nor does the model believe it was"


@scenario("E4")
async def a_falsy_result_is_a_result(rig: Rig, random: Random) -> None:
    """Each of 0, {}, "", [], False and None, here of a function that blocks, reaches the model and is answered."""
    values: list[Any] = [0, {}, "", [], False, None]
    left = list(values)

    def weather(city: str) -> Any:
        """The weather of a city."""
        time.sleep(0.01)
        return left.pop(0)

    async with rig.start(look_up("Paris")) as far:
        async with calling(rig, far, tools=[weather]) as call:
            for _ in values:
                await call.asks(WEATHER)
        got = [value for _, value in far.results]
        assert [(type(value), value) for value in got] == [(type(value), value) for value in values]
        assert call.said_by_agent == ["It is sunny."] * len(values)
        logged = [item.data for item in call.session.conversation if item.kind == "tool_result"]
        assert [(type(value), value) for value in logged] == [(type(value), value) for value in values]


@scenario("E4")
async def parallel_calls_have_one_continuation(rig: Rig, random: Random) -> None:
    """Parallel calls have one continuation, after the last result."""
    seconds = {"Paris": 1.5, "London": 0.3, "Rome": 0.9}

    async def weather(city: str) -> str:
        """The weather of a city."""
        await anyio.sleep(seconds[city])
        return f"sunny in {city}"

    async with rig.start(look_up(*seconds, then="Sunny everywhere.")) as far:
        async with calling(rig, far, tools=[weather]) as call:
            await call.asks(WEATHER)
            await call.waits(2.0)
        assert sorted(value for _, value in far.results) == sorted(f"sunny in {city}" for city in seconds)
        assert len(far.asked) == 2, "the question, and one continuation"
        assert call.said_by_agent == ["Sunny everywhere."]
        assert len({frame.turn for frame in call.came(ResponseStarted)}) == 1


@scenario("E4", seeds=2)
async def a_result_that_comes_after_an_interruption_is_told(rig: Rig, random: Random) -> None:
    """A tool that an interruption does not cancel delivers its result to the model, and the answer is heard."""
    shop = Shop(seconds=random.uniform(3.0, 5.0))
    async with rig.start(look_up("Paris", first="One moment please, I will look that up for you.")) as far:
        async with calling(rig, far, tools=[shop.patient()]) as call:
            await call.says(WEATHER)
            await call.until(lambda: shop.calls, "the call")
            await call.agent_begins()
            call.session.interrupt("application")
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result")
            await call.waits(1.0)
        assert call.came(Interrupted)
        assert shop.calls == ["Paris"]
        assert call.log.count("agent: It is sunny.") == 1
        assert _knows_result(far.history, "sunny") == 1


@scenario("E4", seeds=2)
async def a_result_that_comes_while_the_caller_speaks_is_answered(rig: Rig, random: Random) -> None:
    """A tool's result that arrives while the caller speaks is known to the next answer. (pipecat 5823)"""
    shop = Shop(seconds=random.uniform(1.0, 1.5))
    async with rig.start(look_up("Paris", then="It is sunny, and you are welcome.")) as far:
        async with calling(rig, far, tools=[shop.patient()]) as call:
            await call.says(WEATHER)
            await call.until(lambda: shop.calls, "the call")
            await call.waits(shop.seconds - 0.7)
            line = await call.says(THANKS)
            await call.until(lambda: call.said_by_agent[-1:] == ["It is sunny, and you are welcome."], "the answer")
            await call.waits(1.0)
        assert call.heard_by_engine(line)
        assert call.said_by_caller == [WEATHER, THANKS]
        assert _knows_result(far.history, "sunny") == 1
        asked = [asked for asked in far.asked if _knows_result(asked.history, "sunny")]
        assert asked, "the model was asked with the result in view"


@scenario("E4", faults=["cancel_calls"])
async def a_call_that_the_provider_cancels_needs_no_result(rig: Rig, random: Random) -> None:
    """A tool call that the provider cancels sends no result; the log keeps call and result, and the call goes on."""
    shop = Shop(seconds=3.0)
    async with rig.start(look_up("Paris", then="You are welcome.")) as far:
        async with calling(rig, far, tools=[shop.weather]) as call:
            await call.says(WEATHER)
            await call.until(lambda: shop.calls, "the call")
            await call.says(THANKS)
            await call.until(lambda: "agent: You are welcome." in call.log, "the answer")
            await call.waits(4.0)
            await call.asks(HELLO)
        assert call.session.calls.open() == []
        assert call.said_by_caller == [WEATHER, THANKS, HELLO]


@scenario("E4", faults=["drop"], seeds=2)
async def a_result_for_a_connection_that_is_gone_is_told_once(rig: Rig, random: Random) -> None:
    """If the connection breaks while a tool runs, the new one receives the result as text, once. (RoomKit)"""
    shop = Shop(seconds=2.0, result="sunny and warm")
    async with rig.start(look_up("Paris")) as far:
        async with calling(rig, far, tools=[shop.weather]) as call:
            await call.says(WEATHER)
            await call.until(lambda: shop.calls, "the call")
            await call.waits(random.uniform(0.1, 1.5))
            await far.drop(random.choice([0, 1011]))
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result")
            await call.waits(2.0)
            await call.asks(THANKS)
        assert shop.calls == ["Paris"], "it was not called again"
        assert far.connections == 2
        assert [change.state for change in call.came(ConnectionChanged)].count("reconnecting") == 1
        assert _knows_result(far.history, "sunny and warm") == 1
        assert call.log.count("agent: It is sunny.") == 2, "the answer, and that to the thanks"


@scenario("E4")
async def a_tool_that_fails_is_answered(rig: Rig, random: Random) -> None:
    """The text of a `ToolError`, and the error of a call to an unknown tool, reach the model as results."""

    async def weather(city: str) -> str:
        """The weather of a city."""
        raise ToolError(f"no station in {city}")

    def model(asked: Asked) -> list[Act]:
        if asked.said == WEATHER:
            return [CallTool("weather", {"city": "Paris"}), CallTool("wether", {})]
        return [Speak("I cannot tell.")]

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[weather]) as call:
            call.expect_error("no station in Paris")
            await call.asks(WEATHER)
        results = {str(value) for _, value in far.results}
        assert any("no station in Paris" in text for text in results)
        assert any("wether" in text for text in results)
        assert call.said_by_agent == ["I cannot tell."]


@scenario("E4")
async def a_result_nobody_asked_for_is_refused(rig: Rig, random: Random) -> None:
    """A result for a call that was never made is reported as an error that names it, and the call goes on."""
    async with rig.start([]) as far:
        async with calling(rig, far, tools=[]) as call:
            call.expect_error("call_unknown")
            await call.asks(HELLO)
            await call.probe.push_up(ToolResult(call_id="call_unknown", name="weather", result=1, turn=1))
            await call.asks(THANKS)
        assert any("call_unknown" in error.message for error in call.errors)
        assert far.results == []
        assert call.said_by_agent == ["Yes.", "Yes."]


def _knows_result(history: Any, text: str) -> int:
    """Return the number of messages with this result that are not the agent's own."""
    return sum(text in message.text for message in history if message.role != "assistant")
