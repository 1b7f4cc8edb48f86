"""The official SDK as the client of a server of OpenAI's Realtime API."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed

from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Model

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
RATE = 24_000
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def noise(seconds: float, level: float = 0.2) -> bytes:
    rng = np.random.default_rng(1)
    return (rng.uniform(-level, level, round(seconds * RATE)) * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


class Client:
    """The SDK's connection, and all events that have come on it, each checked against the SDK's types."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.closed: ConnectionClosed | None = None
        self._news = asyncio.Condition()
        self._position = 0

    async def read(self) -> None:
        while True:
            try:
                event = json.loads(await self.connection.recv_bytes())
            except ConnectionClosed as error:
                self.closed = error
            else:
                if event["type"] != "unknown.event":
                    SERVER_EVENT.validate_python(event)
                self.events.append(event)
            async with self._news:
                self._news.notify_all()
            if self.closed is not None:
                return

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of this type after the last one asked for. An error that is not asked for fails the test."""
        async with self._news:
            while True:
                while self._position < len(self.events):
                    event = self.events[self._position]
                    self._position += 1
                    if event["type"] == kind:
                        return event
                    assert event["type"] != "error", event
                assert self.closed is None, f"closed while waiting for {kind}: {self.kinds()}"
                await self._news.wait()

    async def until_closed(self) -> tuple[int, str]:
        """The close code and reason; 1006 for a connection that broke off."""
        async with self._news:
            while self.closed is None:
                await self._news.wait()
        received = self.closed.rcvd
        return (1006, "") if received is None else (received.code, received.reason)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def audio(self) -> bytes:
        """All of the agent's audio, decoded from base64."""
        return b"".join(base64.b64decode(event["delta"]) for event in self.all("response.output_audio.delta"))

    async def send(self, kind: str, **fields: Any) -> None:
        event: Any = {"type": kind, **fields}
        await self.connection.send(event)

    async def update(self, **session: Any) -> dict[str, Any]:
        """The session after a change."""
        await self.send("session.update", session={"type": "realtime", **session})
        updated: dict[str, Any] = (await self.until("session.updated"))["session"]
        return updated

    async def append(self, pcm: bytes, chunk_ms: int = 100) -> None:
        """Audio, as fast as it goes."""
        size = RATE * chunk_ms // 1000 * 2
        for at in range(0, len(pcm), size):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm[at : at + size]).decode())

    async def speak(self, pcm: bytes) -> None:
        """Audio in pieces of 20 ms, as fast as it is spoken."""
        began = anyio.current_time()
        size = RATE // 50 * 2
        for number, at in enumerate(range(0, len(pcm), size)):
            await self.append(pcm[at : at + size])
            await anyio.sleep_until(began + 0.02 * (number + 1))

    async def type(self, text: str, role: str = "user") -> None:
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": role, "content": content})

    async def refused(self) -> dict[str, Any]:
        """The next error."""
        error: dict[str, Any] = (await self.until("error"))["error"]
        return error


@asynccontextmanager
async def connected(url: str, key: str = "test", model: str = "gpt-realtime-2.1") -> AsyncIterator[Client]:
    async with AsyncOpenAI(api_key=key, base_url=url) as sdk, sdk.realtime.connect(model=model) as connection:
        client = Client(connection)
        reader = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            reader.cancel()
            await asyncio.wait([reader])


@asynccontextmanager
async def scripted_call(
    model: Model | Sequence[Sequence[Act]] = (), session: dict[str, Any] | None = None, **behaviour: Any
) -> AsyncIterator[tuple[ScriptedOpenAI, Client]]:
    """A scripted server and a client of it, whose session is set up."""
    async with ScriptedOpenAI(model, **behaviour) as server, connected(server.url) as client:
        await client.until("session.created")
        if session is not None:
            await client.send("session.update", session=session)
            await client.until("session.updated")
        yield server, client
