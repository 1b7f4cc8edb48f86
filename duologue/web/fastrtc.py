"""FastRTC's signalling for WebRTC: one endpoint for offers and candidates, and its messages on the data channel.

Its clients expect refusals with status 200, as `{"status": "failed", "meta": {"error": …}}`.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..session.call_events import FeedEvent, Speaking
from ..session.session import Session
from ..transports.client import ClientTransport, Message, Words
from .auth import address_of
from .calls import own_id
from .refusals import ClientRefused
from .webrtc_host import Json, WebRTCHost, add_candidate, text

KIND = "fastrtc"
_WITH_STATUS = frozenset(
    {
        "auth_timeout",
        "bad_session_id",
        "internal_error",
        "malformed",
        "not_available",
        "too_large",
        "too_many_wrong_keys",
        "too_slow",
        "unauthorized",
    }
)
"""The codes of refusals that keep their HTTP status, because FastRTC's clients cannot handle them."""
_LOG = {
    ("caller", True): "started_talking",
    ("caller", False): "pause_detected",
    ("agent", True): "response_starting",
}
"""FastRTC's log messages: by the side, and True if it begins to speak, False if it stops."""


class FastRtcWords(Words):
    """A transport's own messages to a FastRTC client."""

    def error(self, text: str) -> Message:
        """Return FastRTC's error message."""
        return {"type": "error", "data": text}

    def end(self, reason: str) -> Message:
        """Return FastRTC's message for the end of a stream."""
        return {"type": "end_stream", "data": reason}


class FastRTC:
    """`POST /webrtc/offer`. Its clients choose their ids, which count for their own address only."""

    def __init__(self, host: WebRTCHost) -> None:
        self._host = host
        self._ids: dict[tuple[str, str], str] = {}  # by the client's address and its id: the id of the call
        host.calls.attach.append(attach_log)

    async def offer(self, request: Request) -> Response:
        """Answer an offer, or take a candidate."""
        try:
            identity = await self._host.calls.authorize(request)
            self._host.require_webrtc()
            body = await self._host.body(request)
            webrtc_id = text(body, "webrtc_id")
            if not webrtc_id:
                raise ClientRefused(400, "malformed", "webrtc_id is empty")
            place = address_of(request.scope), webrtc_id
            if body.get("type") == "ice-candidate":
                return JSONResponse(await self._candidate(place, identity, body))
            return JSONResponse(await self._answer(place, identity, body))
        except ClientRefused as refused:
            if refused.code in _WITH_STATUS:
                return refused.response()
            meta: Json = {"error": refused.code, "message": str(refused)}
            if refused.code == "concurrency_limit_reached":
                meta["limit"] = self._host.calls.limits.connections
            return JSONResponse({"status": "failed", "meta": meta})

    async def _candidate(self, place: tuple[str, str], identity: Any, body: Json) -> Json:
        transport = self._host.find(self._ids.get(place, ""), identity)
        if transport is None:
            raise ClientRefused(404, "unknown_connection", "there is no connection of this id")
        await add_candidate(transport, body.get("candidate"), "sdpMid", "sdpMLineIndex")
        return {"status": "success"}

    async def _answer(self, place: tuple[str, str], identity: Any, body: Json) -> Json:
        calls, (address, webrtc_id) = self._host.calls, place
        sdp, type, id = text(body, "sdp"), text(body, "type"), own_id(webrtc_id)
        self._ids = {known: call_id for known, call_id in self._ids.items() if calls.get(call_id) is not None}
        if place in self._ids:
            raise ClientRefused(409, "connection_already_exists", "there is a connection of this id already")
        calls.check_room(identity, address)
        from ..transports.webrtc.transport import WebRTCTransport

        transport = WebRTCTransport(id, identity=identity, words=FastRtcWords(), **self._host.options())
        transport.kind = KIND
        self._ids[place] = id
        return {"sdp": await self._host.accept(transport, sdp, type, address), "type": "answer"}


def attach_log(transport: ClientTransport, session: Session) -> None:
    """Send a FastRTC client the log messages that its page shows: the caller speaks, pauses, is answered."""
    if transport.kind != KIND:
        return

    def send(event: FeedEvent) -> None:
        data = _LOG.get((event.who, event.speaking)) if isinstance(event, Speaking) else None
        if data is not None:
            transport.send_message({"type": "log", "data": data})

    session.feed.on(send, Speaking)
