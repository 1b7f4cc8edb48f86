"""Words that others have put into the conversation reach no client, at any WebSocket door."""

from __future__ import annotations

import anyio
import pytest
from websockets.asyncio.client import connect

from duologue import Cascade, Pipeline, Session, Tools
from duologue.frames import UserText
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import serving
from duologue.transports.client import ClientTransport
from duologue.web import RealtimeTransport, routes

WHISPER = "SUPERVISOR-WHISPER"


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("path", ["/ws", "/ws?format=binary", "/ws/protobuf", "/websocket/offer", "/v1/realtime"])
async def test_a_whisper_is_for_the_model_alone(path: str, page: bool) -> None:
    sessions: list[Session] = []
    model = MockLLM()

    def make_session(transport: ClientTransport) -> Session:
        engine = Cascade(MockSTT(), model, MockTTS())
        parts = [transport.input(), engine, Tools(), transport.output()]
        if isinstance(transport, RealtimeTransport):
            parts[1:2] = [transport.turns(), engine, transport.client_tools()]
        sessions.append(Session(Pipeline(parts)))
        return sessions[-1]

    told: list[str | bytes] = []
    async with (
        serving(routes(make_session, page=page, openai_realtime=make_session)) as address,
        connect(f"ws://{address}{path}", compression=None) as client,
    ):
        if path == "/websocket/offer":
            await client.send('{"event": "start", "websocket_id": "x"}')
        await anyio.sleep(0.3)
        await sessions[0].send(UserText(text=WHISPER, author="supervisor", respond=False))
        await sessions[0].send(UserText(text="hello", author="supervisor", respond=True))
        with anyio.move_on_after(5):
            while True:
                told.append(await client.recv())
    assert told
    assert not any(WHISPER in str(message) for message in told)
    assert any(WHISPER in message.text for request in model.requests for message in request.messages)
