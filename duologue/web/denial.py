"""A WebSocket that is not accepted."""

from __future__ import annotations

from starlette.responses import Response
from starlette.websockets import WebSocket


async def deny(socket: WebSocket, response: Response) -> None:
    """Answer the request for a WebSocket with `response`; where the server cannot do that, with status 403."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close()
