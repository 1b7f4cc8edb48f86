"""Recorded calls for the tests of traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from duologue.agents.tool import Tool
from duologue.processors.tools import Tools
from duologue.testing import clock
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.trace import Trace
from duologue.transports.memory import MemoryTransport
from tests.services.story import Story, asks, story


def weather(city: str) -> dict[str, str]:
    """The weather in a city."""
    return {"city": city, "sky": "heavy clouds"}


def cascade(trace: Trace, **options: Any) -> Story:
    """A call with a tool, in which the caller asks for the weather."""
    return story(
        MemoryTransport().output(),
        Tools([Tool(weather)]),
        llm=MockLLM([asks("weather", city="Pune"), "It is cloudy in Pune today."]),
        tts=MockTTS(seconds_per_sentence=1.0),
        trace=trace,
        **options,
    )


async def asked(call: Story) -> None:
    """The caller asks, hears the answer, asks again and interrupts."""
    await call.says(0.6)
    await anyio.sleep(2.5)
    await call.says(0.6)
    await anyio.sleep(0.8)
    call.session.interrupt()
    await anyio.sleep(0.5)


def recorded(folder: Path | str, *, id: str = "", **options: Any) -> Path:
    """Record a call in a folder, and return its file. In another store, the file's name is that of the call."""
    trace = Trace(folder, **options)

    async def main() -> None:
        async with cascade(trace, id=id) as call:
            await asked(call)

    clock.run(main)
    return Path(folder) / f"{trace.call}.jsonl"
