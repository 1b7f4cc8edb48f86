"""A server for calls, and a dashboard that shows their conversations.

python -m examples.dashboard, then http://127.0.0.1:8000/voice/ to talk and http://127.0.0.1:8000/ to watch
"""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route

from duologue import Endpointing, Interruption, Pipeline, Vad
from duologue.services.local import Rule
from duologue.web import ClientTransport, listen, routes

from .offline import offline

RULES = [Rule("(hello|hi) [there]", "Hello! Nice to hear you."), Rule("how are you", "Very well, thanks.")]

PAGE = """<!doctype html><html lang="en"><title>Calls</title><h1>Calls</h1><main></main><script>
const known = new Set()
setInterval(async () => (await (await fetch("calls")).json()).forEach((id) => known.has(id) || show(id)), 1000)
function show(id) {
  known.add(id)
  const call = document.querySelector("main").appendChild(document.createElement("section")), lines = new Map()
  new WebSocket(`ws://${location.host}/listen/${id}`).onmessage = ({ data }) => {
    const row = JSON.parse(data), line = lines.get(row.id) ?? call.appendChild(document.createElement("p"))
    if (row.removed) return line.remove()
    lines.set(row.id, line)
    line.textContent = `${row.metadata.agent ?? row.metadata.author ?? row.role}: ${row.message || row.metadata.name}`
    line.style.opacity = row.final ? 1 : 0.5
  }
}
</script></html>"""


def make_session(transport: ClientTransport) -> Pipeline:
    """Return the pipeline of a call."""
    turns = Vad(), Endpointing(), Interruption()
    return Pipeline([transport.input(), *turns, offline(RULES), transport.output()])


voice = routes(make_session)


async def calls(request: Request) -> JSONResponse:
    return JSONResponse([call.transport.id for call in voice.calls if call.session is not None])


watching = [Route("/", lambda request: HTMLResponse(PAGE)), Route("/calls", calls), *listen.routes(voice.calls)]
app = Starlette(routes=[*watching, Mount("/voice", voice)], lifespan=voice.lifespan)

if __name__ == "__main__":
    uvicorn.run(app)
