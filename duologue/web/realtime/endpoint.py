"""The endpoint of OpenAI's Realtime API, through which any client of that API can talk to a pipeline.

def make_call(transport: RealtimeTransport) -> Session:
    engine = Cascade(SphinxSTT(phrases=PHRASES), RulesLLM(RULES), EspeakTTS())
    return Session(
        Pipeline(
            [transport.input(), transport.turns(), engine, transport.client_tools(), Tools(), transport.output()]
        )
    )

app = duologue.web.routes(make_session, auth=token_auth("…"), openai_realtime=make_call)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from ...processors.processor import Processor
from ...session.session import Session
from ..auth import address_of
from ..calls import Calls
from ..refusals import ClientRefused, deny
from ..sockets import StarletteWire, WebSocketDoor
from .transport import RealtimeTransport

PATHS = ("/v1/realtime", "/realtime")
SUBPROTOCOL = "realtime"

MakeCall = Callable[[RealtimeTransport], Session | Processor | Awaitable[Session | Processor]]
"""Makes the session of a call around the processors of its transport. A pipeline is wrapped in a session."""


def routes(calls: Calls, make_call: MakeCall, client_may_configure: bool = False) -> list[BaseRoute]:
    """Return the endpoint at all its paths. `client_may_configure` lets clients set the instructions and the voice."""
    door = _RealtimeDoor(calls, make_call, client_may_configure)
    return [WebSocketRoute(path, door.serve) for path in PATHS]


class _RealtimeDoor(WebSocketDoor):
    """Admits Realtime clients. Refusals have OpenAI's form and words."""

    def __init__(self, calls: Calls, make_call: MakeCall, client_may_configure: bool) -> None:
        super().__init__(calls)
        self._make_call = make_call
        self._client_may_configure = client_may_configure
        self._limits = self.limits(calls.limits.realtime_message_bytes)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one call."""
        try:
            identity, query = await self.admit(socket)
            transport = RealtimeTransport(
                StarletteWire(socket),
                model=query.get("model") or "duologue",
                identity=identity,
                data=query,
                limits=self._limits,
                idle_s=self._calls.limits.idle_s,
                call_s=self._calls.limits.call_s,
                client_may_configure=self._client_may_configure,
            )
            call = self._calls.open(transport, lambda _: self._make_call(transport), address=address_of(socket.scope))
        except ClientRefused as refused:
            await deny(socket, _response(refused))
            return
        await self.accept(socket, call, SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)


def _response(refused: ClientRefused) -> JSONResponse:
    kind, code, message = "invalid_request_error", refused.code, str(refused)
    if refused.status == 401:
        code, message = "invalid_api_key", "Incorrect API key provided."
    elif refused.status >= 500:
        kind, code, message = "server_error", "server_overloaded", "Too many calls. Try again later."
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return JSONResponse(body, refused.status)
