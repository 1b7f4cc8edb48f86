"""Eager answers: the model and the voice begin before the end of the caller's turn is certain.

python -m examples.eager
"""

from __future__ import annotations

import anyio

from duologue import Cascade, Endpointing, Interruption, Vad
from duologue.session.latency import LatencyMeter
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

REMARK = "I lost my keys"
ANSWER = "I am sorry. Where did you have them last?"


async def ask(eager_ms: int) -> float:
    """Say something. Returns the milliseconds from the end of the caller's speech to the agent's first sound."""
    engine = Cascade(
        MockSTT([REMARK], interim_s=0.2),
        MockLLM([ANSWER], first_token_s=0.35),
        MockTTS(first_audio_s=0.15),
        eager_starts=2,  # the default: answers that may be begun in one turn of the caller
    )
    async with Call.through(Vad(), Endpointing(eager_ms=eager_ms), Interruption(), engine) as call:
        meter = LatencyMeter(call.session)
        await call.asks(REMARK)
    print(f"eager_ms={eager_ms}: the agent is heard after {meter.median_ms():.0f} ms")
    for used in call.session.usage.discarded.values():
        print(f"thrown away: {used.output_tokens} tokens and {used.characters} characters of {used.service}")
    return meter.median_ms()


async def main() -> list[float]:
    """Say the same twice: the answer begins at the end of the turn, or 250 ms after the caller's last word.

    A short statement may go on: its turn ends after a longer silence than a question, in which the answer is made.
    """
    return [await ask(0), await ask(250)]


if __name__ == "__main__":
    anyio.run(main)
