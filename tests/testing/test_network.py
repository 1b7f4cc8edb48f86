"""The relays: what passes, what is lost, and what stands still."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from duologue.errors import BadInput
from duologue.testing.network import Network, through_tcp, through_udp
from duologue.testing.tls import HOST

from ..patience import until

SDP = (
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 2130706431 {host} {port} typ host\r\n"
    "a=candidate:2 1 udp 2130706175 ::1 {port} typ host\r\na=end-of-candidates\r\n"
)


class Peer(asyncio.DatagramProtocol):
    """One end: keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    async def open(self) -> str:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, 0))
        return SDP.format(host="10.0.0.7", port=self.transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.got.append(data)

    def send(self, data: bytes, sdp: str) -> None:
        assert self.transport is not None
        (candidate,) = [line.split() for line in sdp.splitlines() if line.startswith("a=candidate")]
        self.transport.sendto(data, (candidate[4], int(candidate[5])))

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()


@pytest.mark.real_clock
async def test_datagrams_go_both_ways_and_are_lost_at_the_set_rate() -> None:
    network = Network()
    client, server = Peer(), Peer()
    async with through_udp(network) as relay:
        offer, answer = relay.offer(await client.open()), relay.answer(await server.open())
        assert "10.0.0.7" not in offer + answer
        client.send(b"to the server", answer)
        server.send(b"to the client", offer)
        await until(lambda: server.got == [b"to the server"] and client.got == [b"to the client"])
        network.loss = 0.5
        for number in range(400):
            client.send(b"%d" % number, answer)
            if number % 20 == 0:
                await anyio.sleep(0.001)
        await until(lambda: relay.carried + relay.lost == 402)
        await until(lambda: len(server.got) == relay.carried - 1)
        assert 150 < relay.lost < 250
        network.loss, network.cut = 0.0, True
        client.send(b"never", answer)
        await until(lambda: relay.carried + relay.lost == 403)
        assert b"never" not in server.got
    client.close()
    server.close()


async def test_a_description_without_a_usable_candidate_is_refused() -> None:
    async with through_udp(Network()) as relay:
        with pytest.raises(BadInput, match="no UDP candidate"):
            relay.offer("v=0\r\na=candidate:1 1 udp 1 fe80::1 9 typ host\r\n")


async def test_a_stream_that_is_cut_stands_still_and_loses_nothing() -> None:
    network = Network()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with through_tcp(server.sockets[0].getsockname()[1], network) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        network.cut = True
        writer.write(b"two")
        with anyio.move_on_after(3) as scope:
            await reader.read(1)
        assert scope.cancelled_caught
        network.cut = False
        assert await reader.readexactly(3) == b"two"
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
