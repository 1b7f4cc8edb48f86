"""WebSocket endpoints: JSON and binary PCM, Pipecat's protobuf frames, FastRTC's. `StarletteWire`: a connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import anyio
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from ..transports.client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE, SHUTTING_DOWN, byte_size
from ..transports.playout.base import CHUNKS_PER_S
from ..transports.websocket.connection import Closed
from ..transports.websocket.pipecat_frames import PipecatSerializer
from ..transports.websocket.serializers import (
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    MULAW_SAMPLE_RATE,
    RATE_STEP,
    DuologueSerializer,
    FastRtcSerializer,
    Malformed,
    Serializer,
    Wired,
)
from ..transports.websocket.transport import WebSocketLimits, WebSocketTransport
from . import wire_events
from .auth import address_of
from .calls import Call, Calls, own_id
from .gate import take_token
from .refusals import ClientRefused, deny
from .rtvi.messages import RtviWords

Query = dict[str, str]
_RTVI = RtviWords()


def routes(calls: Calls, *, cost: bool = False) -> list[BaseRoute]:
    """Return the endpoints. With `cost`, their clients are told the cost of the call."""
    calls.attach.append(partial(wire_events.attach, cost=cost))
    endpoints = _Endpoints(calls)
    return [
        WebSocketRoute("/ws", endpoints.f1),
        WebSocketRoute("/ws/protobuf", endpoints.pipecat),
        WebSocketRoute("/websocket/offer", endpoints.fastrtc),
    ]


class StarletteWire:
    """Wraps a WebSocket of Starlette that was accepted."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, data: Wired) -> None:
        """Send a message; returns when the server has taken it."""
        try:
            await (self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data))
        except Exception as error:  # each server has its own error for a connection that is gone
            raise Closed from error

    async def receive(self) -> Wired:
        """Return the next message."""
        try:
            message = await self._socket.receive()
        except Exception as error:
            raise Closed from error
        if message["type"] == "websocket.disconnect":
            raise Closed(message.get("code") or 1006)
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def close(self, code: int, reason: str) -> None:
        """Close the connection. Closing twice is harmless."""
        with suppress(Exception):  # it is gone already
            await self._socket.close(code, reason)


class WebSocketDoor:
    """Admits WebSocket clients, and keeps each connection until its call is over."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def admit(self, socket: WebSocket) -> tuple[Any, Query]:
        """Return the client's identity, and the parameters of its request without the token. Raises ClientRefused."""
        identity = await self._calls.authorize(socket)
        await self._calls.openings.turn()
        take_token(socket.scope)
        query = dict(parse_qsl(socket.scope.get("query_string", b"").decode("latin-1")))
        return identity, query

    def limits(self, message_bytes: int = 0) -> WebSocketLimits:
        """Return the limits of one connection. `message_bytes` overrides the usual size of messages."""
        limits = self._calls.limits
        return WebSocketLimits(
            lost_s=limits.lost_s,
            message_bytes=message_bytes or limits.message_bytes,
            messages_per_s=limits.messages_per_s,
            bytes_per_s=limits.bytes_per_s,
            unsent_s=limits.unsent_s,
        )

    async def accept(self, socket: WebSocket, call: Call, subprotocol: str | None = None) -> None:
        """Accept the connection of a call, and run the call to its end."""
        try:
            await socket.accept(subprotocol)
        except Exception:  # the client did not wait
            await call.end("client disconnected")
            return
        await self.run(call)

    async def run(self, call: Call) -> None:
        """Run a call to its end. Its connection is accepted already."""
        assert isinstance(call.transport, WebSocketTransport)
        call.transport.open()
        call.start()
        try:
            await call.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await call.end(SHUTTING_DOWN)  # after a cancellation, which a stopping server causes


class _Endpoints(WebSocketDoor):
    """The endpoints of this module."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self._nameless = 0  # FastRTC connections that have not sent their id
        self._limits = self.limits()

    async def f1(self, socket: WebSocket) -> None:
        """Serve a client with JSON objects or binary PCM."""
        await self._serve(socket, _f1_serializer)

    async def pipecat(self, socket: WebSocket) -> None:
        """Serve a client with Pipecat's protobuf frames."""
        await self._serve(socket, _pipecat_serializer)

    async def fastrtc(self, socket: WebSocket) -> None:
        """Serve a FastRTC client. Its first event names the connection; later refusals are sent as events."""
        try:
            identity, query = await self.admit(socket)
            serializer = _fastrtc_serializer(query)
            if self._nameless >= self._calls.limits.connections:
                raise ClientRefused(503, "concurrency_limit_reached", "too many connections have not sent their id")
        except ClientRefused as refused:
            await deny(socket, refused.response())
            return
        wire = StarletteWire(socket)
        self._nameless += 1
        try:
            await socket.accept()
            id = await self._fastrtc_id(wire)
            call = self._open(socket, serializer, id, identity, query)
        except (Closed, OSError, RuntimeError):  # the client did not wait
            return
        except ClientRefused as refused:
            limit = self._calls.limits.connections if refused.code == "concurrency_limit_reached" else None
            await self._turn_away(wire, FastRtcSerializer.refusal(refused.code, limit), refused.code)
            return
        except Malformed as malformed:
            await self._turn_away(wire, FastRtcSerializer.refusal(malformed.code), str(malformed))
            return
        finally:
            self._nameless -= 1
        await self.run(call)

    async def _fastrtc_id(self, wire: StarletteWire) -> str:
        with anyio.move_on_after(self._calls.limits.connect_s):
            data = await wire.receive()
            if byte_size(data) > self._limits.message_bytes:
                raise Malformed("message_too_big", "the message is too big")
            return FastRtcSerializer.connection_id(data)
        raise Malformed("start_expected", "the event start did not come in time")

    async def _turn_away(self, wire: StarletteWire, told: str, reason: str) -> None:
        with anyio.move_on_after(self._calls.limits.shutdown_s):
            try:
                await wire.send(told)
            except Closed:
                return
            await wire.close(1008, reason)

    async def _serve(self, socket: WebSocket, serializer_for: Callable[[Query], Serializer]) -> None:
        try:
            identity, query = await self.admit(socket)
            call = self._open(socket, serializer_for(query), query.get("session_id", ""), identity, query)
        except ClientRefused as refused:
            await deny(socket, refused.response())
            return
        await self.accept(socket, call)

    def _open(self, socket: WebSocket, serializer: Serializer, id: str, identity: Any, query: Query) -> Call:
        transport = WebSocketTransport(
            StarletteWire(socket), serializer, id=own_id(id), identity=identity, data=query, limits=self._limits
        )
        return self._calls.open(transport, address=address_of(socket.scope))


def _rate(query: Query, name: str, default: int, step: int) -> int:
    text = query.get(name, str(default))
    rate = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or rate % step:
        known = f"a multiple of {step} from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        raise ClientRefused(400, "bad_sample_rate", f"{name} is not {known}")
    return rate


def _rates(query: Query, input_rate: int, output_rate: int) -> dict[str, Any]:
    return {
        "input_sample_rate": _rate(query, "input_sample_rate", input_rate, RATE_STEP),
        "output_sample_rate": _rate(query, "output_sample_rate", output_rate, CHUNKS_PER_S),
    }


def _f1_serializer(query: Query) -> Serializer:
    format = query.get("format", "json")
    if format not in ("json", "binary"):
        raise ClientRefused(400, "bad_format", "format is neither json nor binary")
    rates = _rates(query, INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE)
    return DuologueSerializer(binary=format == "binary", words=_RTVI, **rates)


def _pipecat_serializer(query: Query) -> Serializer:
    return PipecatSerializer(words=_RTVI, **_rates(query, INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE))


def _fastrtc_serializer(query: Query) -> Serializer:
    return FastRtcSerializer(**_rates(query, MULAW_SAMPLE_RATE, MULAW_SAMPLE_RATE))
