"""`ScriptedCartesia`: Cartesia's API on loopback, with faults and a record: Ink and Sonic, each over a WebSocket.

    async with ScriptedCartesia(transcripts=["What are your hours?"]) as server:
        stt = CartesiaSTT(api_key="test", base_url=server.url)
        tts = CartesiaTTS(api_key="test", base_url=server.url)

A message for Sonic that Cartesia would refuse is refused, and raised as an error at the end of the `async with`.
"""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .cartesia_script import CartesiaBehaviour, CartesiaConnection, CartesiaGot
from .cartesia_stt import ListeningCartesia
from .cartesia_tts import SpeakingCartesia
from .vendor import VendorServer, asked, latest, refusal

KINDS: dict[str, type[CartesiaConnection]] = {
    "/stt/websocket": ListeningCartesia,
    "/tts/websocket": SpeakingCartesia,
}
CODES = {401: "unauthorized", 402: "quota_exceeded", 404: "not_found", 429: "concurrency_limited"}
"""The codes of refusals, by HTTP status."""


class ScriptedCartesia(VendorServer[CartesiaBehaviour, CartesiaGot, CartesiaConnection]):
    """Cartesia's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    The keyword arguments are fields of `CartesiaBehaviour`. `got` has the record of each connection, `connections`
    those that are open. `manners` are the faults that the vendor shows.
    """

    kind = CartesiaBehaviour

    def rejection(self, status: int) -> Response:
        """Return the response to a connection that is refused."""
        told = {"title": "Refused", "message": "Refused by the script.", "request_id": "scripted"}
        return refusal(status, {"error_code": CODES.get(status), **told})

    def check(self, request: Request) -> Response | None:
        """Return the response that refuses a request of this path and key, None to accept it."""
        if asked(request)[0] not in KINDS:
            return self.rejection(404)
        return None if request.headers.get("X-API-Key") == self.behaviour.key else self.rejection(401)

    def record(self, request: Request) -> CartesiaGot:
        """Return the record of a new connection."""
        path, query = asked(request)
        return CartesiaGot(path, latest(query))

    def connect(self, socket: ServerConnection, got: CartesiaGot) -> CartesiaConnection:
        """Return the connection over an accepted socket."""
        return KINDS[got.path](self, socket, got)
