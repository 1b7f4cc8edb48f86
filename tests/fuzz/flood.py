"""Hostile clients at every door of a server, in a process of their own: `python -m tests.fuzz.flood '{"url": …}'`.

The figures are printed as one line of JSON. It ends after a number of inputs or of seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from duologue.testing.webrtc import WebRTCClient
from tests.fuzz import samples
from tests.fuzz.mutation import Mutator

DOORS = ("/ws", "/ws?format=binary", "/ws/protobuf", "/websocket/offer", "/v1/realtime?model=m")
PATHS = ("/start", "/api/offer", "/webrtc/offer", "/sessions/guess/api/offer", "/", "/ws", "/../etc/passwd")
TELL_EVERY_S = 60.0
PEER_S = 30.0
"""Seconds for the messages of one peer connection, which may not take them any more."""
Make = Callable[[Mutator], "str | bytes"]


@dataclass
class Figures:
    """The count of messages, and their effects."""

    sent: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How connections ended, by door and close code or status."""
    ways_in: list[str] = field(default_factory=list)
    """The faults: connections without the key, secrets that leaked."""

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return sum(self.sent.values())


def plain(mutator: Mutator) -> str | bytes:
    """A message for /ws."""
    return mutator.noise() if mutator.chance(0.05) else mutator.message(samples.PLAIN)


def rtvi(mutator: Mutator) -> str:
    """An RTVI message."""
    return mutator.message(samples.RTVI)


def protobuf(mutator: Mutator) -> bytes:
    """A protobuf frame."""
    if mutator.chance(0.5):
        return mutator.mangled(mutator.random.choice(samples.PROTOBUF))
    return samples.frame_of(rtvi(mutator))


def realtime(mutator: Mutator) -> str:
    """An event of the Realtime API."""
    return mutator.message(samples.REALTIME)


def fastrtc(mutator: Mutator) -> str:
    """A message of FastRTC's WebSocket."""
    return mutator.message(samples.FASTRTC)


def _ready(mutator: Mutator) -> str:
    return json.dumps(samples.rtvi("client-ready", {"version": mutator.random.choice(("1.0.0", "2.2.0"))}))


def _start(mutator: Mutator) -> str:
    return json.dumps({"event": "start", "websocket_id": f"fuzz{mutator.random.randrange(10**9)}"})


class Flood:
    """Hostile clients of one server."""

    def __init__(self, url: str, token: str, seed: int, inputs: int, seconds: float) -> None:
        self.figures = Figures()
        self._url, self._address, self._token = url, url.replace("http", "ws", 1), token
        self._seed, self._inputs, self._until = seed, inputs, time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """True once there is enough."""
        return self.figures.inputs >= self._inputs or time.monotonic() >= self._until

    async def run(self) -> None:
        """Send everything."""
        clients = [
            self._client("plain", "/ws", plain),
            self._client("RTVI", "/ws", rtvi, _ready),
            self._client("RTVI, binary", "/ws?format=binary", rtvi, _ready),
            self._client("protobuf", "/ws/protobuf", protobuf, lambda mutator: samples.frame_of(_ready(mutator))),
            self._client("Realtime", "/v1/realtime?model=m", realtime),
            self._client("Realtime 2", "/v1/realtime?model=m", realtime),
            self._client("FastRTC", "/websocket/offer", fastrtc, _start),
            self._signalling(),
            self._intruder(),
            self._data_channel(),
        ]
        telling = asyncio.create_task(self._tell())
        await asyncio.gather(*clients)
        telling.cancel()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            print(f"{self.figures.inputs} inputs", file=sys.stderr, flush=True)

    def _check(self, data: str | bytes, door: str) -> None:
        found = samples.SECRET.encode() in data if isinstance(data, bytes) else samples.SECRET in data
        if found and len(self.figures.ways_in) < 20:
            self.figures.ways_in.append(f"{door} was told {data[:300]!r}")

    async def _client(self, name: str, path: str, make: Make, first: Make | None = None) -> None:
        number = 0
        headers = {"Authorization": f"Bearer {self._token}"}
        while not self.over:
            number += 1
            mutator = Mutator(f"{name}-{self._seed}-{number}")
            try:
                async with connect(
                    self._address + path,
                    compression=None,
                    max_queue=None,
                    ping_interval=None,
                    close_timeout=1,
                    additional_headers=headers,
                ) as connection:
                    await self._burst(name, connection, mutator, make, first)
                    if mutator.chance(0.3):
                        connection.transport.abort()
                self.figures.ends[f"{name} {connection.close_code}"] += 1
            except (OSError, WebSocketException) as error:
                status = error.response.status_code if isinstance(error, InvalidStatus) else type(error).__name__
                self.figures.ends[f"{name} {status}"] += 1
                await asyncio.sleep(0.2)

    async def _burst(
        self, name: str, connection: ClientConnection, mutator: Mutator, make: Make, first: Make | None
    ) -> None:
        async def read() -> None:
            with contextlib.suppress(WebSocketException):
                async for message in connection:
                    self._check(message, name)

        reads = mutator.chance(0.9)
        reader = asyncio.create_task(read()) if reads else None
        if not reads:
            connection.transport.pause_reading()
        try:
            if first is not None:
                await connection.send(first(mutator))
            for place in range(mutator.random.randint(10, 400)):
                message = make(mutator)
                if isinstance(message, str):
                    message = message.encode("utf-8", "replace").decode()
                await connection.send(message)
                self.figures.sent[name] += 1
                if place % 10 == 0:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
        except WebSocketException:
            pass
        finally:
            if reader is not None:
                reader.cancel()
            else:
                connection.transport.resume_reading()

    async def _signalling(self) -> None:
        number = 0
        while not self.over:
            number += 1
            mutator = Mutator(f"signalling-{self._seed}-{number}")
            method, path, body = signalling(mutator)
            try:
                status, content = await asyncio.to_thread(request, self._url + path, method, body, self._token)
                self._check(content, path)
                self.figures.ends[f"signalling {status}"] += 1
                if status >= 500 and status != 503:
                    self.figures.ways_in.append(f"{path} answered {status} to {body[:300]!r}")
            except (OSError, HTTPException) as error:
                self.figures.ends[f"signalling {type(error).__name__}"] += 1
            self.figures.sent["signalling"] += 1
            await asyncio.sleep(0.05)

    async def _intruder(self) -> None:
        """Try every door without the key, with what is nearly the key, and from other origins and hosts."""
        number = 0
        while not self.over:
            number += 1
            mutator = Mutator(f"intruder-{self._seed}-{number}")
            door, token, headers = mutator.random.choice(DOORS), self._token, {}
            deed = mutator.random.randrange(4)
            wrong = mutator.mangled(token.encode(), 2).decode("latin-1")
            wrong = "".join(c for c in wrong if c.isprintable() and c.isascii()) or "x"
            if deed == 0 and wrong.strip() != token:
                headers["Authorization"] = mutator.random.choice(
                    (f"Bearer {wrong}", "Bearer ", f"Basic {token}", "Bearer")
                )
            elif deed == 1 and wrong.strip() != token:
                door += ("&" if "?" in door else "?") + "token=" + quote(wrong)
            elif deed == 2:
                headers = {"Authorization": f"Bearer {token}", "Origin": "http://evil.example"}
            else:
                headers = {"Authorization": ""}
            try:
                async with connect(
                    self._address + door, compression=None, additional_headers=headers, close_timeout=1
                ) as connection:
                    self.figures.ways_in.append(f"{door} took {headers}")
                    await connection.close()
            except (OSError, InvalidHandshake) as error:
                status = error.response.status_code if isinstance(error, InvalidStatus) else type(error).__name__
                self.figures.ends[f"intruder {status}"] += 1
            self.figures.sent["intruder"] += 1
            await asyncio.sleep(0.1)

    async def _data_channel(self) -> None:
        number = 0

        async def send(method: str, path: str, body: Any) -> Any:
            data = json.dumps(body).encode()
            status, content = await asyncio.to_thread(request, self._url + path, method, data, self._token)
            if status != 200:
                raise ConnectionRefusedError(f"{status}: {content[:200]!r}")
            return json.loads(content)

        while not self.over:
            number += 1
            mutator = Mutator(f"data channel-{self._seed}-{number}")
            try:
                async with asyncio.timeout(PEER_S), WebRTCClient(send, listen=False) as peer:
                    for place in range(mutator.random.randint(10, 300)):
                        peer.send(rtvi(mutator).encode("utf-8", "replace").decode()[:60_000])
                        self.figures.sent["data channel"] += 1
                        if place % 5 == 0:
                            await peer.flush()
                            await asyncio.sleep(0.02)
                        if self.over:
                            break
                    for message in peer.messages:
                        self._check(json.dumps(message), "data channel")
                self.figures.ends["data channel closed"] += 1
            except Exception as error:  # aiortc has its own, when the server closes the connection
                self.figures.ends[f"data channel {type(error).__name__}"] += 1
                await asyncio.sleep(0.2)


def request(url: str, method: str, body: bytes, token: str) -> tuple[int, bytes]:
    """Send an HTTP request. Returns the status and the content of the answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(url, body, headers, method=method), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def signalling(mutator: Mutator) -> tuple[str, str, bytes]:
    """Return the method, the path and the body of a request."""
    requests: tuple[tuple[str, str, list[Any]], ...] = (
        ("POST", "/start", samples.START),
        ("POST", "/api/offer", samples.OFFER),
        ("POST", "/api/offer", samples.OFFER),
        ("POST", "/webrtc/offer", samples.FASTRTC_OFFER),
        ("PATCH", "/api/offer", samples.PATCH),
        ("POST", mutator.random.choice(PATHS), samples.OFFER),
        ("PATCH", "/sessions/guess/api/offer", samples.PATCH),
    )
    method, path, valid = mutator.random.choice(requests)
    if mutator.chance(0.6) and "sdp" in valid[0]:
        sdp = mutator.mangled(samples.SDP.encode(), 4).decode("latin-1")
        lines = sdp.split("\r\n")
        if mutator.chance(0.3):
            mutator.random.shuffle(lines)
        elif mutator.chance(0.3):
            lines = [line for line in lines for _ in range(mutator.random.choice((0, 1, 1, 1, 2, 30)))]
        valid = [{**valid[0], "sdp": "\r\n".join(lines)}]
        return method, path, json.dumps(valid[0]).encode()
    return method, path, mutator.message(valid).encode("utf-8", "replace")


async def main(options: dict[str, Any]) -> Figures:
    """Send everything, and return the figures."""
    flood = Flood(**options)
    try:
        async with asyncio.timeout(options["seconds"] + 60):
            await flood.run()
    except TimeoutError:
        flood.figures.ends["a client that did not end"] += 1
    return flood.figures


if __name__ == "__main__":
    os.nice(10)
    print(json.dumps(vars(asyncio.run(main(json.loads(sys.argv[1]))))), flush=True)
