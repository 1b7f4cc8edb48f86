"""What it takes to interrupt: with this policy an "okay" does not, two words do.

python -m examples.barge_in
"""

from __future__ import annotations

import anyio

from duologue import Agent, Session
from duologue.processors.turns.interruption import InterruptionPolicy
from duologue.services.local import Rule
from examples.phone import phone_call

POLICY = InterruptionPolicy(min_speech_ms=200, min_words=2, resume_after_ms=1200)

RULES = [
    Rule(
        "tell me a story",
        "Once upon a time there was a king who had three daughters. The eldest was brave, the second was wise, and the "
        "youngest could talk with the birds of the forest and with the fish of the sea.",
    ),
    Rule("okay", "Yes?"),
    Rule("that is enough", "All right, I stop."),
]


async def main() -> list[Session]:
    """The same story twice: first with a murmur of assent, then with an interruption."""
    return [
        await phone_call(RULES, [Agent(name="Teller")], ["tell me a story"], policy=POLICY, barge_in=words)
        for words in ("okay", "that is enough")
    ]


if __name__ == "__main__":
    anyio.run(main)
