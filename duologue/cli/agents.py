"""The agents of the demo: a shop's reception and its billing department. They work without a network."""

from __future__ import annotations

from ..agents.agent import Agent
from ..agents.flow import Stage
from ..agents.tool import Tool
from ..services.local.dialogue import Rule, RuleBook, Rules

ORDERS = {4567: ("on its way", "tomorrow"), 1234: ("packed", "on Friday")}


async def get_order(order: int) -> dict[str, str]:
    """Look up where an order is.

    Args:
        order: The number of the order.
    """
    if order not in ORDERS:
        return {"error": f"there is no order {order}"}
    status, arrival = ORDERS[order]
    return {"status": status, "arrival": arrival}


RECEPTION = Rules(
    [
        Rule("(hello|hi|good morning) [there]", "Hello! What can I do for you?"),
        Rule(
            ["[hello] where is my order", "my order [number] is {order:number}", "my order number is {order:number}"],
            ask={"order:number": "I can look that up. What is your order number?"},
            call="get_order",
            args={"order": "{order}"},
            then="Order {order} is {result[status]} and arrives {result[arrival]}. Anything else?",
        ),
        Rule(
            "(what are your|tell me [about] your) opening hours",
            "We are open from Monday to Friday, from nine in the morning until six in the evening. On Saturdays we "
            "open at ten and close at four in the afternoon. On Sundays and on public holidays we are closed, except "
            "in December, when we open at noon for those who still look for a present.",
        ),
        Rule(
            ["I have a question about my bill", "[can I] speak to billing [please]"],
            call="handoff_conversation",
            args={
                "target": "Billing",
                "reason": "The caller asks about a bill.",
                "summary": "The caller was served by reception and said: {utterance}",
            },
        ),
        Rule(["[okay] thank you [that is enough]", "stop", "wait"], "All right. What else can I do for you?"),
        Rule("[thank you] goodbye", "Goodbye, and thank you for calling."),
    ],
    fallback="Sorry, I did not catch that.",
)

BILLING_RULES = [
    Rule("how much do I owe", "You owe forty two dollars. It is due on Friday."),
    Rule("can I pay next week", "Of course. I have moved the date to next Wednesday."),
    Rule("(hello|hi)", "Hello again! You are speaking with billing."),
    Rule(
        ["[can I] speak to reception [please]", "where is my order"],
        call="handoff_conversation",
        args={
            "target": "Reception",
            "reason": "Not about a bill.",
            "summary": "The caller was with billing and said: {utterance}",
        },
    ),
    Rule("[okay] thank you", "You are welcome. Anything else about your bill?"),
    Rule("[thank you] goodbye", "Goodbye, and have a good day."),
]

BILLING = Rules(
    BILLING_RULES,
    fallback="Sorry, I did not get that.",
    memory={"order": None},
)

RULES = RuleBook({"Receptionist": RECEPTION, "Billing clerk": BILLING})


def agents() -> list[Agent]:
    """Return both agents, each with its own voice."""
    return [
        Agent(
            name="Reception",
            role="Receptionist",
            description="Knows orders and opening hours.",
            scope="The shop, its orders and its opening hours.",
            instructions="Help callers of the shop. Be brief.",
            voice={"espeak": "en-us+f3", "openai": "marin", "gemini": "Kore"},
            tools=(Tool(get_order),),
            greeting="Hello, this is the corner shop. How can I help you?",
            farewell="One moment, I put you through to billing.",
        ),
        Agent(
            name="Billing",
            role="Billing clerk",
            description="Answers questions about bills and payments.",
            scope="Bills and payments only.",
            instructions="Help callers with their bills. Be brief.",
            voice={"espeak": "en-gb+m3", "openai": "cedar", "gemini": "Puck"},
            greeting="Hello, you are speaking with billing. What would you like to know?",
        ),
    ]


def stages() -> list[Stage]:
    """Return the flow's stages: reception first; billing may send the caller back."""
    return [
        Stage(phase="welcome", agent="Reception", next="billing"),
        Stage(phase="billing", agent="Billing", can_return_to={"welcome"}),
    ]
