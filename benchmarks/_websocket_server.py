"""The server process of `benchmarks.websocket`: calls with webrtcvad and mock services.

Arguments: the number of calls, and the core to run on. The process inherits its parent's cores, which are the callers'.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import uvicorn
import uvloop

from benchmarks._call import mock_cascade
from duologue import Pipeline, Session, Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.transports.client import ClientTransport
from duologue.web import WebLimits, routes
from duologue.web.gc import settle_heap


def make_call(transport: ClientTransport) -> Session:
    """Return a call with mock services."""
    engine = mock_cascade()
    parts = [transport.input(), Vad(), Endpointing(), Interruption(), engine, Tools(), transport.output()]
    return Session(Pipeline(parts))


async def _serve(calls: int) -> None:
    app = routes(make_call, page=False, limits=WebLimits(connections=calls))
    config = uvicorn.Config(app, lifespan="off", log_level="warning", ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        print(listener.getsockname()[1], flush=True)
        serving = asyncio.create_task(server.serve([listener]))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await app.calls.shutdown()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    settle_heap()
    uvloop.run(_serve(int(sys.argv[1])))
