"""The agent that Pipecat's clients call in the tests: it has a tool here, and one that runs in the client."""

from __future__ import annotations

from duologue import Cascade, Pipeline, Session, Tools
from duologue.cli.agents import get_order
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.local import EspeakTTS, Rule, RulesLLM, SphinxSTT
from duologue.transports.client import ClientTransport
from duologue.web.rtvi.rtvi import ClientTool, of

GET_LOCATION = ClientTool(
    {
        "name": "get_location",
        "description": "Where the caller is.",
        "parameters": {"type": "object", "properties": {"exact": {"type": "boolean"}}},
    }
)
RULES = [
    Rule("what are your opening hours", "We are open from nine in the morning until five. On Sundays we are closed."),
    Rule(
        "where is my order",
        call="get_order",
        args={"order": "4567"},
        then="Order 4567 is {result[status]}.",
    ),
    Rule("where am I", call="get_location", args={"exact": "true"}, then="You are in {result[city]}."),
    Rule("goodbye", "Goodbye."),
]


def make_session(transport: ClientTransport) -> Session:
    """The session of a call."""
    llm = RulesLLM(RULES)
    client = of(transport)
    client.metrics = True
    client.on_client_message("who am I", lambda data: {"connection": transport.kind, "given": data})
    client.send_server_message({"welcome": transport.kind})
    return Session(
        Pipeline(
            [
                transport.input(),
                Vad(),
                Endpointing(),
                Interruption(),
                Cascade(SphinxSTT(phrases=llm.rules.expected_phrases()), llm, EspeakTTS()),
                Tools([get_order, GET_LOCATION]),
                transport.output(),
            ]
        )
    )
