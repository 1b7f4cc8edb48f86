"""Recorded calls for the tests of replays: OpenAI Realtime with the real SDK over a real socket, and a tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duologue import Agent, Ear, Pipeline, Session, Tools
from duologue.frames import UserTranscript
from duologue.services.openai import OpenAIRealtime
from duologue.testing import Call, ScriptedOpenAI, clock
from duologue.testing.scripted.server import Act, CallTool, Speak
from duologue.trace import Trace
from duologue.transports.memory import MemoryTransport

ASKED: list[str] = []
"""The days for which the tool has run."""
CHECKED: list[str] = []
"""The transcripts that the hook has seen."""
SCRIPT: list[list[Act]] = [
    [CallTool("opening_hours", {"day": "Sunday"})],
    [Speak("From ten to six.")],
    [Speak("You are welcome.")],
]
TRANSCRIPTS = ["when are you open on Sunday", "thank you"]


async def opening_hours(day: str, session: Session) -> str:
    """Return the opening hours of a day."""
    ASKED.append(day)
    session.data["asked"] = day
    return "ten to six"


async def check(frame: UserTranscript) -> UserTranscript:
    """Note a transcript."""
    CHECKED.append(frame.text)
    return frame


def make_session(
    transport: Any, url: str = "http://127.0.0.1:9/v1", *, instructions: str = "You answer.", **options: Any
) -> Session:
    """Make the session of a call."""
    agent = Agent(name="Desk", instructions=instructions, tools=(opening_hours,))
    engine = OpenAIRealtime(api_key="test", base_url=url)
    session = Session(Pipeline([transport.input(), Ear(), engine, Tools(), transport.output()]), agent=agent, **options)
    session.intercept(UserTranscript, check)
    return session


def recorded(folder: Path, **options: Any) -> Path:
    """Record a call, and return its file."""
    trace = Trace(folder, **{"replay": True, **options})

    async def main() -> None:
        async with ScriptedOpenAI(SCRIPT, transcripts=TRANSCRIPTS) as server:
            transport = MemoryTransport(24_000)
            async with Call(make_session(transport, server.url, trace=trace), transport) as call:
                await call.asks(TRANSCRIPTS[0])
                call.session.playback.volume = 0.5
                await call.asks(TRANSCRIPTS[1])

    ASKED.clear()
    CHECKED.clear()
    clock.run(main)
    assert (ASKED, CHECKED) == (["Sunday"], TRANSCRIPTS)
    ASKED.clear()
    CHECKED.clear()
    return folder / f"{trace.call}.jsonl"
