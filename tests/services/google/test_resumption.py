"""A handle outlives the call: the next one goes on where this one was."""

from __future__ import annotations

from duologue import Pipeline, Session
from duologue.frames import ConnectionChanged, ResumptionHandle
from duologue.services.google import GeminiLive
from duologue.testing import BareCall
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import Speak
from duologue.transports.memory import MemoryTransport


async def type_in_a_call(server: ScriptedGemini, text: str, handle: str = "") -> tuple[str, list[str]]:
    """Type a text and hear the answer. Returns the latest handle, and how the engine knew the conversation."""
    engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context, handle=handle)
    transport = MemoryTransport()
    async with BareCall(Session(Pipeline([transport.input(), engine, transport.output()]))) as call:
        await call.types(text)
        await call.settles()
    assert call.outcome.error is None
    known = [change.how for change in call.came(ConnectionChanged) if change.state == "active"]
    return call.came(ResumptionHandle)[-1].handle, known


async def test_the_next_call_goes_on_where_this_one_was() -> None:
    async with ScriptedGemini([[Speak("Hello, Ada.")], [Speak("You are Ada.")]]) as server:
        handle, known = await type_in_a_call(server, "My name is Ada.")
        assert known == ["fresh"]
        _, known = await type_in_a_call(server, "What is my name?", handle)
        assert known == ["resumed by handle"]
        assert server.got[1].handle == handle
        assert [message.text for message in server.got[1].history] == [
            "My name is Ada.",
            "Hello, Ada.",
            "What is my name?",
            "You are Ada.",
        ]


async def test_a_handle_that_is_refused_is_not_offered_again() -> None:
    async with ScriptedGemini([[Speak("Hello.")]], refuse_handles=True) as server:
        _, known = await type_in_a_call(server, "Hello.", "an old handle")
        assert known == ["fresh"]
        assert [got.handle for got in server.got] == ["an old handle", ""]
