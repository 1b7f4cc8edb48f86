"""Bad networks for tests: relays on loopback that lose, delay and cut what passes through them."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from ..errors import BadInput

HOST = "127.0.0.1"
PIECE = 65_536

_CANDIDATE = re.compile(r"^(a=candidate:\S+ \d+ )(\S+)( \d+ )(\S+) (\d+)( typ host.*)")
_IPV4 = re.compile(r"\d+(\.\d+){3}")

Address = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class Network:
    """How bad the network is; may be changed at any time, and holds for both ways."""

    loss: float = 0.0
    """The part of the datagrams that gets lost, 0 to 1."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Each datagram takes up to so much longer than `delay_s`: they overtake each other."""
    cut: bool = False
    """Nothing passes: datagrams are lost, and a stream stands still."""
    seed: int = 1


class _Side(asyncio.DatagramProtocol):
    """One of the relay's two sockets."""

    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay
        self.transport: asyncio.DatagramTransport | None = None
        self.peer: Address | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: Address) -> None:
        # The far end may send from another port than the one it named.
        self.peer = address
        assert self.other is not None
        self._relay._carry(data, self.other)

    def send(self, data: bytes) -> None:
        if self.transport is not None and self.peer is not None and not self.transport.is_closing():
            self.transport.sendto(data, self.peer)

    @property
    def port(self) -> int:
        assert self.transport is not None
        port: int = self.transport.get_extra_info("sockname")[1]
        return port


class UdpRelay:
    """Stands between the two ends of a WebRTC connection, both on this machine: see `through_udp`.

    The offer and the answer are rewritten, so that each end takes the relay for the other one.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.carried = 0
        """Datagrams that were let through."""
        self.lost = 0
        self._random = random.Random(network.seed)
        self._to_client, self._to_server = _Side(self), _Side(self)
        self._to_client.other, self._to_server.other = self._to_server, self._to_client

    def offer(self, sdp: str) -> str:
        """The client's offer as the server is to see it."""
        return self._rewrite(sdp, self._to_client, self._to_server)

    def answer(self, sdp: str) -> str:
        """The server's answer as the client is to see it."""
        return self._rewrite(sdp, self._to_server, self._to_client)

    def _rewrite(self, sdp: str, near: _Side, far: _Side) -> str:
        """Leave one candidate, the relay's. `near` sends to the end whose description this is."""
        lines = sdp.splitlines()
        found = [match for match in map(_CANDIDATE.fullmatch, lines) if match and _IPV4.fullmatch(match[4])]
        chosen = next((match for match in found if match[2].lower() == "udp"), None)
        if chosen is None:
            raise BadInput("the description has no UDP candidate with an IPv4 address")
        near.peer = (HOST, int(chosen[5]))
        line = f"{chosen[1]}{chosen[2]}{chosen[3]}{HOST} {far.port}{chosen[6]}"
        kept = (line if text == chosen[0] else text for text in lines)
        return "\r\n".join(text for text in kept if text == line or not text.startswith("a=candidate:")) + "\r\n"

    def _carry(self, data: bytes, to: _Side) -> None:
        network = self.network
        if network.cut or self._random.random() < network.loss:
            self.lost += 1
            return
        self.carried += 1
        delay_s = network.delay_s + self._random.random() * network.jitter_s
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, to.send, data)
        else:
            to.send(data)


@asynccontextmanager
async def through_udp(network: Network) -> AsyncIterator[UdpRelay]:
    """A relay for one WebRTC connection, which passes its offer and answer through the relay's methods."""
    loop, relay = asyncio.get_running_loop(), UdpRelay(network)
    sides = (relay._to_client, relay._to_server)
    for side in sides:
        await loop.create_datagram_endpoint(lambda side=side: side, local_addr=(HOST, 0))  # type: ignore[misc]
    try:
        yield relay
    finally:
        for side in sides:
            assert side.transport is not None
            side.transport.close()
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def through_tcp(port: int, network: Network) -> AsyncIterator[int]:
    """A relay to a port of this machine; gives its own port. What is cut stands still, as with a half-open socket:
    neither end is told. A stream loses nothing, so that `loss` has no meaning."""
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind((HOST, 0))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> None:
        try:
            while data := await reader.read(PIECE):
                await anyio.sleep(network.delay_s + dice.random() * network.jitter_s)
                while network.cut:
                    await anyio.sleep(0.02)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        writers.update((writer, far_writer))
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(pump(source, sink, random.Random(network.seed + len(tasks))))
            tasks.add(task)

    server = await asyncio.start_server(serve, sock=listener)
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await anyio.lowlevel.checkpoint()
