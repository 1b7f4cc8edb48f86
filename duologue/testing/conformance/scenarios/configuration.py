"""E5: a change of the configuration is applied as a whole, or refused with the reason."""

from __future__ import annotations

from random import Random

import msgspec

from ....agents.agent import Agent
from ....errors import ConfigurationError
from ....frames import Configure
from ...scripted.server import Speak
from ..call import calling
from ..phrases import HELLO, STORY, THANKS
from ..rig import FarEnd, Rig
from ..suite import scenario

TOOL = {"name": "weather", "description": "The weather of a city.", "parameters": {"type": "object", "properties": {}}}
OTHER = {"name": "time", "description": "What time it is.", "parameters": {"type": "object", "properties": {}}}


def state(far: FarEnd) -> tuple[str, str, tuple[str, ...]]:
    """Return the configuration of the far end: the part that every far end shows."""
    return far.instructions, far.voice, far.tools


async def refused(far: FarEnd, change: Configure, named: str) -> None:
    """Check that the engine refuses a change, with `named` in the reason, and keeps its configuration."""
    before = far.contract.config
    reasons = []
    try:
        far.contract.check(change)
    except ConfigurationError as error:
        reasons.append(str(error))
    try:
        await far.contract.configure(change)
    except ConfigurationError as error:
        reasons.append(str(error))
    assert len(reasons) == 2, f"not refused: {change}"
    for reason in reasons:
        assert named in reason, f"the reason does not name {named!r}: {reason}"
    assert far.contract.config == before


@scenario("E5")
async def a_change_reaches_the_far_end_as_a_whole(rig: Rig, random: Random) -> None:
    """Instructions, voice and tools of one `Configure` hold together, from the next answer on."""
    async with rig.start([]) as far:
        async with calling(rig, far, agent=Agent(name="Ann", instructions="You are Ann.", voice=rig.voices[0])) as call:
            await call.asks(HELLO)
            assert state(far) == ("You are Ann.", rig.voices[0], ())
            await call.configure(agent="Bob", instructions="You are Bob.", voice=rig.voices[1], tools=(TOOL,))
            await call.asks(THANKS)
            assert state(far) == ("You are Bob.", rig.voices[1], ("weather",))
            config = far.contract.config
            assert (config.agent, config.instructions, config.voice) == ("Bob", "You are Bob.", rig.voices[1])
        asked = far.asked[-1]
        assert asked.instructions.startswith("You are Bob.")
        assert HELLO in " ".join(message.text for message in asked.history), "what was said before is not forgotten"
        assert call.said_by_caller == [HELLO, THANKS]


@scenario("E5")
async def what_is_omitted_persists_and_what_is_empty_clears(rig: Rig, random: Random) -> None:
    """A field that a change omits stays as it is; an empty text or tuple clears it."""
    first = Agent(name="Ann", instructions="You are Ann.", voice=rig.voices[0])
    async with rig.start([]) as far, calling(rig, far, agent=first) as call:
        await call.configure(tools=(TOOL, OTHER))
        await call.asks(HELLO)
        assert state(far) == ("You are Ann.", rig.voices[0], ("weather", "time"))
        await call.configure(instructions="You are somebody else.")
        await call.asks(THANKS)
        assert state(far) == ("You are somebody else.", rig.voices[0], ("weather", "time"))
        await call.configure(tools=())
        await call.asks(STORY)
        assert state(far) == ("You are somebody else.", rig.voices[0], ())
        await call.configure(instructions="")
        await call.asks(HELLO)
        assert state(far) == ("", rig.voices[0], ())
        assert far.contract.config.instructions == ""


@scenario("E5")
async def an_option_reaches_the_far_end(rig: Rig, random: Random) -> None:
    """An option of the engine holds from the next answer on, and persists through other changes."""
    name, value = rig.option
    async with rig.start([]) as far, calling(rig, far) as call:
        await call.asks(HELLO)
        assert far.option != value
        await call.configure(options={name: value})
        await call.asks(THANKS)
        assert far.option == value
        await call.configure(instructions="You are Bob.")
        await call.asks(STORY)
        assert far.option == value
        assert far.contract.config.options == {name: value}


@scenario("E5")
async def a_change_that_cannot_be_is_refused(rig: Rig, random: Random) -> None:
    """An unknown voice, option or value is refused with a reason that names it, and the whole change with it."""
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            before, config = state(far), far.contract.config
            for change, named in rig.refused:
                call.expect_error(named)
                bad = msgspec.structs.replace(change, instructions="You are the wrong one.")
                await refused(far, bad, named)
                errors = len(call.errors)
                await call.session.send(bad)
                await call.waits(0.5)
                assert len(call.errors) > errors, f"no error for {bad}"
                assert named in call.errors[-1].message
                assert far.contract.config == config
            await call.asks(THANKS)
            assert state(far) == before
        assert rig.refused, "every engine refuses something"


@scenario("E5", faults=["refuse_change"])
async def a_change_that_the_far_end_refuses_keeps_the_old(rig: Rig, random: Random) -> None:
    """A change that passes all checks but that the provider refuses is reported, and the old configuration holds."""
    assert rig.refusable is not None
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            call.expect_error("")
            await call.asks(HELLO)
            before, config = state(far), far.contract.config
            far.refuse_changes(True)
            try:
                await far.contract.configure(rig.refusable)
            except ConfigurationError:
                pass
            else:
                raise AssertionError("the engine did not report the refusal")
            far.refuse_changes(False)
            assert far.contract.config == config
            await call.asks(THANKS)
            assert (far.instructions, far.voice, far.tools) == before
            await far.contract.configure(rig.refusable)
            await call.asks(STORY)
            assert (far.instructions, far.voice, far.tools) != before, "and later it is taken"
        assert call.said_by_caller == [HELLO, THANKS, STORY]


@scenario("E5")
async def a_change_in_mid_answer_cuts_nothing(rig: Rig, random: Random) -> None:
    """Speech in progress when a change arrives is spoken to its end, in the old configuration."""
    text = "This is an answer that takes a while to say, and it is to be heard to its end."
    async with rig.start([[Speak(text, pace=2.0)], [Speak("Now I am Bob.")]]) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.configure(agent="Bob", instructions="You are Bob.", voice=rig.voices[1])
            await call.hears()
            await call.asks(THANKS)
        assert call.said_by_agent == [text, "Now I am Bob."]
        assert far.voice == rig.voices[1]
        assert call.said_by_caller == [STORY, THANKS]
