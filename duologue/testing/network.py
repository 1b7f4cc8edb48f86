"""Bad networks for tests: relays on loopback that lose, delay and cut the traffic through them."""

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
from .tls import HOST

PIECE = 65_536

_CANDIDATE = re.compile(r"^(a=candidate:\S+ \d+ )(\S+)( \d+ )(\S+) (\d+)( typ host.*)")
_IPV4 = re.compile(r"\d+(\.\d+){3}")

Address = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class Network:
    """The faults of a network, in both directions. May be changed at any time."""

    loss: float = 0.0
    """The fraction of the datagrams that is lost, 0 to 1."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """The largest random delay beyond `delay_s`, in seconds: datagrams overtake each other."""
    cut: bool = False
    """True: all datagrams are lost, and streams stand still."""
    seed: int = 1


class _RelaySocket(asyncio.DatagramProtocol):
    """One of the relay's two sockets."""

    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay
        self.transport: asyncio.DatagramTransport | None = None
        self.peer: Address | None = None
        self.other: _RelaySocket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: Address) -> None:
        # The far end may send from another port than its candidate's.
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
    """A relay between the two ends of a WebRTC connection on this machine: see `through_udp`.

    It rewrites the offer and the answer: each end takes the relay for the other end.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.carried = 0
        """Datagrams that passed."""
        self.lost = 0
        self._random = random.Random(network.seed)
        self._to_client, self._to_server = _RelaySocket(self), _RelaySocket(self)
        self._to_client.other, self._to_server.other = self._to_server, self._to_client

    def offer(self, sdp: str) -> str:
        """Return the client's offer as the server must receive it."""
        return self._rewrite(sdp, self._to_client, self._to_server)

    def answer(self, sdp: str) -> str:
        """Return the server's answer as the client must receive it."""
        return self._rewrite(sdp, self._to_server, self._to_client)

    def _rewrite(self, sdp: str, near: _RelaySocket, far: _RelaySocket) -> str:
        """Replace the candidates by the relay's. `near` sends to the end that has made this description."""
        lines = sdp.splitlines()
        found = [match for match in map(_CANDIDATE.fullmatch, lines) if match and _IPV4.fullmatch(match[4])]
        chosen = next((match for match in found if match[2].lower() == "udp"), None)
        if chosen is None:
            raise BadInput("the description has no UDP candidate with an IPv4 address")
        near.peer = (HOST, int(chosen[5]))
        line = f"{chosen[1]}{chosen[2]}{chosen[3]}{HOST} {far.port}{chosen[6]}"
        kept = (line if text == chosen[0] else text for text in lines)
        return "\r\n".join(text for text in kept if text == line or not text.startswith("a=candidate:")) + "\r\n"

    def _carry(self, data: bytes, to: _RelaySocket) -> None:
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
    """Open a relay for one WebRTC connection, whose offer and answer go through the relay's methods."""
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
    """Open a relay to a port of this machine. Yields the relay's own port.

    A cut stream stands still like a half-open socket: neither end notices. Streams do not lose data: `loss` is ignored.
    """
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
