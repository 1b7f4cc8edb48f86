"""One program, three engines: only the choice of the engine differs.

python -m examples.engines --engine cascade
OPENAI_API_KEY=... python -m examples.engines --engine openai
GEMINI_API_KEY=... python -m examples.engines --engine gemini
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import anyio

from duologue import Endpointing, Handoff, Interruption, MemoryTransport, Pipeline, Processor, Session, Tools, Vad
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.testing import Call

from .handoff import BILLING, LINES, RECEPTION, RULES
from .offline import offline

AGENTS = (
    replace(RECEPTION, voice={"espeak": "en-us+f3", "openai": "marin", "gemini": "Kore"}),
    replace(BILLING, voice={"espeak": "en-gb+m3", "openai": "cedar", "gemini": "Puck"}),
)
"""Agents with a voice for each family of voices, so that any of the engines can serve them."""
ENGINES: dict[str, Callable[[], Processor]] = {
    "cascade": lambda: offline(RULES),
    "openai": OpenAIRealtime,
    "gemini": GeminiLive,
}


async def main(name: str = "cascade", made: Processor | None = None) -> Session:
    """Make a call from reception to billing."""
    transport, engine = MemoryTransport(), made or ENGINES[name]()
    turns, handoff = (Vad(), Endpointing(), Interruption()), Handoff(AGENTS)
    session = Session(Pipeline([transport.input(), *turns, engine, handoff, Tools(), transport.output()]))
    async with Call(session, transport) as call:
        for line in LINES:
            await call.asks(line)
    call.print()
    return session


if __name__ == "__main__":
    (parser := argparse.ArgumentParser()).add_argument("--engine", choices=ENGINES, default="cascade")
    anyio.run(main, parser.parse_args().engine)
