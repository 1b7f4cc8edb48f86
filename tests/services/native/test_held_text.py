"""Gemini 3.1 answers all text, so notes are held back until an answer is wanted: no result of a tool stays there."""

from __future__ import annotations

import anyio
import numpy as np

from duologue import Pipeline, Session, Tools
from duologue.agents.tool import Tool
from duologue.frames import EndOfTurn, SpeechStarted, SpeechStopped
from duologue.services.google import GeminiLive
from duologue.testing import BareCall
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak
from duologue.transports.memory import MemoryTransport


async def test_a_result_that_comes_while_the_caller_speaks_is_told_after_the_answer_to_that() -> None:
    def model(asked: Asked) -> list[Act]:
        if "42" in asked.said:
            return [Speak("The result is 42.")]
        return [CallTool("look")] if asked.said == "Look it up." else [Speak("Yes, I am here.")]

    async def look() -> int:
        """Look something up."""
        await anyio.sleep(1.5)
        return 42

    async with ScriptedGemini(model, transcripts=["are you there"], turn_detection="told") as server:
        engine = GeminiLive(
            "gemini-3.1-flash-live-preview", api_key="test", base_url=server.url, ssl_context=server.ssl_context
        )
        transport = MemoryTransport()
        tools = Tools([Tool(look, cancel_on_interruption=False)])
        session = Session(Pipeline([transport.input(), engine, tools, transport.output()]))

        async def microphone() -> None:
            while not transport.ended:
                transport.send(np.zeros(320, dtype="<i2").tobytes())
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks, BareCall(session) as call:
            tasks.start_soon(microphone)
            await call.types("Look it up.")
            await call.waits(1.0)
            session.interrupt()
            session.floor.caller_speaking = True
            transport.send_frame(SpeechStarted(at=session.now()))
            server.connections[0].begin_turn()
            await call.waits(1.0)  # the result comes meanwhile
            server.connections[0].end_turn()
            session.floor.caller_speaking = False
            transport.send_frame(SpeechStopped(at=session.now()))
            transport.send_frame(EndOfTurn(at=session.now()))
            await call.waits(8.0)
        said = [item.text for item in session.conversation if item.role == "agent" and item.kind == "message"]
        assert said == ["Yes, I am here.", "The result is 42."]
