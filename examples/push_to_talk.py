"""A caller who holds a button while they speak: a pause ends nothing, and a press interrupts the agent.

python -m examples.push_to_talk
"""

from __future__ import annotations

import anyio

from duologue import Endpointing, Interruption, MemoryTransport, Pipeline, Session, Vad
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline

RULES = [
    Rule("hello", "Hello! Hold the button while you speak."),
    Rule("what can you do", "I can hear you, and I can speak."),
]


async def main() -> Session:
    """Speak without the button, then with it."""
    transport = MemoryTransport()
    ear = Vad(), Endpointing(), Interruption()
    session = Session(Pipeline([transport.input(), *ear, offline(RULES), transport.output()]), mode="push_to_talk")
    async with Call(session, transport) as call:
        await call.says("what can you do")  # not heard: the button is not pressed
        session.talk(True)
        await call.says("hello")
        session.talk(False)
        await call.settles()
    call.print()
    print(f"not heard: {session.microphone.dropped_s:.1f} s")
    return session


if __name__ == "__main__":
    anyio.run(main)
