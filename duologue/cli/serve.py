"""`duologue serve`: a server for agents, or for a pipeline of your own."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from ipaddress import ip_address
from types import FrameType
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
from ..telemetry import Telemetry
from ..telemetry.exporting import exporting
from ..trace import Store, Trace, open_store
from ..web import VoiceApp, WebLimits, openai_realtime_app, routes, token_auth
from ..web.auth import checked_token
from ..web.gc import settle_heap
from ..web.realtime.transport import RealtimeTransport
from ..web.rtvi.controls import ALL_CONTROLS, ControlName, checked_controls
from ..web.server import uvicorn_options
from .process_end import ProcessEnd
from .target import find_object

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
except ImportError as error:
    raise MissingExtra("a web server", "web", str(error)) from error

log = logging.getLogger("duologue")

EXPORT_S = 1.0
"""Seconds for the export of the last spans when the server stops: the process ends soon after its calls."""
KEY_VARIABLE = "DUOLOGUE_SERVER_KEY"


def run_serve(
    web: str,
    host: str,
    port: int,
    *,
    openai_realtime: str = "",
    page: bool = True,
    controls: str = "",
    client_may_configure: bool = False,
    image_addresses: bool = True,
    open_to_all: bool = False,
    allowed_origins: Sequence[str] = (),
    allowed_hosts: Sequence[str] = (),
    otel: bool = False,
    metrics: bool = False,
    traces: str = "",
) -> int:
    """Serve the targets `web` and `openai_realtime` (see `load`), until Ctrl-C or SIGTERM. Returns the exit code.

    Clients must send the key in DUOLOGUE_SERVER_KEY. Without it, a random one is printed with the address; a host
    beyond loopback is refused then. With `open_to_all` clients need none. Port 0 takes a free port. With `otel` spans
    and metrics are exported, with `metrics` they are served. `traces` is the address of the store in which the calls'
    traces are kept, "" for none. Raises ConfigurationError if there is nothing to serve, if a key is missing, or if the
    port is in use, and MissingExtra.
    """
    if not web and not openai_realtime:
        raise ConfigurationError("there is nothing to serve: name module:factory, or --openai-realtime module:object")
    stays: list[AbstractAsyncContextManager[Any]] = []
    limits = WebLimits()
    store = open_store(traces) if traces else None
    telemetry = exporting(opentelemetry=otel, prometheus=metrics) if otel or metrics else None
    if telemetry is not None:
        stays.append(_flushed(telemetry))
    make_call = load(openai_realtime, stays) if openai_realtime else None
    make_session = load(web, stays) if web else None
    with _listening(host, port) as listener:
        bound, port = listener.getsockname()[:2]
        loopback = ip_address(bound).is_loopback
        key, printed = _key(host, loopback=loopback, open_to_all=open_to_all)
        options: dict[str, Any] = {
            "limits": limits,
            "allowed_origins": allowed_origins,
            "allowed_hosts": _hosts(host, allowed_hosts) if loopback or allowed_hosts else None,
            "client_may_configure": client_may_configure,
            "image_addresses": image_addresses,
            "telemetry": telemetry,
        }
        if make_session is not None:
            voice = routes(
                make_session,
                auth=token_auth(key) if key else None,
                page=page,
                controls=_controls(controls),
                openai_realtime=make_call,
                **options,
            )
        else:
            assert make_call is not None
            voice = openai_realtime_app(make_call, api_key=key or None, **options)
        if store is not None:
            voice.calls.attach.append(partial(_traced, store))
        stays.append(voice.lifespan())
        _print_addresses(Console(highlight=False, soft_wrap=True), f"http://{_host(host)}:{port}", voice, printed)
        config = uvicorn.Config(
            Starlette(routes=[Mount("/", voice)], lifespan=_lifespan(stays)),
            **uvicorn_options(limits, openai_realtime=make_call is not None),
        )
        settle_heap()
        server = _CallServer(config, voice)
        server.run([listener])
        server.process_end.done()
    return 0 if server.started else 1


def _traced(store: Store, transport: Any, session: Session) -> None:
    """Keep the trace of a call, unless it has one."""
    if session.trace is None:
        session.trace = Trace(store)


def _key(host: str, *, loopback: bool, open_to_all: bool) -> tuple[str, str]:
    """Return the key that clients must send, "" for none, and its form in the printed address."""
    if (key := os.environ.get(KEY_VARIABLE)) is not None:
        return checked_token(key, KEY_VARIABLE), f"<{KEY_VARIABLE}>"
    if open_to_all:
        return "", ""
    if not loopback:
        raise ConfigurationError(
            f"anybody who reaches {host} could call at your expense: set {KEY_VARIABLE}, or say --open"
        )
    key = secrets.token_urlsafe(16)
    return key, key


def _hosts(host: str, allowed: Sequence[str]) -> list[str]:
    return [*allowed, *([host.lower()] if re.fullmatch(r"[\w-]+(\.[\w-]+)*", host) else [])]


def _controls(named: str) -> frozenset[ControlName]:
    names: Any = [name.strip() for name in named.split(",") if name.strip()]
    return ALL_CONTROLS if names == ["all"] else checked_controls(names)


class _CallServer(uvicorn.Server):
    """Ends the calls before it cuts the connections, and exits with success after a signal."""

    def __init__(self, config: uvicorn.Config, voice: VoiceApp) -> None:
        super().__init__(config)
        self._voice = voice
        self.process_end = ProcessEnd()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.process_end.begin()
        super().handle_exit(sig, frame)

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


@asynccontextmanager
async def _flushed(telemetry: Telemetry) -> AsyncIterator[None]:
    """Export the last spans and metrics when the server stops."""
    try:
        yield
    finally:
        if not await asyncio.to_thread(telemetry.flush, EXPORT_S):
            log.warning("the last spans and metrics were not exported within %g s", EXPORT_S)


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


def _print_addresses(console: Console, url: str, voice: VoiceApp, key: str) -> None:
    paths = {getattr(route, "path", "") for route in voice.routes}
    if "" in paths:
        console.print(f"Talk to it: {url}" + (f"/?token={key}" if key else ""), markup=False)
    if "/start" in paths:
        console.print(f"RTVI clients: {url}/start, or {url}/api/offer for WebRTC; {url}/ws for WebSockets", style="dim")
    if "/v1/realtime" in paths:
        console.print(
            f"OpenAI Realtime clients: base_url {url}/v1, or {url.replace('http', 'ws', 1)}/v1/realtime"
            + (f", api_key {key}" if key else ""),
            markup=False,
        )
    if "/metrics" in paths:
        console.print(f"Prometheus: {url}/metrics" + (f", bearer token {key}" if key else ""), markup=False)
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
    module, found = find_object(target)
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
