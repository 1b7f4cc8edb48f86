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
from .calls import ClientRefused
from .webrtc_host import Json, WebRTCHost, add_candidate, text

KIND = "fastrtc"
MAX_ID = 128
_WITH_STATUS = {"unauthorized": 401, "malformed": 400, "too_large": 413, "not_available": 501}
"""Refusals that keep their HTTP status, because FastRTC's clients cannot handle them."""
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
    """`POST /webrtc/offer`."""

    def __init__(self, host: WebRTCHost) -> None:
        self._host = host
        host.calls.attach.append(attach_log)

    async def offer(self, request: Request) -> Response:
        """Answer an offer, or take a candidate."""
        try:
            identity = await self._host.calls.authorize(request)
            self._host.require_webrtc()
            body = await self._host.body(request)
            webrtc_id = text(body, "webrtc_id")
            if not 0 < len(webrtc_id) <= MAX_ID:
                raise ClientRefused(
                    400, "malformed", f"webrtc_id has {len(webrtc_id)} characters: 1 to {MAX_ID} are taken"
                )
            if body.get("type") == "ice-candidate":
                return JSONResponse(await self._candidate(webrtc_id, identity, body))
            return JSONResponse(await self._answer(webrtc_id, identity, body))
        except ClientRefused as refused:
            if refused.code in _WITH_STATUS:
                return refused.response()
            meta: Json = {"error": refused.code, "message": str(refused)}
            if refused.code == "concurrency_limit_reached":
                meta["limit"] = self._host.calls.limits.connections
            return JSONResponse({"status": "failed", "meta": meta})

    async def _candidate(self, webrtc_id: str, identity: Any, body: Json) -> Json:
        transport = self._host.find(webrtc_id, identity)
        if transport is None:
            raise ClientRefused(404, "unknown_connection", f"there is no connection {webrtc_id!r}")
        await add_candidate(transport, body.get("candidate"), "sdpMid", "sdpMLineIndex")
        return {"status": "success"}

    async def _answer(self, webrtc_id: str, identity: Any, body: Json) -> Json:
        sdp, type = text(body, "sdp"), text(body, "type")
        if self._host.calls.get(webrtc_id) is not None:
            raise ClientRefused(409, "connection_already_exists", f"the connection {webrtc_id!r} exists already")
        self._host.calls.check_room()
        from ..transports.webrtc.transport import WebRTCTransport

        transport = WebRTCTransport(webrtc_id, identity=identity, words=FastRtcWords(), **self._host.options())
        transport.kind = KIND
        return {"sdp": await self._host.accept(transport, sdp, type), "type": "answer"}


def attach_log(transport: ClientTransport, session: Session) -> None:
    """Send a FastRTC client the log messages that its page shows: the caller speaks, pauses, is answered."""
    if transport.kind != KIND:
        return

    def send(event: FeedEvent) -> None:
        data = _LOG.get((event.who, event.speaking)) if isinstance(event, Speaking) else None
        if data is not None:
            transport.send_message({"type": "log", "data": data})

    session.feed.on(send, Speaking)
