"""E6: an engine that takes over a call knows the whole conversation: resumed or replayed, never both."""

from __future__ import annotations

from random import Random

from ....agents.agent import Agent
from ....frames import ConnectionChanged, HandoffCompleted, Transfer
from ....services.cascade import Cascade
from ....session.conversation import Conversation
from ...mocks import MockLLM, MockSTT, MockTTS
from ...scripted.server import Speak
from ..call import Call, calling, spoken_by, squeezed
from ..phrases import HELLO, LONDON, STORY, THANKS, WEATHER
from ..rig import Rig
from ..suite import scenario
from .words import LONG

ANN = Agent(name="Ann", instructions="You are Ann.", engine="first")
BOB = Agent(name="Bob", instructions="You are Bob.", engine="tested")


def all_text(call: Call) -> str:
    """Return all text that the far end has received in the latest session."""
    history = call.far.asked[-1].history
    return " ".join(message.text for message in history)


def once(call: Call, *texts: str) -> None:
    """Check that the history of the model's last request contains each of these texts, once and in this order."""
    told = squeezed(all_text(call))
    places = [told.find(squeezed(text)) for text in texts]
    assert -1 not in places, f"not known: {[t for t, place in zip(texts, places, strict=True) if place < 0]}"
    assert places == sorted(places), f"out of order: {texts}"
    for text in texts:
        assert told.count(squeezed(text)) == 1, f"told {told.count(squeezed(text))} times: {text!r}"


def add(conversation: Conversation) -> None:
    """Add words of both sides, a tool call and its result."""
    conversation.add("message", "caller", turn=1, text="I am Zoe and live in Rome.")
    conversation.add("tool_call", "agent", turn=1, call_id="call_a", name="find", data={"name": "Zoe"})
    conversation.add("tool_result", "tool", turn=1, call_id="call_a", name="find", data={"id": 7}, text='{"id": 7}')
    conversation.add("message", "agent", turn=1, text="I have found you, Zoe.")


@scenario("E6")
async def what_was_said_before_is_known(rig: Rig, random: Random) -> None:
    """An engine that opens in mid-conversation knows all of it in its first answer, each item once."""
    async with rig.start([[Speak("Hello again.")]]) as far:
        async with calling(rig, far, prepare=lambda session: add(session.conversation)) as call:
            await call.asks(HELLO)
        once(call, "I am Zoe and live in Rome.", '"id":7', "I have found you, Zoe.", HELLO)
        calls = [request for message in far.asked[-1].history for request in message.calls]
        results = [message for message in far.asked[-1].history if message.role == "tool"]
        assert len(calls) == len(results), "calls and results are paired"


@scenario("E6")
async def a_hand_off_in_brings_the_history(rig: Rig, random: Random) -> None:
    """After a hand-off from another engine the agent knows the conversation, and the reason for the hand-off."""
    first = Cascade(MockSTT([HELLO]), MockLLM(["I am Ann and I like green."]), MockTTS(seconds_per_sentence=1.0))
    async with rig.start([[Speak("I am Bob.")], [Speak("Of course.")]]) as far:
        async with calling(rig, far, agents=[ANN, BOB], engines={"first": first}) as call:
            await call.asks(HELLO)
            await call.session.send(Transfer(target="Bob", reason="wants Bob", summary="likes green"))
            await call.until(lambda: call.came(HandoffCompleted), "the hand-off")
            line = await call.says(WEATHER)
            await call.hears()
            await call.asks(THANKS)
        assert call.heard_by_engine(line)
        once(call, HELLO, "I am Ann and I like green.", "likes green", WEATHER, "I am Bob.", THANKS)
        assert far.asked[0].instructions.startswith("You are Bob.")
        assert call.said_by_caller == [HELLO, WEATHER, THANKS]
        assert call.said_by_agent == ["I am Ann and I like green.", "I am Bob.", "Of course."]


@scenario("E6")
async def a_hand_off_while_the_caller_speaks_loses_nothing(rig: Rig, random: Random) -> None:
    """Speech during a change of engines is heard as a whole by the new one. (livekit 6844)"""
    first = Cascade(MockSTT(["half of it"]), MockLLM(["I am Ann."]), MockTTS(seconds_per_sentence=1.0))
    async with rig.start([[Speak("I am Bob.")]]) as far:
        async with calling(rig, far, agents=[ANN, BOB], engines={"first": first}) as call:
            await call.waits(1.0)
            transfer_at = 0.3 + 0.5 * random.random()
            call.session.start_task(call.probe, _transfer_after(call, transfer_at))
            line = await call.says(WEATHER)
            await call.until(lambda: "agent: I am Bob." in call.log, "the answer of the new agent")
        assert call.heard_by_engine(line)
        assert call.said_by_caller == [WEATHER]


async def _transfer_after(call: Call, seconds: float) -> None:
    from anyio import sleep

    await sleep(seconds)
    await call.session.send(Transfer(target="Bob"))


@scenario("E6")
async def only_what_was_heard_is_handed_on(rig: Rig, random: Random) -> None:
    """The new engine does not receive the unheard part of an interrupted answer of the old one."""
    first = Cascade(MockSTT([HELLO, STORY]), MockLLM([LONG, "Yes."]), MockTTS(s_per_character=1 / 15))
    async with rig.start([[Speak("I am Bob.")]]) as far:
        async with calling(rig, far, agents=[ANN, BOB], engines={"first": first}) as call:
            await call.says(HELLO)
            await call.agent_begins()
            await call.waits(1.5)
            call.session.interrupt("application")
            await call.session.send(Transfer(target="Bob"))
            await call.until(lambda: call.came(HandoffCompleted), "the hand-off")
            await call.asks(THANKS)
        heard = call.said_by_agent[0]
        assert heard
        assert len(heard) < len(LONG) / 2
        once(call, HELLO, heard, THANKS)
        assert squeezed(LONG)[len(squeezed(heard)) :][:20] not in squeezed(all_text(call))


@scenario("E6", faults=["drop"], seeds=2)
async def a_new_connection_resumes_or_replays(rig: Rig, random: Random) -> None:
    """After a loss the model knows everything once: by the provider's handle or by a replay, never by both."""
    model = [[Speak("Hello.")], [Speak("It is sunny.")], [Speak("It rains.")], [Speak("Bye.")]]
    async with rig.start(model) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            await call.asks(WEATHER)
            await far.drop(random.choice([0, 1011]))
            await call.until(lambda: call.states[-2:] == ["reconnecting", "active"], "a new connection")
            await call.asks(LONDON)
            once(call, HELLO, "Hello.", WEATHER, "It is sunny.", LONDON)
            await call.asks(THANKS)
        how = [change.how for change in call.came(ConnectionChanged) if change.state == "active"]
        assert how[0] == "fresh"
        resumed = how[1] == "resumed by handle"
        assert resumed or how[1].startswith("replayed")
        assert bool(far.handles[1]) is resumed
        if far.capabilities.resumption == "native":
            assert resumed, "a quiet session with a handle is resumed"
        once(call, HELLO, "Hello.", WEATHER, "It is sunny.", LONDON, "It rains.", THANKS)
        assert spoken_by(far.asked[-1].history, "user") or resumed
