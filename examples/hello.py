"""The smallest voice agent: it listens, thinks and speaks. No key, no network.

    python -m examples.hello

A simulated caller says hello. Put `LocalAudioTransport` in the place of `MemoryTransport` to say it yourself.
"""

from __future__ import annotations

import anyio

from duologue import Cascade, Pipeline, Session
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.local import EspeakTTS, Rule, RulesLLM, SphinxSTT
from duologue.testing.caller import SimulatedCaller
from duologue.testing.script import converse
from duologue.transports.memory import MemoryTransport

RULES = [
    Rule("(hello|hi|good morning) [there]", "Hello! Nice to hear you."),
    Rule("what can you do", "I can hear you, and I can speak."),
]


async def main() -> Session:
    """Hold the call."""
    transport = MemoryTransport()
    llm = RulesLLM(RULES)
    session = Session(
        Pipeline(
            [
                transport.input(),
                Vad(),
                Endpointing(),
                Interruption(),
                Cascade(SphinxSTT(phrases=llm.rules.expected_phrases()), llm, EspeakTTS()),
                transport.output(),
            ]
        )
    )
    caller = SimulatedCaller(transport)

    async def script() -> None:
        for line in ("hello", "what can you do"):
            await caller.say(line)
            await caller.listen()

    await converse(session, script)
    for item in session.conversation:
        print(f"{item.at:6.2f}  {item.role}: {item.text}")
    return session


if __name__ == "__main__":
    anyio.run(main)
