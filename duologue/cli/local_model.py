"""A speech-to-speech model without a network: the offline services behind OpenAI's Realtime API, on loopback.

    duologue serve --openai-realtime duologue.cli.local_model:model --client-may-configure --open

Then `OpenAIRealtime(base_url="http://127.0.0.1:8765/v1")` is a native engine that needs no key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..processors.pipeline import Pipeline
from ..processors.tools import Tools
from ..services.cascade import Cascade
from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
from ..services.local.dialogue import Dialogue
from ..session.session import Session
from ..testing import websocket
from ..web import WebLimits, openai_realtime_app
from ..web.realtime.endpoint import MakeCall
from ..web.realtime.transport import RealtimeTransport
from .agents import RULES

VOICE_ALIASES = {"marin": "en-us+f3", "cedar": "en-gb+m3"}
"""OpenAI's voices, each with the espeak-ng voice that replaces it."""


def model_by(rules: Dialogue) -> MakeCall:
    """Return a model that follows its client's instructions as far as these rules can."""
    phrases = rules.expected_phrases()

    def make_call(transport: RealtimeTransport) -> Session:
        return Session(
            Pipeline(
                [
                    transport.input(),
                    transport.turns(),
                    Cascade(SphinxSTT(phrases=phrases), RulesLLM(rules), EspeakTTS(aliases=VOICE_ALIASES)),
                    transport.client_tools(),
                    Tools(),
                    transport.output(),
                ]
            )
        )

    return make_call


model = model_by(RULES)
"""Makes a call with the demo's model."""


@asynccontextmanager
async def serving(
    make_call: MakeCall = model, *, client_may_configure: bool = True, **options: Any
) -> AsyncIterator[str]:
    """Serve the OpenAI Realtime API in this event loop; `options` go to `openai_realtime_app`. Yields the base URL."""
    app = openai_realtime_app(make_call, client_may_configure=client_may_configure, **options)
    async with websocket.serving(app, ws_max_size=WebLimits().realtime_message_bytes) as address:
        yield f"http://{address}/v1"
