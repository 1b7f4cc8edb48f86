"""The messages of one client take a bounded share of the time."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.transports.pace import (
    AT_ONCE_S,
    CROWD_AT_ONCE_S,
    CROWD_SHARE,
    MAX_PAUSE_S,
    MESSAGE_S,
    NEED,
    Crowd,
    Pace,
)
from duologue.transports.websocket.serializers import DuologueSerializer, Received, Wired
from duologue.transports.websocket.transport import WebSocketTransport


class Flooder:
    """Sends the next message as soon as it may, `took_s` seconds of work each, and connects again after `stays`."""

    def __init__(self, crowd: Crowd, took_s: float, stays: int) -> None:
        self._crowd, self._took_s, self._stays = crowd, took_s, stays
        self.worked_s = self.due = 0.0
        self.capped = False
        self._pace = Pace(crowd, 0.0)
        self._sent = 0

    def send(self, now: float) -> float:
        """Send a message at this time. Returns the time at which it has been handled."""
        if self._sent % self._stays == 0:
            self._pace = Pace(self._crowd, now)
        self._sent += 1
        now += self._took_s
        self.worked_s += self._took_s + MESSAGE_S
        pause_s = self._pace.pause_s(self._took_s, now)
        self.capped = self.capped or pause_s == MAX_PAUSE_S
        self.due = now + pause_s
        return now


flooders = st.lists(st.tuples(st.floats(1e-4, 0.01), st.sampled_from((1, 3, 10**9))), min_size=1, max_size=20)


@given(flooders)
def test_clients_that_flood_take_a_bounded_share_also_if_they_connect_again(
    kinds: list[tuple[float, int]],
) -> None:
    crowd, now = Crowd(), 0.0
    clients = [Flooder(crowd, *kind) for kind in kinds]
    for _ in range(300):
        client = min(clients, key=lambda each: each.due)
        now = client.send(max(now, client.due))
    worked_s = sum(client.worked_s for client in clients)
    allowed_s = CROWD_AT_ONCE_S + CROWD_SHARE * now + len(clients) * (NEED * now + 0.01)
    assert worked_s <= allowed_s + 1e-6 or any(client.capped for client in clients)


def test_audio_in_real_time_never_waits_whatever_the_others_do() -> None:
    crowd = Crowd()
    flooders = [Flooder(crowd, 0.001, 5) for _ in range(7)]
    pace = Pace(crowd, 0.0)
    for number in range(10_000):
        now = number * 0.02
        for flooder in flooders:
            if flooder.due <= now:
                flooder.send(now)
        pause_s = pace.pause_s(0.00006, now)
        assert pause_s == 0.0 or number < 10, number


def test_a_client_may_save_up_its_own_part() -> None:
    crowd = Crowd()
    pace = Pace(crowd, 0.0)
    crowd.pause_s(1.0, 10.0)  # nothing is left for all
    assert pace.pause_s(AT_ONCE_S * 0.99 - MESSAGE_S, 10.0) == 0.0
    assert pace.pause_s(AT_ONCE_S, 10.0) == MAX_PAUSE_S


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
    """Works 2 ms for each message."""

    def parse(self, data: Wired) -> Received | None:
        until = time.thread_time() + 0.002
        while time.thread_time() < until:
            pass
        return None


@pytest.mark.real_clock
async def test_a_flood_of_messages_is_read_slowly() -> None:
    wire = Endless()
    transport = WebSocketTransport(wire, Slow())
    began = time.monotonic()
    transport.open()
    await asyncio.sleep(1.0)
    read, took_s = wire.read, time.monotonic() - began
    await transport.close()
    assert 2 < read <= (CROWD_AT_ONCE_S + (NEED + CROWD_SHARE) * took_s) / 0.002 + 2


class Waits(DuologueSerializer):
    """Does nothing for 2 ms with each message, as if another thread or another process had the core."""

    def parse(self, data: Wired) -> Received | None:
        time.sleep(0.002)
        return None


@pytest.mark.real_clock
async def test_the_time_of_others_does_not_count() -> None:
    wire = Endless()
    transport = WebSocketTransport(wire, Waits())
    began = time.monotonic()
    transport.open()
    while wire.read < 100:
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < 60
    await transport.close()
