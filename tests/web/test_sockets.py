"""Calls by WebSocket: every endpoint, from the handshake to the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from duologue import Cascade, Pipeline, Session
from duologue.frames import (
    CallerStartedSpeaking,
    ClientChanged,
    SessionEnding,
    Signal,
    Transcribed,
    UserAudio,
    UserText,
)
from duologue.processors import Processor, handles
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import calling, serving
from duologue.transports.client import ClientTransport
from duologue.transports.websocket.pipecat_frames import fields
from duologue.web import VoiceApp, routes

TONE = (np.sin(np.arange(320) / 5) * 8000).astype("<i2").tobytes()


class Ears(Processor):
    """Keeps what comes from the caller."""

    def __init__(self) -> None:
        self.audio: list[UserAudio] = []
        self.texts: list[str] = []
        self.news = asyncio.Event()

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.audio.append(frame)
        self._woken()
        await self.push(frame)

    @handles(UserText)
    async def read(self, frame: UserText) -> None:
        self.texts.append(frame.text)
        self._woken()
        await self.push(frame)

    def _woken(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def until(self, seconds: float) -> list[UserAudio]:
        while sum(frame.duration_s for frame in self.audio) < seconds - 1e-9:
            await self.news.wait()
        return self.audio


class Server:
    """Makes calls of mocked services, and keeps them."""

    def __init__(self, replies: tuple[str, ...] = ("Hello there.",), **tts: Any) -> None:
        self.replies, self.tts = replies, tts
        self.sessions: list[Session] = []
        self.transports: list[ClientTransport] = []
        self.ears: list[Ears] = []
        self.signals: list[Signal] = []

    def __call__(self, transport: ClientTransport) -> Session:
        ears = Ears()
        engine = Cascade(MockSTT(("hi",)), MockLLM(self.replies), MockTTS(**self.tts))
        session = Session(Pipeline([transport.input(), ears, engine, transport.output()]))
        session.on(ClientChanged, self.signals.append)
        self.sessions.append(session)
        self.transports.append(transport)
        self.ears.append(ears)
        return session


def voice(server: Server, **options: object) -> VoiceApp:
    return routes(server, page=False, **options)  # type: ignore[arg-type]


async def test_a_call_in_json() -> None:
    server = Server()
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws?color=red") as client:
        started = await client.until("session_started")
        assert started["session_id"] == server.transports[0].id
        assert (started["input_sample_rate"], started["output_sample_rate"]) == (16_000, 24_000)
        assert server.transports[0].data == {"color": "red"}
        await client.say(TONE)
        await client.connection.send(TONE)
        audio = await server.ears[0].until(0.04)
        assert b"".join(frame.audio for frame in audio) == TONE * 2
        assert {frame.sample_rate for frame in audio} == {16_000}
        await server.sessions[0].send(UserText(text="Hi."))
        await client.until("speaking", who="assistant", speaking=True)
        await client.until("speaking", who="assistant", speaking=False)
        said = client.of_type("transcription")
        assert said[0] == {"type": "transcription", "text": "Hello there.", "role": "assistant", "is_final": False}
        assert said[-1] == {"type": "transcription", "text": "Hello there.", "role": "assistant", "is_final": True}
        assert len(said) == 2
        assert client.heard
        assert client.rate == 24_000
        await client.send(type="ping")
        await client.until("pong")
        await server.sessions[0].end("goodbye")
        assert (await client.until("session_ended"))["reason"] == "goodbye"
        assert await client.until_closed() == (1000, "goodbye")


async def test_what_the_caller_says_is_told() -> None:
    server = Server()
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        session = server.sessions[0]
        session.broadcast(CallerStartedSpeaking())
        session.broadcast(Transcribed(text="hel", final=False))
        session.broadcast(Transcribed(text="hello"))
        session.broadcast(Transcribed(text=""))
        await client.until("transcription", is_final=True)
        assert client.of_type("speaking") == [{"type": "speaking", "speaking": True, "who": "user"}]
        told = [(e["text"], e["role"], e["is_final"]) for e in client.of_type("transcription")]
        assert told == [("hel", "user", False), ("hello", "user", True)]
    assert [signal.state for signal in server.signals if isinstance(signal, ClientChanged)] == ["connected", "gone"]


async def test_a_call_in_binary_at_other_rates() -> None:
    server = Server()
    query = "format=binary&input_sample_rate=8000&output_sample_rate=16000"
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws?{query}") as client:
        started = await client.until("session_started")
        assert (started["input_sample_rate"], started["output_sample_rate"]) == (8_000, 16_000)
        await client.connection.send(TONE)
        assert (await server.ears[0].until(0.04))[0].sample_rate == 8_000
        await server.sessions[0].send(UserText(text="Hi."))
        await client.until("audio")
        assert {len(pcm) for _, pcm in client.heard} == {640}


async def test_rtvi_goes_both_ways_beside_the_rest() -> None:
    server = Server()
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        got: list[object] = []
        server.transports[0].on_message(got.append)
        message = {"label": "rtvi-ai", "type": "audio", "id": "1", "data": None}
        await client.send(**message)
        await client.send(type="ping")
        await client.until("pong")
        assert message in got
        server.transports[0].send_message({"label": "rtvi-ai", "type": "x"})
        assert (await client.until("x"))["label"] == "rtvi-ai"


async def test_pipecats_frames() -> None:
    server = Server()
    async with (
        serving(voice(server)) as address,
        connect(f"ws://{address}/ws/protobuf", compression=None) as client,
    ):
        # TextFrame{text="Hi"}, as the protobuf compiler encodes it
        await client.send(b"\x0a\x0a\x08\x01\x12\x02ab\x1a\x02Hi")
        first = fields(await client.recv(decode=False))
        number, held = next(first)
        assert number == 2
        assert isinstance(held, bytes)
        values = dict(fields(held))
        assert (values[4], values[5]) == (24_000, 1)
        assert isinstance(values[3], bytes)
        assert len(values[3]) == 960
        assert server.ears[0].texts == ["Hi"]
        stereo = np.repeat(np.frombuffer(TONE, "<i2"), 2).tobytes()
        audio = b"\x1a" + _varint(len(stereo)) + stereo + b"\x20" + _varint(44_100) + b"\x28\x02"
        await client.send(b"\x12" + _varint(len(audio)) + audio)
        heard = await server.ears[0].until(320 / 44_100)
        assert heard[0].audio == TONE
        assert heard[0].sample_rate == 44_100
        server.sessions[0].interrupt()
        while next(fields(await client.recv(decode=False)))[0] != 5:
            pass


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7) if value > 0x7F else bytes([value])


async def test_fastrtc() -> None:
    server = Server()
    async with (
        serving(voice(server)) as address,
        connect(f"ws://{address}/websocket/offer", compression=None) as client,
    ):
        await client.send(json.dumps({"event": "start", "websocket_id": "abc"}))
        await client.send(json.dumps({"event": "media", "media": {"payload": b64encode(b"\xff" * 160).decode()}}))
        await client.send(json.dumps({"event": "ping"}))
        assert json.loads(await client.recv()) == {"event": "pong"}
        audio = await server.ears[0].until(0.02)
        assert audio[0].audio == bytes(320)
        assert audio[0].sample_rate == 8_000
        assert server.transports[0].id.startswith("abc-")
        await server.sessions[0].send(UserText(text="Hi."))
        message = json.loads(await client.recv())
        assert message["event"] == "media"
        await client.send(json.dumps({"event": "stop"}))
        await client.wait_closed()
        assert client.close_code == 1000


async def test_mounted_in_another_application() -> None:
    server = Server()
    app = Starlette()
    app.mount("/voice", voice(server))
    async with serving(app) as address, calling(f"ws://{address}/voice/ws") as client:
        await client.until("session_started")


async def test_at_shutdown_clients_are_told() -> None:
    server = Server()
    app = voice(server)
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        await app.calls.shutdown()
        assert await client.until_closed() == (1001, "server is shutting down")
        assert len(app.calls) == 0
        with pytest.raises(InvalidStatus, match="503"):
            async with calling(f"ws://{address}/ws"):
                pass


async def test_when_the_server_stops_calls_end_with_their_reason() -> None:
    server = Server()
    async with contextlib.AsyncExitStack() as client_side:
        async with serving(voice(server)) as address:
            client = await client_side.enter_async_context(calling(f"ws://{address}/ws"))
            await client.until("session_started")
            outcome: list[str] = []
            server.sessions[0].on(SessionEnding, lambda signal: outcome.append(signal.reason))
        assert (await client.until_closed())[0] == 1012
    assert outcome == ["server is shutting down"]
