"""`ScriptedElevenLabs`: ElevenLabs' API on loopback, with faults, and a record of everything that it receives.

    async with ScriptedElevenLabs(transcripts=["What are your hours?"]) as server:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url)
        tts = ElevenLabsTTS(api_key="test", base_url=server.url)

It serves text-to-speech over the multi-context WebSocket and speech-to-text in real time. A message that ElevenLabs
would refuse is refused, and raised as an error at the end of the `async with`.
"""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .elevenlabs_connection import ElevenLabsBehaviour, ElevenLabsConnection, ElevenLabsGot
from .elevenlabs_rules import refusal_body
from .elevenlabs_stt import ListeningElevenLabs
from .elevenlabs_tts import SpeakingElevenLabs
from .vendor import VendorServer, asked, latest, refusal


class ScriptedElevenLabs(VendorServer[ElevenLabsBehaviour, ElevenLabsGot, ElevenLabsConnection]):
    """ElevenLabs' server. An async context manager: while it is open, `url` is the `base_url` of the services.

    `behaviour` has the arguments as fields, and may be changed at any time. `got` has one entry for each connection
    since the start; `connections` has those that are open. `manners` are the faults that the vendor shows.
    """

    kind = ElevenLabsBehaviour
    scheme = "http"

    def rejection(self, status: int) -> Response:
        """Return the response to a connection that the behaviour refuses."""
        return refusal(status, refusal_body(status))

    def check(self, request: Request) -> Response | None:
        """Return the response that refuses a request of this path and key, None to accept it."""
        if _kind(asked(request)[0]) is None:
            return self.rejection(404)
        return None if request.headers.get("xi-api-key") == self.behaviour.key else self.rejection(401)

    def record(self, request: Request) -> ElevenLabsGot:
        """Return the record of a new connection."""
        path, query = asked(request)
        return ElevenLabsGot(path, latest(query))

    def connect(self, socket: ServerConnection, got: ElevenLabsGot) -> ElevenLabsConnection:
        """Return the connection over an accepted socket."""
        kind = _kind(got.path)
        assert kind is not None
        return kind(self, socket, got)


def _kind(path: str) -> type[ElevenLabsConnection] | None:
    if path == "/v1/speech-to-text/realtime":
        return ListeningElevenLabs
    if path.startswith("/v1/text-to-speech/") and path.endswith("/multi-stream-input"):
        return SpeakingElevenLabs
    return None
