"""An answer that has come whole is not broken off by the loss of the connection it came on."""

from __future__ import annotations

from duologue import Pipeline, Session
from duologue.services.google import GeminiLive
from duologue.testing import BareCall
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import Speak
from duologue.transports.memory import MemoryTransport


async def test_it_is_heard_to_its_end_and_not_continued() -> None:
    story = "Once upon a time there was a king who had three daughters."
    async with ScriptedGemini([[Speak(story, seconds=4.0)]]) as server:
        engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        transport = MemoryTransport()
        async with BareCall(Session(Pipeline([transport.input(), engine, transport.output()]))) as call:
            await call.types("Tell me a story.")
            await call.waits(1.0)
            server.connections[0].close(0)
            await call.waits(8.0)
        told = [(item.text, item.status) for item in call.session.conversation if item.role == "agent"]
        assert told == [(story, "complete")]
        assert len(server.got) == 2
        assert not any("Go on" in str(message) for message in server.got[1].messages)
