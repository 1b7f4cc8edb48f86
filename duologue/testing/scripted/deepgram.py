"""`ScriptedDeepgram`: a server on loopback that speaks Deepgram's WebSocket APIs, played by a script.

    async with ScriptedDeepgram(transcripts=["hello there"], interim_s=0.3) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url)

It serves `/v1/listen` (Nova), `/v2/listen` (Flux), `/v1/speak` (Aura) and `/v2/speak` (Flux TTS), and may be used to
test any client: for the SDK, `url` is the environment's `production`. Messages, models and query parameters are checked
as Deepgram does it, against the types of its SDK.
"""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .deepgram_connection import DeepgramConnection
from .deepgram_flux import ListeningFlux
from .deepgram_listen import ListeningNova
from .deepgram_rules import MODELS, PARAMETERS
from .deepgram_script import DeepgramBehaviour, DeepgramGot
from .deepgram_speak import SpeakingAura, SpeakingFlux
from .vendor import VendorServer, asked, refusal

__all__ = ["DeepgramBehaviour", "DeepgramGot", "ScriptedDeepgram"]


KINDS: dict[str, type[DeepgramConnection]] = {
    "/v1/listen": ListeningNova,
    "/v2/listen": ListeningFlux,
    "/v1/speak": SpeakingAura,
    "/v2/speak": SpeakingFlux,
}


class ScriptedDeepgram(VendorServer[DeepgramBehaviour, DeepgramGot, DeepgramConnection]):
    """Deepgram's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    The keyword arguments are fields of `DeepgramBehaviour`; `behaviour` may be changed at any time. `got` has one entry
    for each connection since the start; `connections` has the open connections. `manners` are the faults that the
    services show. An error in the script, or a message that is none of the SDK's, is raised at the end.
    """

    kind = DeepgramBehaviour

    def heard(self, path: str) -> list[DeepgramGot]:
        """Return the records of the connections to one address, for example "/v1/listen"."""
        return [got for got in self.got if got.path == path]

    def rejection(self, status: int) -> Response:
        """Return the response to a connection that the behaviour refuses."""
        return self._rejection(status, "REFUSED", "The script refuses this connection.")

    def check(self, request: Request) -> Response | None:
        """Return the response that refuses a request of this path, query and key, None to accept it."""
        path, query = asked(request)
        if path not in PARAMETERS:
            return self._rejection(404, "NOT_FOUND", f"There is no {path}.")
        if request.headers.get("Authorization") not in (f"Token {self.behaviour.key}", f"bearer {self.behaviour.key}"):
            return self._rejection(401, "INVALID_AUTH", "Invalid credentials.")
        if unknown := query.keys() - PARAMETERS[path]:
            return self._rejection(400, "Bad Request", f"Unknown query parameters: {', '.join(sorted(unknown))}")
        model = query.get("model", [""])[0]
        if model not in MODELS[path]:
            return self._rejection(400, "Bad Request", f"No such model/language/tier combination found: {model}")
        return None

    def _rejection(self, status: int, code: str, message: str) -> Response:
        headers = {"dg-error": message}
        if self.behaviour.retry_after_s:
            headers["Retry-After"] = str(self.behaviour.retry_after_s)
        return refusal(status, {"err_code": code, "err_msg": message, "request_id": "scripted"}, headers)

    def record(self, request: Request) -> DeepgramGot:
        """Return the record of a new connection."""
        return DeepgramGot(*asked(request), dict(request.headers.raw_items()))

    def connect(self, socket: ServerConnection, got: DeepgramGot) -> DeepgramConnection:
        """Return the connection over an accepted socket."""
        return KINDS[got.path](self, socket, got)
