"""`routes`: calls by WebRTC and WebSocket on any Starlette or FastAPI application.

app = FastAPI(lifespan=voice.lifespan)
app.mount("/voice", voice)          # where voice = duologue.web.routes(make_session, auth=token_auth("…"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from . import page as page_files
from . import signalling, sockets
from .calls import Auth, Calls, MakeSession, WebLimits
from .rtvi.rtvi import Rtvi


class VoiceApp:
    """An ASGI application that takes calls. `make_session` may also be given by `on_connected`, as you like:

    voice.on_connected = make_session
    voice.on_connected(make_session)
    @voice.on_connected
    """

    def __init__(self, calls: Calls, app: Starlette) -> None:
        self.calls = calls
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @property
    def on_connected(self) -> Callable[[MakeSession], MakeSession]:
        """Sets who makes the session of each client that connects."""

        def register(make_session: MakeSession) -> MakeSession:
            self.calls.make_session = make_session
            return make_session

        return register

    @on_connected.setter
    def on_connected(self, make_session: MakeSession) -> None:
        self.calls.make_session = make_session

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Ends all calls when the server stops: the lifespan of the application this is mounted on, or a part of it.

        Without it calls are cut off with the server.
        """
        try:
            yield
        finally:
            await self.calls.shutdown()


def routes(
    make_session: MakeSession | None = None,
    *,
    auth: Auth | None = None,
    limits: WebLimits | None = None,
    page: bool = True,
    ice_servers: Sequence[str] = (),
) -> VoiceApp:
    """Calls by WebRTC (Pipecat's small-webrtc and FastRTC's signalling) and WebSocket, and a page to try them.

    `make_session` gets the transport of each client that connects, and gives its session or pipeline. `auth` is asked
    before anything else (see `token_auth`). With `page` the page is served at the mount's root, and clients may do
    what it offers: hand over, change the engine, approve tools. `ice_servers` are URLs (stun:…) for both ends.
    """
    calls = Calls(make_session, auth, limits or WebLimits())
    calls.attach.append(lambda transport, session: Rtvi(transport, session, controls=page).attach())
    served = [*signalling.routes(calls, ice_servers), *sockets.routes(calls)]
    if page:
        served += page_files.routes()
    return VoiceApp(calls, Starlette(routes=served))
