"""Ten tests of the demo's agents in plain text: pytest examples/test_agents.py. With a model: llm="openai"."""

from __future__ import annotations

from typing import Any

from duologue import ToolError
from duologue.cli.agents import RULES, agents, stages
from duologue.services.local import RulesLLM
from duologue.testing import Chat, chat


def talk(**options: Any) -> Chat:
    """Return a chat with the shop's agents. They answer by rules here, without a network."""
    return chat(agents(), RulesLLM(RULES), flow=stages(), **options)


async def test_reception_greets() -> None:
    async with talk() as shop:
        shop.greeting.says("corner shop", "help you")


async def test_an_order_is_looked_up() -> None:
    async with talk() as shop:
        (await shop.say("Where is my order?")).says("order number")
        reply = await shop.say("4567")
        reply.called("get_order", order=4567)
        reply.says("on its way", "tomorrow")


async def test_an_unknown_order_is_said_to_be_unknown() -> None:
    async with talk() as shop:
        (await shop.say("My order number is 9999")).says("there is no order 9999")


async def test_another_answer_of_the_shops_system() -> None:
    async with talk(tools={"get_order": {"status": "lost", "arrival": "never"}}) as shop:
        (await shop.say("My order is 4567")).says("lost", "never")


async def test_the_shops_system_is_down() -> None:
    async with talk(tools={"get_order": ToolError("the system is down")}) as shop:
        (await shop.say("My order is 4567")).says("did not work")


async def test_opening_hours_need_no_tool() -> None:
    async with talk() as shop:
        reply = await shop.say("What are your opening hours?")
        reply.did_not_call()
        reply.says("Monday to Friday")


async def test_a_question_about_a_bill_goes_to_billing() -> None:
    async with talk() as shop:
        reply = await shop.say("I have a question about my bill")
        assert (reply.handoff, reply.agent) == ("Billing", "Billing")
        reply.says("put you through", "speaking with billing")
        (await shop.say("How much do I owe?")).says("forty two dollars")


async def test_billing_sends_orders_back() -> None:
    async with talk() as shop:
        await shop.say("Can I speak to billing")
        assert (await shop.say("Where is my order")).handoff == "Reception"


async def test_nonsense_is_not_understood() -> None:
    async with talk() as shop:
        assert (await shop.say("blue seven banana")).text == "Sorry, I did not catch that."


async def test_goodbye() -> None:
    async with talk() as shop:
        (await shop.say("Thank you, goodbye")).says("thank you for calling")
