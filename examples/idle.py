"""A caller who falls silent: the agent asks whether they are still there, and hangs up.

python -m examples.idle
"""

from __future__ import annotations

import anyio

from duologue import CallLimit, Endpointing, IdlePrompts, Interruption, MemoryTransport, Pipeline, Session, Vad
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline

RULES = [Rule("hello", "Hello! What can I do for you?")]


async def main() -> Session:
    """Say hello, and nothing more."""
    transport = MemoryTransport()
    life = [
        IdlePrompts("Are you still there?", "Hello?", after_s=6, farewell="I will hang up now. Goodbye."),
        CallLimit(600, farewell="We have to stop here. Goodbye."),
    ]
    ear = Vad(), Endpointing(), Interruption()
    session = Session(Pipeline([transport.input(), *ear, *life, offline(RULES), transport.output()]))
    async with Call(session, transport) as call:
        await call.asks("hello")
        outcome = await call.over()
    call.print()
    print(f"ended: {outcome.reason}")
    return session


if __name__ == "__main__":
    anyio.run(main)
