"""A processor of your own: it lowers the agent's voice.

python -m examples.own_processor
"""

from __future__ import annotations

import anyio

from duologue import Endpointing, Interruption, MemoryTransport, Pipeline, Processor, Session, Vad, handles
from duologue.frames import BotAudio, BotStoppedSpeaking
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline


class Softer(Processor):
    """Lowers the agent's voice, and reports the seconds of audio."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.seconds = 0.0

    @handles(BotAudio)
    async def scale(self, frame: BotAudio) -> None:
        """Push a quieter copy on; the frame itself is immutable."""
        self.seconds += frame.duration_s
        await self.push(frame.scaled(self.gain))

    @handles(BotStoppedSpeaking)
    def report(self, signal: BotStoppedSpeaking) -> None:
        """Print the softened seconds. A signal's handler may be a plain function: it runs at once."""
        print(f"        softened {self.seconds:.1f} s")


async def main() -> Session:
    """Ask, and hear the answer at a third of its level."""
    transport = MemoryTransport()
    turns = Vad(), Endpointing(), Interruption()
    engine = offline([Rule("hello", "Hello! Is this quiet enough?")])
    session = Session(Pipeline([transport.input(), *turns, engine, Softer(0.33), transport.output()]))
    async with Call(session, transport) as call:
        await call.asks("hello")
    call.print()
    return session


if __name__ == "__main__":
    anyio.run(main)
