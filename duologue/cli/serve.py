"""`duologue serve`: a server for agents, or for a pipeline of your own."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from rich.console import Console

from ..agents.agent import Agent
from ..errors import ConfigurationError, MissingExtra
from ..processors.handoff.handoff import Handoff
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor
from ..processors.tools import Tools
from ..processors.turns.endpointing import Endpointing
from ..processors.turns.interruption import Interruption
from ..processors.turns.vad import Vad
from ..session.session import Session
from ..web import VoiceApp, WebLimits, openai_realtime_app, routes, token_auth
from ..web.gc import settle_heap
from ..web.realtime.transport import RealtimeTransport

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
except ImportError as error:
    raise MissingExtra("a web server", "web", str(error)) from error

KEY_VARIABLE = "DUOLOGUE_SERVER_KEY"
PING_INTERVAL_S = 3.0
PING_TIMEOUT_S = 4.0
"""Seconds within which a WebSocket client must answer a ping; a client that does not is lost."""


def run_serve(
    web: str,
    host: str,
    port: int,
    *,
    openai_realtime: str = "",
    page: bool = True,
    client_may_configure: bool = False,
    api_key: str = "",
) -> int:
    """Serve the targets `web` and `openai_realtime` (see `load`), until Ctrl-C or SIGTERM. Returns the exit code.

    Port 0 takes a free port. Raises ConfigurationError if there is nothing to serve, or if the port is in use.
    """
    if not web and not openai_realtime:
        raise ConfigurationError("there is nothing to serve: name module:factory, or --openai-realtime module:object")
    key = api_key or os.environ.get(KEY_VARIABLE, "")
    console = Console(highlight=False, soft_wrap=True)
    stays: list[AbstractAsyncContextManager[Any]] = []
    limits = WebLimits()
    make_call = load(openai_realtime, stays) if openai_realtime else None
    if web:
        voice = routes(
            load(web, stays),
            auth=token_auth(key) if key else None,
            limits=limits,
            page=page,
            openai_realtime=make_call,
            client_may_configure=client_may_configure,
        )
    else:
        assert make_call is not None
        voice = openai_realtime_app(
            make_call, api_key=key or None, limits=limits, client_may_configure=client_may_configure
        )
    stays.append(voice.lifespan())
    with _listening(host, port) as listener:
        _print_addresses(
            console, f"http://{_host(host)}:{listener.getsockname()[1]}", bool(web), page, bool(openai_realtime), key
        )
        config = uvicorn.Config(
            Starlette(routes=[Mount("/", voice)], lifespan=_lifespan(stays)),
            log_level="warning",
            access_log=False,  # its lines would contain the tokens of query strings
            ws_max_size=limits.realtime_message_bytes if openai_realtime else limits.message_bytes,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=PING_TIMEOUT_S,
            ws_per_message_deflate=False,  # audio does not compress
            timeout_graceful_shutdown=round(limits.shutdown_s),
        )
        settle_heap()
        server = _CallServer(config, voice)
        server.run([listener])
    return 0 if server.started else 1


class _CallServer(uvicorn.Server):
    """Ends the calls before it cuts the connections, and exits with success after a signal."""

    def __init__(self, config: uvicorn.Config, voice: VoiceApp) -> None:
        super().__init__(config)
        self._voice = voice

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._voice.calls.shutdown()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _lifespan(stays: Iterable[AbstractAsyncContextManager[Any]]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for stay in stays:
                await stack.enter_async_context(stay)
            yield

    return lifespan


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The protocol is named, because asyncio turns Nagle's algorithm off only for sockets that say they are TCP.
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
            yield listener
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _host(host: str) -> str:
    """Return the host as a part of a URL that a browser can open."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _print_addresses(console: Console, url: str, web: bool, page: bool, openai_realtime: bool, key: str) -> None:
    if web and page:
        console.print(f"Talk to it: {url}" + (f"/?token=<{KEY_VARIABLE}>" if key else ""), markup=False)
    if web:
        console.print(f"RTVI clients: {url}/start, or {url}/api/offer for WebRTC; {url}/ws for WebSockets", style="dim")
    if openai_realtime:
        console.print(f"OpenAI Realtime clients: base_url {url}/v1, or {url.replace('http', 'ws', 1)}/v1/realtime")
    if not key:
        console.print(f"Anybody who reaches this port may call. Set {KEY_VARIABLE} to ask for a key.", style="dim")


def load(target: str, stays: list[AbstractAsyncContextManager[Any]] | None = None) -> Callable[[Any], Any]:
    """Return the function that makes the calls, from "module:object".

    The object is a function (`def` or `async def`) that takes the call's transport and returns a `Session` or a
    `Pipeline`, or agents: a list of `Agent`, or a function without parameters that returns one. Agents are served
    offline: they answer by the `RULES` of the same module, with its `stages`, if it has any, as the flow. An object
    that is also an async context manager is appended to `stays`, to be open while the server runs. Raises
    ConfigurationError for a target that cannot be found or served.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f"{target!r} names nothing to serve: write module:object")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the working directory
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"there is no module {error.name!r}") from error
    found: Any = getattr(module, name, None)
    if found is None:
        raise ConfigurationError(f"module {module_name!r} has no {name!r}")
    if stays is not None and hasattr(found, "__aenter__"):
        stays.append(found)
    if callable(found) and inspect.signature(found).parameters:
        return lambda transport: _session_of(found, transport)
    get_agents = found if callable(found) else lambda: found
    _check_agents(get_agents(), target)
    return _offline(get_agents, module, target)


async def _session_of(make: Callable[[Any], Any], transport: Any) -> Session:
    made = make(transport)
    if isinstance(made, Awaitable):
        made = await made
    return made if isinstance(made, Session) else Session(made)


def _check_agents(found: Any, target: str) -> None:
    if not isinstance(found, Sequence) or not found or not all(isinstance(agent, Agent) for agent in found):
        raise ConfigurationError(f"{target} is {type(found).__name__}: a list of agents or a function is needed")


def _offline(get_agents: Callable[[], Iterable[Agent]], module: Any, target: str) -> Callable[[Any], Session]:
    """Return a function that makes calls of these agents with the offline services."""
    from ..services.cascade import Cascade
    from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
    from ..services.local.dialogue import RuleBook, Rules

    rules, stages = getattr(module, "RULES", None), getattr(module, "stages", None)
    if not isinstance(rules, Rules | RuleBook):
        raise ConfigurationError(
            f"{target}: its module has no RULES to answer by, and a model needs a key: serve a function that takes "
            "the transport and returns a Session with a model of your choice"
        )
    phrases = rules.expected_phrases()

    def make_call(transport: Any) -> Session:
        flow = stages() if callable(stages) else stages
        turns: list[Processor] = [Vad(), Endpointing(), Interruption()]
        client_tools: list[Processor] = []
        if isinstance(transport, RealtimeTransport):
            turns, client_tools = [transport.turns()], [transport.client_tools()]
        return Session(
            Pipeline(
                [
                    transport.input(),
                    *turns,
                    Cascade(SphinxSTT(phrases=phrases), RulesLLM(rules), EspeakTTS()),
                    *client_tools,
                    Handoff(get_agents(), flow),
                    Tools(),
                    transport.output(),
                ]
            )
        )

    return make_call
