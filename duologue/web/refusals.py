"""`ClientRefused`: a client that is not admitted, and the answer that it receives."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from ..errors import DuologueError


class ClientRefused(DuologueError):
    """A client is refused: `status` is the HTTP status, `code` a machine-readable reason."""

    category = "refused"

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        return JSONResponse({"error": {"code": self.code, "message": str(self)}}, self.status)


async def deny(socket: WebSocket, response: Response) -> None:
    """Answer the request for a WebSocket with `response`, or with status 403 if the server cannot do that."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close()
