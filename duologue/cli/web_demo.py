"""The demo's agents for callers with a browser, as `make talk` serves them. No key, no network.

    duologue serve duologue.cli.web_demo:make_session

Each call begins on the cascade. The caller may move it to the native engine and back.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

from .. import Cascade, Handoff, Pipeline, Session, Switch, Tools
from ..agents.agent import Agent
from ..agents.tool import Tool
from ..errors import IllegalState
from ..frames import HandoffCompleted
from ..processors.turns.endpointing import Endpointing
from ..processors.turns.interruption import Interruption
from ..processors.turns.vad import Vad
from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
from ..services.local.dialogue import Rule, RuleBook, Rules
from ..services.openai import OpenAIRealtime
from ..transports.client import ClientTransport
from ..web.rtvi import rtvi
from ..web.rtvi.controls import ALL_CONTROLS
from .agents import BILLING_RULES, RECEPTION, agents, stages
from .local_model import model_by, serving

BILL = 42

BILLING = Rules(
    [
        Rule(
            "[can I have|I want] a refund [please]",
            call="refund",
            args={"dollars": str(BILL)},
            then="I have sent you {result[dollars]} dollars back. Anything else?",
        ),
        *BILLING_RULES,
    ],
    fallback="Sorry, I did not get that.",
    memory={"order": None},
    failed="I am sorry, I may not do that.",
)

THINGS_TO_SAY = {
    "Reception": (
        "Where is my order?",
        "My order number is four five six seven",
        "What are your opening hours?",
        "Can I speak to billing?",
    ),
    "Billing": ("How much do I owe?", "Can I pay next week?", "I want a refund", "Can I speak to reception?"),
}
"""Suggestions on the page: the recogniser knows only the phrases of the rules."""

RULES = RuleBook({"Receptionist": RECEPTION, "Billing clerk": BILLING})


async def refund(dollars: int) -> dict[str, int]:
    """Send money back to the caller. Somebody has to approve it.

    Args:
        dollars: How much.
    """
    return {"dollars": dollars}


def web_agents() -> list[Agent]:
    """Return the demo's agents. Billing can also refund money, if somebody approves it."""
    refunds = Tool(refund, needs_approval=True)
    return [replace(agent, tools=(refunds,)) if agent.name == "Billing" else agent for agent in agents()]


class WebDemo:
    """Makes the session of each call. It must stay open, because the native engine's model runs in it:

    async with WebDemo() as make_session: ...
    """

    def __init__(self) -> None:
        self._model: AbstractAsyncContextManager[str] | None = None
        self._url = ""

    async def __aenter__(self) -> WebDemo:
        if self._model is not None:
            raise IllegalState("the demo is open already")
        self._model = serving(model_by(RULES))
        self._url = await self._model.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        model, self._model = self._model, None
        if model is not None:
            await model.__aexit__(kind, error, trace)

    def __call__(self, transport: ClientTransport) -> Session:
        """Return the session of a call. Raises IllegalState if the demo is not open."""
        if self._model is None:
            raise IllegalState("the demo is not open: serve it, or enter it with `async with`")
        engines: dict[str, Any] = {
            "cascade": Cascade(SphinxSTT(phrases=RULES.expected_phrases()), RulesLLM(RULES), EspeakTTS()),
            "native": OpenAIRealtime(api_key="none", base_url=self._url),
        }
        session = Session(
            Pipeline(
                [
                    transport.input(),
                    Vad(),
                    Endpointing(),
                    Interruption(),
                    Switch(engines),
                    Handoff(web_agents(), stages()),
                    Tools(),
                    transport.output(),
                ]
            )
        )
        client = rtvi.of(transport)
        client.controls = ALL_CONTROLS  # the caller of the demo is its operator
        client.function_calls = "full"

        def hint(agent: str) -> None:
            client.send_server_message({"type": "duologue.hint", "phrases": THINGS_TO_SAY[agent]})

        hint("Reception")
        session.on(HandoffCompleted, lambda signal: hint(signal.target))
        return session


make_session = WebDemo()
