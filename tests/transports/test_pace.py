"""The messages of one client take a bounded share of the time."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.transports.client import AT_ONCE_S, MAX_PAUSE_S, SHARE, Pace
from duologue.transports.websocket.serializers import DuologueSerializer, Received, Wired
from duologue.transports.websocket.transport import WebSocketTransport


@given(st.lists(st.floats(0.0, 0.04), max_size=200))
def test_work_beyond_the_share_is_paid_for_by_pauses(works: list[float]) -> None:
    pace, now, worked_s = Pace(), 0.0, 0.0
    for took_s in works:
        now += took_s
        worked_s += took_s
        pause_s = pace.pause_s(took_s, now)
        assert 0.0 <= pause_s <= MAX_PAUSE_S
        now += pause_s
        assert worked_s <= AT_ONCE_S + SHARE * now + 1e-6 or pause_s == MAX_PAUSE_S


def test_audio_in_real_time_never_waits() -> None:
    pace = Pace()
    assert not any(pace.pause_s(0.0005, number * 0.02) for number in range(10_000))


class Endless:
    """A client that sends without a pause."""

    def __init__(self) -> None:
        self.read = 0

    async def send(self, data: Wired) -> None: ...

    async def receive(self) -> Wired:
        self.read += 1
        return b"\0\0"

    async def close(self, code: int, reason: str) -> None: ...


class Slow(DuologueSerializer):
    """Takes 2 ms for each message."""

    def parse(self, data: Wired) -> Received | None:
        time.sleep(0.002)
        return None


@pytest.mark.real_clock
async def test_a_flood_of_messages_is_read_slowly() -> None:
    wire = Endless()
    transport = WebSocketTransport(wire, Slow())
    began = time.monotonic()
    transport.open()
    await asyncio.sleep(0.5)
    read, took_s = wire.read, time.monotonic() - began
    await transport.close()
    assert 2 < read <= (AT_ONCE_S + SHARE * took_s) / 0.002 + 2
