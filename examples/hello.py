"""The smallest voice agent: it listens, thinks and speaks. No key, no network.

    python -m examples.hello

A simulated caller says hello. Replace `MemoryTransport` by `LocalAudioTransport` to speak yourself.
"""

from __future__ import annotations

import anyio

from duologue import Cascade, Endpointing, Interruption, MemoryTransport, Pipeline, Session, Vad
from duologue.services.local import EspeakTTS, Rule, RulesLLM, SphinxSTT
from duologue.testing import Call

RULES = [
    Rule("(hello|hi|good morning) [there]", "Hello! Nice to hear you."),
    Rule("what can you do", "I can hear you, and I can speak."),
]


async def main() -> Session:
    """Hold the call."""
    transport = MemoryTransport()
    llm = RulesLLM(RULES)
    stt = SphinxSTT(phrases=llm.rules.expected_phrases())
    session = Session(
        Pipeline(
            [
                transport.input(),
                Vad(),
                Endpointing(),
                Interruption(),
                Cascade(stt, llm, EspeakTTS()),
                transport.output(),
            ]
        )
    )
    async with Call(session, transport) as call:
        await call.asks("hello")
        await call.asks("what can you do")
    call.print()
    return session


if __name__ == "__main__":
    anyio.run(main)
