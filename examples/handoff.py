"""Two agents: the first hands the call over to the second in mid-call.

python -m examples.handoff
"""

from __future__ import annotations

import anyio

from duologue import Agent, Endpointing, Handoff, Interruption, MemoryTransport, Pipeline, Session, Tools, Vad
from duologue.services.local import Rule, RuleBook, Rules
from duologue.testing import Call

from .offline import offline

RECEPTION = Agent(
    name="Reception",
    role="Receptionist",
    description="Greets callers and finds out what they need.",
    instructions="Greet the caller. Under 30 words.",
    voice="en-us+f3",
)
BILLING = Agent(
    name="Billing",
    role="Billing clerk",
    description="Knows everything about bills.",
    instructions="Answer questions about bills. The caller owes forty two dollars.",
    voice="en-gb+m3",
    greeting="This is billing. What is your question?",
)

MOVE = {"target": "Billing", "reason": "A bill.", "summary": "The caller said: {utterance}"}
GREET = Rule("hello", "Hello! How can I help you?")
TRANSFER = Rule("[can i] speak to billing [please]", call="handoff_conversation", args=MOVE)
OWE = Rule("how much do I owe", "You owe forty two dollars.")
RULES = RuleBook({"Receptionist": Rules([GREET, TRANSFER]), "Billing clerk": Rules([OWE])})
LINES = "hello", "can I speak to billing please", "how much do I owe"


async def main() -> Session:
    """Talk to reception, then to billing."""
    transport = MemoryTransport()
    turns = Vad(), Endpointing(), Interruption()
    handoff = Handoff([RECEPTION, BILLING])
    session = Session(Pipeline([transport.input(), *turns, offline(RULES), handoff, Tools(), transport.output()]))
    async with Call(session, transport) as call:
        for line in LINES:
            await call.asks(line)
    call.print()
    return session


if __name__ == "__main__":
    anyio.run(main)
