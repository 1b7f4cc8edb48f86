"""WebRTC's signalling over HTTP, as Pipecat's small-webrtc clients speak it; FastRTC's is in `fastrtc/`.

| request | answer |
|---|---|
| `POST /start` | the place to call: a session for WebRTC, or the address of a WebSocket |
| `POST /api/offer`, `/sessions/{id}/api/offer` | to the offer of a new call, a later offer, or a new connection's |
| `PATCH` of the same | to later candidates |
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import BadInput, IllegalState
from .auth import address_of, sent_token
from .calls import Calls
from .fastrtc import FastRTC
from .refusals import ClientRefused
from .rtvi.messages import RtviWords
from .webrtc_host import Json, WebRTCHost, add_candidate, text

ANNOUNCED_S = 60.0
"""Seconds that a session from `/start` waits for its offer."""
MAX_ANNOUNCED = 1_000
"""Sessions that wait for their offers. Beyond that the oldest are forgotten."""
MAX_CANDIDATES_AT_ONCE = 50
"""Candidates in one request. More are refused."""


def routes(calls: Calls, ice_servers: Sequence[str] = (), *, public_candidates_only: bool = False) -> list[BaseRoute]:
    """Return the endpoints. Without the extra `webrtc` they answer offers with status 501."""
    host = WebRTCHost(calls, ice_servers, public_candidates_only=public_candidates_only)
    small = _SmallWebRTC(host)
    return [
        Route("/start", small.start, methods=["POST"]),
        Route("/api/offer", small.offer, methods=["POST"]),
        Route("/api/offer", small.candidates, methods=["PATCH"]),
        Route("/sessions/{session_id}/api/offer", small.offer, methods=["POST"]),
        Route("/sessions/{session_id}/api/offer", small.candidates, methods=["PATCH"]),
        Route("/webrtc/offer", FastRTC(host).offer, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class _Announced:
    """A session that `/start` has announced."""

    identity: Any
    data: Any
    until: float


class _SmallWebRTC:
    """The endpoints for Pipecat's small-webrtc clients."""

    def __init__(self, host: WebRTCHost) -> None:
        self._host = host
        self._calls = host.calls
        self._announced: dict[str, _Announced] = {}

    async def start(self, request: Request) -> Response:
        """Return the address that the client must call."""
        return await self._answered(request, self._start)

    async def offer(self, request: Request) -> Response:
        """Answer an offer."""
        return await self._answered(request, self._offer)

    async def candidates(self, request: Request) -> Response:
        """Take candidates that come after the offer."""
        return await self._answered(request, self._candidates)

    async def _answered(self, request: Request, answer: Callable[[Request, Any], Awaitable[Json]]) -> Response:
        try:
            return JSONResponse(await answer(request, await self._calls.authorize(request)))
        except ClientRefused as refused:
            return refused.response()

    async def _start(self, request: Request, identity: Any) -> Json:
        body = await self._host.body(request)
        kind = text(body, "transport", "webrtc")
        # For a WebSocket too: browsers do not show the reason of its refusal.
        self._calls.check_room(identity, address_of(request.scope))
        if kind == "websocket":
            # The scheme is the server's; behind a proxy uvicorn needs --proxy-headers to know the outer one.
            url = request.url.replace(scheme="wss" if request.url.scheme in ("https", "wss") else "ws", query="")
            answer: Json = {"wsUrl": str(url).removesuffix("/start") + "/ws/protobuf"}
            if token := sent_token(request):
                answer["token"] = token
            return answer
        if kind not in ("webrtc", "SmallWebRTC"):
            raise ClientRefused(400, "malformed", f"transport is {kind[:50]!r}: webrtc and websocket are known")
        self._host.require_webrtc()
        now = asyncio.get_running_loop().time()
        self._announced = {id: waiting for id, waiting in self._announced.items() if waiting.until > now}
        while len(self._announced) >= MAX_ANNOUNCED:
            del self._announced[next(iter(self._announced))]
        session_id = uuid.uuid4().hex
        self._announced[session_id] = _Announced(identity, body.get("body"), now + ANNOUNCED_S)
        servers = [{"urls": self._host.ice_servers}] if self._host.ice_servers else []
        return {"sessionId": session_id, "iceConfig": {"iceServers": servers}}

    async def _offer(self, request: Request, identity: Any) -> Json:
        self._host.require_webrtc()
        body = await self._host.body(request)
        sdp, type = text(body, "sdp"), text(body, "type", "offer")
        session_id = request.path_params.get("session_id")
        pc_id = text(body, "pc_id", "")
        if pc_id:
            if session_id not in (None, pc_id):
                raise ClientRefused(404, "unknown_connection", f"the session has no connection {pc_id[:50]!r}")
            return await self._again(pc_id, identity, sdp, type, restart=body.get("restart_pc") is True)
        from ..transports.webrtc.transport import WebRTCTransport

        data = body.get("requestData", body.get("request_data"))
        if session_id is not None:
            data = self._claim(session_id, identity, data)
        self._calls.check_room(identity, address_of(request.scope))
        transport = WebRTCTransport(
            session_id or uuid.uuid4().hex, identity=identity, data=data, words=RtviWords(), **self._host.options()
        )
        try:
            answer = await self._host.accept(transport, sdp, type, address_of(request.scope))
        except ClientRefused as refused:
            if session_id is not None and refused.status == 400:  # the client may try once more
                until = asyncio.get_running_loop().time() + ANNOUNCED_S
                self._announced[session_id] = _Announced(identity, data, until)
            raise
        return {"sdp": answer, "type": "answer", "pc_id": transport.id}

    def _claim(self, session_id: str, identity: Any, data: Any) -> Any:
        """Take a session from `/start`, once. Returns the data that the client sent with it."""
        waiting = self._announced.get(session_id)
        if waiting is None or waiting.identity != identity or waiting.until <= asyncio.get_running_loop().time():
            if self._calls.get(session_id) is not None:
                raise ClientRefused(409, "connection_already_exists", "the session has a client already")
            raise ClientRefused(404, "unknown_session", "the session is unknown, or its offer came too late")
        del self._announced[session_id]
        return data if data is not None else waiting.data

    async def _again(self, pc_id: str, identity: Any, sdp: str, type: str, *, restart: bool) -> Json:
        transport = self._host.find(pc_id, identity)
        if transport is None:
            raise _no_connection(pc_id)
        try:
            if restart:
                answer = await transport.restart(sdp, type)
            elif transport.is_same_client(sdp):
                answer = await transport.renegotiate(sdp, type)
            else:
                raise ClientRefused(409, "connection_already_exists", "the connection has a client already")
        except IllegalState as error:  # the call has ended meanwhile
            raise ClientRefused(404, "unknown_connection", str(error)) from error
        except BadInput as error:
            raise ClientRefused(400, "bad_offer", str(error)) from error
        return {"sdp": answer, "type": "answer", "pc_id": pc_id}

    async def _candidates(self, request: Request, identity: Any) -> Json:
        self._host.require_webrtc()
        body = await self._host.body(request)
        pc_id = text(body, "pc_id")
        transport = self._host.find(pc_id, identity)
        if transport is None:
            raise _no_connection(pc_id)
        candidates = body.get("candidates")
        if not isinstance(candidates, list) or len(candidates) > MAX_CANDIDATES_AT_ONCE:
            raise ClientRefused(400, "malformed", f"candidates is not a list of at most {MAX_CANDIDATES_AT_ONCE}")
        for candidate in candidates:
            await add_candidate(transport, candidate, "sdp_mid", "sdp_mline_index")
        return {"status": "success"}


def _no_connection(pc_id: str) -> ClientRefused:
    return ClientRefused(404, "unknown_connection", f"there is no connection {pc_id[:50]!r}")
