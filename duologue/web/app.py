"""`routes`: calls by WebRTC and WebSocket on any Starlette or FastAPI application.

app = FastAPI(lifespan=voice.lifespan)
app.mount("/voice", voice)          # where voice = duologue.web.routes(make_session, auth=token_auth("…"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from ..session.loop_watch import LoopWatch
from ..session.session import Session
from ..telemetry import Telemetry
from ..transports.client import ClientTransport
from . import metrics, signalling, sockets
from . import page as page_files
from .auth import Auth, token_auth
from .calls import Calls, MakeSession, OnEnded, WebLimits
from .gate import Admission, Gate
from .realtime.endpoint import MakeCall
from .realtime.endpoint import routes as realtime_routes
from .rtvi.controls import ControlName, checked_controls
from .rtvi.messages import RtviWords
from .rtvi.rtvi import Rtvi


class VoiceApp(Starlette):
    """An ASGI application that takes calls, to serve or to mount. `on_connected` also sets `make_session`:

    voice.on_connected = make_session
    voice.on_connected(make_session)
    @voice.on_connected
    """

    def __init__(self, calls: Calls, served: Sequence[BaseRoute], telemetry: Telemetry | None = None) -> None:
        super().__init__(routes=served, lifespan=self.lifespan, middleware=[Middleware(Gate, calls.admission)])
        self.calls = calls
        self._telemetry = telemetry

    @property
    def on_connected(self) -> Callable[[MakeSession], MakeSession]:
        """Set the function that makes the session of each client that connects."""

        def register(make_session: MakeSession) -> MakeSession:
            self.calls.make_session = make_session
            return make_session

        return register

    @on_connected.setter
    def on_connected(self, make_session: MakeSession) -> None:
        self.calls.make_session = make_session

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Take calls while the server runs, and end them when it stops. May be used again after that.

        Use this as the lifespan of the application on which the routes are mounted, or as a part of it. Without it,
        calls are cut off with the server. The log names code that blocks the event loop: see `LoopWatch`.
        """
        self.calls.begin()
        async with LoopWatch(told=self._telemetry.late if self._telemetry is not None else None):
            try:
                yield
            finally:
                await self.calls.shutdown()


def routes(
    make_session: MakeSession | None = None,
    *,
    on_ended: OnEnded | None = None,
    auth: Auth | None = None,
    limits: WebLimits | None = None,
    page: bool = True,
    controls: Collection[ControlName] = (),
    allowed_origins: Collection[str] = (),
    allowed_hosts: Collection[str] | None = None,
    ice_servers: Sequence[str] = (),
    public_candidates_only: bool = False,
    openai_realtime: MakeCall | None = None,
    client_may_configure: bool = False,
    image_addresses: bool = True,
    telemetry: Telemetry | None = None,
) -> VoiceApp:
    """Return an application for calls by WebRTC (small-webrtc's and FastRTC's signalling) and WebSocket, with a page.

    `make_session(transport)` returns the session or the pipeline of each client that connects. When a call has ended
    and its client knows it, `on_ended(session, outcome)` is called, a `def` or an `async def`, for work such as saving
    the conversation; it may take `Deadlines.farewell_s` seconds. `auth` is asked about each request before anything
    else (see `token_auth`). With `page` the page is served at the mount's root. `controls` are the rights of all
    clients beyond the conversation: see `duologue.web.rtvi.ControlName`, and `RtviClient.controls` for those of one
    client. `allowed_origins` are the origins of other pages that may call, `allowed_hosts` the names under which the
    server may be reached: see `Admission`. `ice_servers` are URLs (stun:…) for both ends. With `public_candidates_only`
    clients of WebRTC are not tried at addresses of private networks: right for a server whose clients come from the
    internet. With `openai_realtime`, clients of the OpenAI Realtime API are served as well; it makes their calls, as in
    `openai_realtime_app`. Without `image_addresses` clients give images as bytes, and nothing is fetched for them; for
    one client, `make_session` sets `transport.image_addresses`. `telemetry` follows all calls; with
    `Telemetry(prometheus=True)` their metrics are at /metrics, for clients that `auth` admits. Raises
    ConfigurationError for an unknown control, a malformed origin or host.
    """
    may = checked_controls(controls)
    admission = Admission(allowed_origins, allowed_hosts, keyed=auth is not None)
    calls = Calls(make_session, auth, limits or WebLimits(), admission)
    calls.image_addresses = image_addresses
    if on_ended is not None:
        calls.endings.add(on_ended)

    def attach_rtvi(transport: ClientTransport, session: Session) -> None:
        if isinstance(transport.words, RtviWords):
            Rtvi(transport, session, page=page, controls=may).attach()

    calls.attach.append(attach_rtvi)
    served = [
        *signalling.routes(calls, ice_servers, public_candidates_only=public_candidates_only),
        *sockets.routes(calls, cost="usage" in may),
        *_observed(calls, telemetry),
    ]
    if openai_realtime is not None:
        served += realtime_routes(calls, openai_realtime, client_may_configure)
    if page:
        served += page_files.routes()
    return VoiceApp(calls, served, telemetry)


def openai_realtime_app(
    make_call: MakeCall,
    *,
    on_ended: OnEnded | None = None,
    api_key: str | None = None,
    limits: WebLimits | None = None,
    allowed_origins: Collection[str] = (),
    allowed_hosts: Collection[str] | None = None,
    client_may_configure: bool = False,
    image_addresses: bool = True,
    telemetry: Telemetry | None = None,
) -> VoiceApp:
    """Return an application for clients of OpenAI's Realtime API alone, at /v1/realtime and /realtime.

    `make_call(transport)` returns the session or the pipeline of each call, built around the processors of a
    `RealtimeTransport`. `on_ended` is that of `routes`. With an `api_key` clients must send it, as a bearer token or in
    the subprotocol that browsers use; an empty one raises ConfigurationError. `allowed_origins` and `allowed_hosts` are
    those of `routes`, and so are `image_addresses` and `telemetry`. `client_may_configure` lets clients set the
    instructions and the voice.
    """
    auth = None if api_key is None else token_auth(api_key)
    admission = Admission(allowed_origins, allowed_hosts, keyed=auth is not None)
    calls = Calls(None, auth, limits or WebLimits(), admission)
    calls.image_addresses = image_addresses
    if on_ended is not None:
        calls.endings.add(on_ended)
    served = [*_observed(calls, telemetry), *realtime_routes(calls, make_call, client_may_configure)]
    return VoiceApp(calls, served, telemetry)


def _observed(calls: Calls, telemetry: Telemetry | None) -> list[BaseRoute]:
    """Attach the telemetry to all calls. Returns its endpoint."""
    if telemetry is None:
        return []

    def attach(transport: ClientTransport, session: Session) -> None:
        telemetry.attach(session)

    calls.attach.append(attach)
    return metrics.routes(calls, telemetry) if telemetry.metrics_type else []
