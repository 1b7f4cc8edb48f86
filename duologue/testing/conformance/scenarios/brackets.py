"""E1: each response has one start and one end, with one turn and one id."""

from __future__ import annotations

from random import Random

from ....frames import BotAudio, BotText, ResponseEnded, ResponseStarted, Say, ToolCall
from ...scripted.server import Act, Asked, CallTool, Fail, Speak
from ..call import calling, squeezed
from ..phrases import HELLO, STORY, WEATHER
from ..rig import Rig
from ..suite import scenario


async def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


@scenario("E1")
async def responses_are_bracketed(rig: Rig, random: Random) -> None:
    """Each answer has one start and one end, completed, and between them text and audio of the same turn and id."""
    async with rig.start([[Speak("Hello, how can I help?")], [Speak("Once upon a time.")]]) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            await call.asks(STORY)
        started, ended = call.came(ResponseStarted), call.came(ResponseEnded)
        assert [frame.status for frame in ended] == ["completed", "completed"]
        assert [frame.response_id for frame in started] == [frame.response_id for frame in ended]
        assert started[0].turn < started[1].turn
        assert {frame.agent for frame in started} == {"Ann"}
        for frame, text in zip(started, ("Hello, how can I help?", "Once upon a time."), strict=True):
            own = [text for text in call.came(BotText) if text.response_id == frame.response_id]
            assert squeezed("".join(piece.text for piece in own)) == squeezed(text)
            assert any(audio.response_id == frame.response_id for audio in call.came(BotAudio))


@scenario("E1")
async def a_turn_with_a_tool_is_bracketed(rig: Rig, random: Random) -> None:
    """The response that calls a tool and the one that continues it have brackets of their own, in the same turn."""
    model: list[list[Act]] = [[Speak("One moment."), CallTool("weather", {"city": "Paris"})], [Speak("It is sunny.")]]
    async with rig.start(model) as far:
        async with calling(rig, far, tools=[weather]) as call:
            await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer with the result")
        assert [frame.status for frame in call.came(ResponseEnded)] == ["completed", "completed"]
        assert len({frame.turn for frame in call.came(ResponseStarted)}) == 1, "one turn"
        (made,) = call.came(ToolCall)
        assert made.response_id == call.came(ResponseStarted)[0].response_id
        assert call.log == [
            f"caller: {WEATHER}",
            "agent: One moment.",
            "call: weather",
            "result: Sunny in Paris.",
            "agent: It is sunny.",
        ]


@scenario("E1")
async def what_the_application_says_is_bracketed(rig: Rig, random: Random) -> None:
    """A text that the application lets the agent say is a response like any other; the next answer follows it."""

    def model(asked: Asked) -> list[Speak]:
        return [Speak("Welcome." if "Welcome." in asked.instructions + asked.said else "Yes, I am here.")]

    async with rig.start(model) as far:
        async with calling(rig, far) as call:
            await call.session.send(Say(text="Welcome."))
            await call.hears()
            await call.asks(HELLO)
        assert call.log == ["agent: Welcome.", f"caller: {HELLO}", "agent: Yes, I am here."]
        assert [frame.status for frame in call.came(ResponseEnded)] == ["completed", "completed"]


@scenario("E1")
async def a_response_that_fails_has_an_end(rig: Rig, random: Random) -> None:
    """If the model fails in mid-answer, the response ends as failed, the call goes on, and the caller is answered."""
    failed: list[Act] = [Speak("I think"), Fail()]
    async with rig.start([failed, [Speak("Here I am again.")], [Speak("And again.")]]) as far:
        async with calling(rig, far) as call:
            call.expect_error("")
            await call.says(HELLO)
            await call.hears()
            await call.waits(2.0)
            await call.asks(STORY)
        statuses = [frame.status for frame in call.came(ResponseEnded)]
        assert statuses[0] == "failed"
        assert statuses[-1] == "completed"
        assert call.errors or "reconnecting" in call.states, "the failure is told"
        assert call.said_by_caller == [HELLO, STORY]
