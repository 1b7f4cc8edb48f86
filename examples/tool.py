"""A tool: a plain function that the agent calls in the middle of the conversation.

python -m examples.tool
"""

from __future__ import annotations

import anyio

from duologue import Agent, Session, Tool
from duologue.services.local import Rule
from examples.phone import phone_call

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
    """The caller asks twice, the first time without saying where."""
    return await phone_call(RULES, [WEATHERMAN], ["what is the weather", "london", "what is the weather in paris"])


if __name__ == "__main__":
    anyio.run(main)
