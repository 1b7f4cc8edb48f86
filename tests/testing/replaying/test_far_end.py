"""A far end that tells how much it has played: its reports enter a replay again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from duologue import Cascade, Ear, Pipeline, Session
from duologue.testing import Call, MockLLM, MockSTT, MockTTS, clock, replay
from duologue.trace import Trace, read
from duologue.transports.base import TransportOutput
from duologue.transports.memory import MemoryTransport


class Slow(TransportOutput):
    """Plays with a delay that varies, and tells it."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(16_000)
        self._far = transport.output()
        self._dice = random.Random(1)
        self._written = self._played = 0

    async def open(self) -> None:
        await super().open()
        self._far._join(self.host)

    def write(self, chunk: bytes) -> None:
        self._written += len(chunk) // 2
        self._far.write(chunk)

    def position(self) -> int:
        self._played = max(self._played, self._written - self._dice.choice((960, 1600, 4000)))
        return self._played

    def clear(self) -> int:
        self._far.clear()
        kept = min(self._written, self._played + 320)
        self._written = self._played = 0
        return kept


def make_session(transport: Any, output: Any = None, **options: Any) -> Session:
    engine = Cascade(MockSTT(["when are you open"]), MockLLM(["From nine to five, every day but Sunday."]), MockTTS())
    return Session(Pipeline([transport.input(), Ear(), engine, output or transport.output()]), **options)


def test_the_reports_of_a_far_end_enter_again(tmp_path: Path) -> None:
    trace = Trace(tmp_path, replay=True)

    async def main() -> None:
        transport = MemoryTransport()
        session = make_session(transport, Slow(transport), trace=trace)
        async with Call(session, transport) as call:
            await call.says("when are you open")
            await call.waits(1.5)
            session.interrupt("the desk's button")
            await call.waits(1.0)

    clock.run(main)
    path = tmp_path / f"{trace.call}.jsonl"
    told = [record for record in read(path) if record.source.startswith("playout.")]
    assert len(told) > 20
    again = replay(path, make_session, folder=tmp_path / "again")
    assert again.identical, (again.first_difference, again.differences)
    assert 0 < next(record.facts["heard_s"] for record in read(again.path) if record.kind == "heard") < 1.5
