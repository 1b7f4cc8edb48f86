"""One program, three engines: nothing in it depends on which one it is.

python -m examples.engines --engine cascade
OPENAI_API_KEY=... python -m examples.engines --engine openai
GEMINI_API_KEY=... python -m examples.engines --engine gemini
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import anyio

from duologue import Agent, Processor, Session
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from examples.handoff import RULES
from examples.offline import offline
from examples.phone import phone_call

RECEPTION = Agent(
    name="Reception",
    role="Receptionist",
    description="Greets callers and finds out what they need.",
    instructions="Greet the caller. Under 30 words.",
    voice={"espeak": "en-us+f3", "openai": "marin", "gemini": "Kore"},
)
BILLING = Agent(
    name="Billing",
    role="Billing clerk",
    description="Knows everything about bills.",
    instructions="Answer questions about bills. The caller owes forty two dollars.",
    voice={"espeak": "en-gb+m3", "openai": "cedar", "gemini": "Puck"},
    greeting="This is billing. What is your question?",
)
ENGINES: dict[str, Callable[[], Processor]] = {
    "cascade": lambda: offline(RULES),
    "openai": OpenAIRealtime,
    "gemini": GeminiLive,
}


async def main(engine: str = "cascade", made: Processor | None = None) -> Session:
    """A call from reception to billing."""
    lines = ["hello", "can I speak to billing please", "how much do I owe"]
    return await phone_call(RULES, [RECEPTION, BILLING], lines, engine=made or ENGINES[engine]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=ENGINES, default="cascade")
    anyio.run(main, parser.parse_args().engine)
