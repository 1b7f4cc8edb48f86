"""`duologue serve`: agents, or a pipeline of your own, as a server."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from ..errors import ConfigurationError, MissingExtra
from ..processors.agent import Agent
from ..processors.handoff import Handoff
from ..processors.pipeline import Pipeline
from ..processors.tools import Tools
from ..session.session import Session
from ..web.openai_realtime import MakeCall, RealtimeLimits, openai_realtime_app
from ..web.realtime_transport import RealtimeTransport

KEY_VARIABLE = "DUOLOGUE_SERVER_KEY"


def run_serve(target: str, host: str, port: int, *, api_key: str = "", client_may_configure: bool = False) -> int:
    """Serve what `target` names until Ctrl-C. Returns the exit code."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("a web server", "web", str(error)) from error
    key = api_key or os.environ.get(KEY_VARIABLE)
    app = openai_realtime_app(load(target), api_key=key, client_may_configure=client_may_configure)
    console = Console()
    console.print(f"OpenAI Realtime clients: base_url http://{host}:{port}/v1, or ws://{host}:{port}/v1/realtime")
    if not key:
        console.print(f"Anybody who reaches this port may call. Set {KEY_VARIABLE} to ask for a key.", style="dim")
    # With the SDKs loaded a full collection takes 100 ms, in which all calls stand still: what is here now stays.
    gc.collect()
    gc.freeze()
    uvicorn.run(app, host=host, port=port, log_level="warning", ws_max_size=RealtimeLimits().message_bytes)
    return 0


def load(target: str) -> MakeCall:
    """What makes the calls, from "module:object".

    The object is a function that takes the call's `RealtimeTransport` and gives a `Session` (or a `Pipeline`, and may
    be `async def`), or it is agents: a list of `Agent`, or a function without parameters that gives one. Agents are
    served offline: the `RULES` of the same module say what they answer, its `stages` (if there are any) the flow.
    Raises ConfigurationError for what cannot be found or served.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f"{target!r} names nothing to serve: write module:object")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the directory where the command is given
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"there is no module {error.name!r}") from error
    found = getattr(module, name, None)
    if found is None:
        raise ConfigurationError(f"module {module_name!r} has no {name!r}")
    if callable(found) and inspect.signature(found).parameters:
        return lambda transport: _session(found, transport)
    get_agents = found if callable(found) else lambda: found
    _check_agents(get_agents(), target)
    return _offline(get_agents, module, target)


async def _session(make: Callable[[RealtimeTransport], Any], transport: RealtimeTransport) -> Session:
    made = make(transport)
    if isinstance(made, Awaitable):
        made = await made
    return made if isinstance(made, Session) else Session(made)


def _check_agents(found: Any, target: str) -> None:
    if not isinstance(found, Sequence) or not found or not all(isinstance(agent, Agent) for agent in found):
        raise ConfigurationError(f"{target} is {type(found).__name__}: a list of agents or a function is needed")


def _offline(get_agents: Callable[[], Iterable[Agent]], module: Any, target: str) -> MakeCall:
    """Calls of agents with the offline services."""
    from ..services.cascade import Cascade
    from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
    from ..services.local.dialogue import RuleBook, Rules

    rules, stages = getattr(module, "RULES", None), getattr(module, "stages", None)
    if not isinstance(rules, Rules | RuleBook):
        raise ConfigurationError(
            f"{target}: its module has no RULES to answer by, and a model needs a key: serve a function that takes "
            "the transport and gives a Session with a model of your choice"
        )
    phrases = rules.expected_phrases()

    def make_call(transport: RealtimeTransport) -> Session:
        flow = stages() if callable(stages) else stages
        return Session(
            Pipeline(
                [
                    transport.input(),
                    transport.turns(),
                    Cascade(SphinxSTT(phrases=phrases), RulesLLM(rules), EspeakTTS()),
                    transport.client_tools(),
                    Handoff(get_agents(), flow),
                    Tools(),
                    transport.output(),
                ]
            )
        )

    return make_call
