"""Two agents: the first hands the call over to the second, in the middle of it.

python -m examples.handoff
"""

from __future__ import annotations

import anyio

from duologue import Agent, Session
from duologue.services.local import Rule, RuleBook, Rules
from examples.phone import phone_call

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
    instructions="Answer questions about bills.",
    voice="en-gb+m3",
    greeting="This is billing. What is your question?",
)

RULES = RuleBook(
    {
        "Receptionist": Rules(
            [
                Rule("hello", "Hello! How can I help you?"),
                Rule(
                    "[can i] speak to billing [please]",
                    call="handoff_conversation",
                    args={"target": "Billing", "reason": "A bill.", "summary": "The caller said: {utterance}"},
                ),
            ]
        ),
        "Billing clerk": Rules([Rule("how much do I owe", "You owe forty two dollars.")]),
    }
)


async def main() -> Session:
    """Reception, then billing."""
    return await phone_call(
        RULES, [RECEPTION, BILLING], ["hello", "can I speak to billing please", "how much do I owe"]
    )


if __name__ == "__main__":
    anyio.run(main)
