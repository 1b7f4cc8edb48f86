"""E9: an engine declares its capabilities as data, keeps to them, and refuses everything else."""

from __future__ import annotations

from random import Random

import msgspec

from ....frames import Configure, UserImage, UserText
from ...scripted.server import Speak
from ..call import calling
from ..phrases import HELLO, THANKS
from ..rig import Rig
from ..suite import VERSION, scenario
from .configuration import TOOL

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
"""A PNG of one pixel."""


@scenario("E9")
async def capabilities_are_data(rig: Rig, random: Random) -> None:
    """Capabilities are plain data, known before a connection is opened, and they hold during the call."""
    async with rig.start([]) as far:
        before = far.capabilities
        assert msgspec.json.decode(msgspec.json.encode(before), type=type(before)) == before
        assert 8_000 <= before.input_sample_rate <= 48_000
        assert 8_000 <= before.output_sample_rate <= 48_000
        assert before.conformance <= VERSION
        assert before.turn_detection
        assert ("server" if rig.detects_turns else "client") in before.turn_detection
        assert before.changes_in_session <= {"agent", "instructions", "voice", "language", "tools", "options"}
        assert before.session_limit_s is None or before.session_limit_s > 0
        assert far.connections == 0, "nothing was opened for it"
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            assert far.capabilities == before


@scenario("E9")
async def what_changes_in_session_takes_no_new_connection(rig: Rig, random: Random) -> None:
    """Settings that the capabilities list as changeable change on the open connection, the others on a new one."""
    changes = {
        "instructions": Configure(instructions="You are Bob."),
        "tools": Configure(tools=(TOOL,)),
        "options": Configure(options=dict([rig.option])),
        "voice": Configure(voice=rig.voices[1]),
    }
    for name, change in changes.items():
        async with rig.start([]) as far:
            async with calling(rig, far) as call:
                await call.asks(HELLO)
                before = far.connections
                await far.contract.configure(change)
                await call.asks(THANKS)
                in_session = name in far.capabilities.changes_in_session
                assert (far.connections == before) is (in_session or not before), name
            assert call.said_by_caller == [HELLO, THANKS]


@scenario("E9")
async def an_image_is_taken_or_refused(rig: Rig, random: Random) -> None:
    """An image reaches the model before its next answer, or is refused with an error. It is never ignored."""
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            call.expect_error("image", "Image")
            await call.asks(HELLO)
            await call.session.send(UserImage(image=PIXEL, mime="image/png"))
            await call.asks(THANKS)
        seen = any(message.image or message.url for message in far.asked[-1].history) or far.images
        assert bool(seen) != bool(call.errors), "taken, or refused"
        if far.capabilities.video_input:
            assert seen
        if call.errors:
            assert not any(item.name == "image" for item in call.session.conversation), "refused, but in the log"


@scenario("E9")
async def an_image_of_an_unknown_type_is_refused(rig: Rig, random: Random) -> None:
    """An image of an unknown type is refused with an error that names the type, and the call goes on."""
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            call.expect_error("image")
            await call.session.send(UserImage(image=b"nothing", mime="image/nonsense"))
            await call.asks(HELLO)
        assert any("image/nonsense" in error.message for error in call.errors)
        assert far.images == []


async def _typed_text_is_refused(rig: Rig, random: Random) -> None:
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            call.expect_error("text")
            await call.session.send(UserText(text="Hello."))
            await call.waits(1.0)
        assert any("text" in error.message for error in call.errors)


@scenario("E9", can=lambda can: can.text_input, refused=_typed_text_is_refused)
async def typed_text_is_answered(rig: Rig, random: Random) -> None:
    """An engine with text input answers typed text without a word spoken; one without it refuses the text."""
    async with rig.start([[Speak("I can read.")]]) as far:
        async with calling(rig, far) as call:
            await call.session.send(UserText(text="Can you read?"))
            await call.hears()
        assert call.log == ["caller: Can you read?", "agent: I can read."]


async def _tools_are_refused(rig: Rig, random: Random) -> None:
    from .configuration import refused

    async with rig.start([]) as far:
        await refused(far, Configure(tools=(TOOL,)), "tool")


@scenario("E9", can=lambda can: can.tools != "none", refused=_tools_are_refused)
async def tools_are_offered_to_the_model(rig: Rig, random: Random) -> None:
    """An engine with tools sends them to the model with their schemas; one without them refuses them."""
    async with rig.start([]) as far:
        async with calling(rig, far) as call:
            await call.configure(tools=(TOOL,))
            await call.asks(HELLO)
        assert far.tools == ("weather",)
        (told,) = far.asked[-1].tools
        assert told["description"] == TOOL["description"]
