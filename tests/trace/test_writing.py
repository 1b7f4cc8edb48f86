"""The call goes on whatever the store does, and what is missing in the trace is said."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from duologue.errors import BadInput
from duologue.frames import ErrorRaised
from duologue.processors.kernel.host import Deadlines
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.trace import FolderStore, Store, Trace, read, verify
from duologue.trace import writer as writing
from duologue.transports.memory import MemoryTransport
from tests.patience import until
from tests.services.story import Story, story
from tests.trace.calls import asked, cascade


class Shelf(Store):
    """A store in memory, which fails while `error` is set, and waits while it is `held`."""

    def __init__(self) -> None:
        self.kept: dict[str, list[bytes]] = {}
        self.error: BaseException | None = None
        self.tries = 0
        self.free = threading.Event()
        self.free.set()
        self.holders: dict[str, str] = {}

    def append(self, call: str, lines: Sequence[bytes]) -> None:
        self.tries += 1
        self.free.wait(60)
        if self.error is not None:
            raise self.error
        self.kept.setdefault(call, []).extend(lines)

    def hold(self, call: str, holder: str, seconds: float) -> str:
        self.free.wait(60)
        if self.error is not None:
            raise self.error
        return self.holders.setdefault(call, holder) if seconds else self.holders.pop(call, holder)

    def read(self, call: str) -> Iterator[bytes]:
        return iter(self.kept[call])

    def names(self) -> list[str]:
        return list(self.kept)

    def delete(self, call: str) -> None:
        del self.kept[call]


def failures(call: Story) -> list[ErrorRaised]:
    return [error for error in call.errors if error.processor == "Trace"]


async def goes_on(call: Story) -> None:
    """The call works as if there was no trace, and one error was reported."""
    await call.types("Are you there?")
    await anyio.sleep(3)
    assert call.session.conversation.items[-1].heard_s > 0
    assert call.session.trace is not None
    await call.session.trace.flush()
    await anyio.sleep(0.1)
    (error,) = failures(call)
    assert re.match(r"the trace is not written to \S+.*, the call goes on: ", error.message)
    assert not error.fatal


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_a_full_disk_costs_one_error_and_no_torn_record(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    trace = Trace(tmp_path)
    async with cascade(trace, may_fail=True) as call:
        await trace.flush()

        def full(file: int, data: Any) -> int:
            if threading.current_thread().name == "duologue trace writer":
                write(file, bytes(data)[:7])  # it takes some of it
                raise OSError(code, os.strerror(code))
            return write(file, data)

        monkeypatch.setattr(os, "write", full)
        await goes_on(call)
        monkeypatch.undo()
        await anyio.sleep(2)
    result = verify(trace.store, trace.call)
    assert (result.ok, result.ended, result.torn, result.not_written) == (True, True, False, 0)


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with cascade(Trace(tmp_path / "file" / "calls"), may_fail=True) as call:
        await goes_on(call)


async def test_a_folder_that_is_removed_in_the_call(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "calls")
    async with cascade(trace, may_fail=True) as call:
        await trace.flush()
        shutil.rmtree(tmp_path / "calls")
        await goes_on(call)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_the_end_is_tried_three_times(times: int) -> None:
    class Stumbles(Shelf):
        left = 0

        def append(self, call: str, lines: Sequence[bytes]) -> None:
            if any(b'"kind":"end"' in line for line in lines) and self.left:
                self.left -= 1
                raise OSError("for a moment")
            super().append(call, lines)

    shelf = Stumbles()
    shelf.left = times
    async with cascade(trace := Trace(shelf), may_fail=True) as call:
        await trace.flush()
    assert verify(shelf, trace.call).ended == (times < 3)
    assert len(failures(call)) <= 1


async def test_a_store_that_comes_back_gets_everything() -> None:
    shelf = Shelf()
    shelf.error = ConnectionError("no route")
    trace = Trace(shelf)
    async with cascade(trace, may_fail=True) as call:
        await goes_on(call)
        shelf.error = None
    result = verify(shelf, trace.call)
    assert (result.ok, result.ended, result.not_written) == (True, True, 0)
    assert result.records > 20


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1), KeyboardInterrupt()])
async def test_a_store_that_raises_anything(error: BaseException) -> None:
    shelf = Shelf()
    shelf.error = error
    async with cascade(Trace(shelf), may_fail=True) as call:
        await goes_on(call)


async def test_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING", 50)
    shelf = Shelf()
    trace = Trace(shelf)
    async with cascade(trace) as call:
        await trace.flush()
        shelf.free.clear()
        for number in range(200):
            trace.note("custom", {"number": number})
        shelf.free.set()
        await trace.flush()
        await asked(call)
    records = list(read(shelf, trace.call))
    numbers = [record.facts["number"] for record in records if record.kind == "custom"]
    gaps = [record.facts["records"] for record in records if record.kind == "gap"]
    assert numbers == list(range(len(numbers)))
    assert 40 <= len(numbers) <= 100
    assert sum(gaps) >= 200 - len(numbers)
    result = verify(shelf, trace.call)
    assert (result.ok, result.not_written) == (True, sum(gaps))


async def test_the_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING_BYTES", 100_000)
    shelf = Shelf()
    trace = Trace(shelf)
    async with cascade(trace):
        await trace.flush()
        shelf.free.clear()
        for _ in range(100):
            trace.note("wire", b"x" * 10_000)
        shelf.free.set()
    assert verify(shelf, trace.call).not_written >= 80


@pytest.mark.real_clock
async def test_a_store_that_hangs_does_not_hold_up_the_end() -> None:
    shelf = Shelf()
    shelf.free.clear()
    with anyio.fail_after(60):
        async with story(
            MemoryTransport().output(), trace=Trace(shelf), deadlines=Deadlines(farewell_s=0.2), may_fail=True
        ):
            pass
    shelf.free.set()


@pytest.mark.real_clock
async def test_records_are_written_while_the_call_goes_on(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with story(MemoryTransport().output(), llm=MockLLM(["Yes."]), tts=MockTTS(), trace=trace):
        trace.note("custom", {"number": 1})
        await until(lambda: trace.call and (tmp_path / f"{trace.call}.jsonl").exists())
        await until(lambda: any(record.kind == "custom" for record in read(trace.store, trace.call)))


async def test_no_thread_is_left_when_the_calls_have_ended(tmp_path: Path) -> None:
    async with cascade(Trace(tmp_path)), cascade(Trace(tmp_path)):
        assert [thread.name for thread in threading.enumerate()].count("duologue trace writer") == 1
    for thread in threading.enumerate():
        if thread.name == "duologue trace writer":
            thread.join(60)
    assert "duologue trace writer" not in [thread.name for thread in threading.enumerate()]


async def test_records_from_threads_keep_their_order(tmp_path: Path) -> None:
    trace = Trace(tmp_path)

    def many(name: str) -> None:
        for number in range(500):
            trace.note("custom", {"name": name, "number": number})

    async with cascade(trace):
        threads = [threading.Thread(target=many, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    custom = [record.facts for record in read(trace.store, trace.call) if record.kind == "custom"]
    for name in "ab":
        assert [facts["number"] for facts in custom if facts["name"] == name] == list(range(500))
    assert verify(trace.store, trace.call).ok


async def test_a_virtual_clock_does_not_outrun_the_thread(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace) as call:
        for number in range(25_000):
            trace.note("custom", {"number": number})
            if number % 50 == 0:
                await anyio.sleep(0.1)
        assert call.session.now() > 50
    result = verify(trace.store, trace.call)
    assert (result.ok, result.ended, result.not_written) == (True, True, 0)
    assert result.records > 25_000


@pytest.mark.parametrize(("fsync", "calls"), [("never", 0), ("end", 1)])
async def test_fsync_by_option(fsync: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with cascade(Trace(FolderStore(tmp_path, fsync=fsync))):
        pass
    assert len(synced) == calls


def test_another_fsync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="never, end or always"):
        FolderStore(tmp_path, fsync="sometimes")


async def test_a_cancelled_session_closes_its_trace(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace, ends=False) as call:
        await call.types("Hello.")
    *_, last = read(trace.store, trace.call)
    assert (last.kind, last.facts["reason"]) == ("end", "cancelled")
