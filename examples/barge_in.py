"""A policy for interruptions: an "okay" does not interrupt the agent, two words do.

python -m examples.barge_in
"""

from __future__ import annotations

import anyio

from duologue import Endpointing, Interruption, InterruptionPolicy, MemoryTransport, Pipeline, Session, Vad
from duologue.processors.turns.evidence import Evidence
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline

POLICY = InterruptionPolicy(speaking=Evidence(min_words=2, resume_after_ms=1200))

RULES = [
    Rule(
        "tell me a story",
        "Once upon a time there was a king who had three daughters. The eldest was brave, the second was wise, and the "
        "youngest could talk with the birds of the forest and with the fish of the sea.",
    ),
    Rule("okay", "Yes?"),
    Rule("that is enough", "All right, I stop."),
]


async def story(words: str) -> Session:
    """Tell a story, while the caller says these words."""
    transport = MemoryTransport()
    turns = Vad(), Endpointing(), Interruption(POLICY)
    session = Session(Pipeline([transport.input(), *turns, offline(RULES), transport.output()]))
    async with Call(session, transport) as call:
        await call.says("tell me a story")
        await call.agent_begins()
        await call.waits(1.5)
        await call.says(words)
        await call.hears()
    call.print()
    return session


async def main() -> list[Session]:
    """Tell the same story twice: first with a backchannel, then with an interruption."""
    return [await story("okay"), await story("that is enough")]


if __name__ == "__main__":
    anyio.run(main)
