from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from duologue.frames import AudioLevel, BotAudio, ResponseEnded, ResponseStarted
from duologue.transports.memory import MemoryTransport
from tests.session.calls import TextCall, running

LOUD = b"\x00\x40" * 320  # 20 ms at half of full scale: -6 dB
TONE_DBFS = -6.0


async def speak(transport: MemoryTransport, pieces: int, pcm: bytes = LOUD) -> None:
    for _ in range(pieces):
        await anyio.sleep(0.02)
        transport.send(pcm)


async def answer(call: TextCall, seconds: float) -> None:
    names = {"turn": 1, "response_id": "r"}
    call.session.ledger.open("r", 1)
    await call.session.send(ResponseStarted(**names))  # type: ignore[arg-type]
    for _ in range(round(seconds / 0.02)):
        await call.session.send(BotAudio(audio=LOUD, sample_rate=16_000, **names))  # type: ignore[arg-type]
    await call.session.send(ResponseEnded(**names))  # type: ignore[arg-type]


async def test_both_sides_levels_come_ten_times_a_second() -> None:
    transport = MemoryTransport()
    async with running(transport.input(), transport.output()) as call:
        levels: list[AudioLevel] = []
        call.session.on(AudioLevel, levels.append)
        await answer(call, 1.0)
        await speak(transport, 50)
        await anyio.sleep(0.5)
        for who in ("caller", "agent"):
            mine = [level for level in levels if level.who == who]
            assert 9 <= len(mine) <= 12
            assert [level.dbfs for level in mine[:-1]] == [pytest.approx(TONE_DBFS, abs=0.1)] * (len(mine) - 1)
            assert mine[-1].dbfs == -96  # once it is silent, and then nothing more
            times = [level.at for level in mine]
            assert all(0.09 < b - a < 0.13 for a, b in pairwise(times))


async def test_a_muted_caller_is_silent() -> None:
    transport = MemoryTransport()
    async with running(transport.input()) as call:
        levels: list[AudioLevel] = []
        call.session.on(AudioLevel, levels.append)
        call.session.set_access("muted")
        await speak(transport, 20)
        assert {level.dbfs for level in levels} == {-96.0}


async def test_without_listeners_nothing_is_measured() -> None:
    transport = MemoryTransport()
    async with running(transport.input(), transport.output()) as call:
        assert (len(call.session.audio.said), len(call.session.audio.played)) == (0, 0)
        levels: list[AudioLevel] = []
        stops = [call.session.on(AudioLevel, levels.append) for _ in range(2)]
        assert [len(call.session.audio.said), len(call.session.audio.played)] == [1, 1]
        await speak(transport, 10)
        for stop in stops:
            stop()
            stop()
        assert (len(call.session.audio.said), len(call.session.audio.played)) == (0, 0)
        count = len(levels)
        assert count
        await speak(transport, 20)
        assert len(levels) == count


async def test_listening_to_everything_does_not_start_them() -> None:
    from duologue.frames import Signal

    transport = MemoryTransport()
    async with running(transport.input()) as call:
        call.session.on(Signal, lambda signal: None)
        assert len(call.session.audio.said) == 0
