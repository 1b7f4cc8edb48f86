"""The server process of `benchmarks.webrtc`: our calls, or a plain aiortc echo. Prints its port.

python -m benchmarks._webrtc_server duologue|echo
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn
import uvloop
from aiortc import RTCPeerConnection, RTCSessionDescription
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import duologue.web
from benchmarks._call import mock_cascade
from duologue import Pipeline, Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.transports.client import ClientTransport
from duologue.web.gc import settle_heap


def make_session(transport: ClientTransport) -> Pipeline:
    """Return the call of the other benchmarks: webrtcvad on every frame, mock services with fixed delays."""
    cascade = mock_cascade()
    turns = [Vad(), Endpointing(), Interruption(InterruptionPolicy(enabled=False))]
    return Pipeline([transport.input(), *turns, cascade, Tools(), transport.output()])


class Echo:
    """Sends the audio back, as simply as aiortc can: the cost of a WebRTC call without an agent."""

    def __init__(self) -> None:
        self._connections: set[Any] = set()

    async def offer(self, request: Request) -> JSONResponse:
        """Answer an offer."""
        asked = await request.json()
        connection = RTCPeerConnection()
        self._connections.add(connection)

        @connection.on("track")
        def track(track: Any) -> None:
            if track.kind == "audio":
                connection.addTrack(track)

        await connection.setRemoteDescription(RTCSessionDescription(asked["sdp"], asked["type"]))
        await connection.setLocalDescription(await connection.createAnswer())
        description = connection.localDescription
        return JSONResponse({"sdp": description.sdp, "type": description.type, "pc_id": str(id(connection))})

    async def trickle(self, request: Request) -> JSONResponse:
        """Do nothing: these offers have all candidates."""
        return JSONResponse({"status": "success"})


async def main(kind: str) -> None:
    """Serve until killed."""
    echo = Echo()
    app: Any = duologue.web.routes(make_session, page=False)
    if kind == "echo":
        path = "/api/offer"
        app = Starlette(
            routes=[Route(path, echo.offer, methods=["POST"]), Route(path, echo.trickle, methods=["PATCH"])]
        )
    settle_heap()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        print(listener.getsockname()[1], flush=True)
        await uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off")).serve([listener])


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    uvloop.run(main(sys.argv[1]))
