"""A tool: a plain function that the agent calls in the middle of the conversation.

python -m examples.tool
"""

from __future__ import annotations

import anyio

from duologue import Agent, Endpointing, Interruption, MemoryTransport, Pipeline, Session, Tool, Tools, Vad
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline

TEMPERATURES = {"paris": 21, "london": 17}


async def get_weather(city: str) -> dict[str, int]:
    """Look up the weather.

    Args:
        city: The name of a city.
    """
    return {"temperature": TEMPERATURES[city]}


WEATHERMAN = Agent(name="Weather", instructions="Tell the weather.", tools=(Tool(get_weather),))

RULES = [
    Rule(
        "what is the weather [in {city:paris|london}]",
        ask={"city": "In which city?"},
        call="get_weather",
        args={"city": "{city}"},
        then="It is {result[temperature]} degrees in {city}.",
    )
]


async def main() -> Session:
    """Let the caller ask twice, the first time without a city."""
    transport = MemoryTransport()
    turns = Vad(), Endpointing(), Interruption()
    pipeline = Pipeline([transport.input(), *turns, offline(RULES), Tools(), transport.output()])
    session = Session(pipeline, agent=WEATHERMAN)
    async with Call(session, transport) as call:
        for line in ("what is the weather", "london", "what is the weather in paris"):
            await call.asks(line)
    call.print()
    return session


if __name__ == "__main__":
    anyio.run(main)
