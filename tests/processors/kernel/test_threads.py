"""Pools of threads: they share none, refuse what is too much, and hold nobody's end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from duologue.processors.kernel.threads import RECOGNITION, SYNTHESIS, TOOLS, Pool, PoolFull


@contextmanager
def blocked(pool: Pool, count: int) -> Iterator[threading.Event]:
    """The pool has jobs that wait for the end of the block."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        assert go.wait(60)

    jobs = [pool.submit(wait) for _ in range(count)]
    for _ in range(min(count, pool.limit)):
        assert begun.acquire(timeout=60)
    try:
        yield go
    finally:
        go.set()
        for job in jobs:
            job.result(60)


async def test_a_pool_runs_functions_and_passes_on_their_errors() -> None:
    pool = Pool("test", 2)
    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 7, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(lambda: next(iter(())))


def test_more_jobs_than_threads_wait_and_more_than_may_wait_are_refused() -> None:
    pool = Pool("test", 2, max_waiting=1)
    with blocked(pool, 2):
        third = pool.submit(lambda: "third")
        with pytest.raises(PoolFull, match="all 2 threads for test are at work"):
            pool.submit(print)
    assert third.result(60) == "third"


def test_a_full_burst_is_taken_at_once() -> None:
    pool = Pool("test", 50, max_waiting=0)
    with blocked(pool, 50), pytest.raises(PoolFull):
        pool.submit(print)


def test_threads_are_used_again_and_named_after_their_work() -> None:
    pool = Pool("test", 4)

    def me() -> tuple[int, str, bool]:
        thread = threading.current_thread()
        return threading.get_ident(), thread.name, thread.daemon

    first, second = pool.submit(me).result(60), None
    while second is None or second[0] != first[0]:  # the thread is idle a moment after its job
        second = pool.submit(me).result(60)
    assert first[1].startswith("duologue test: ")
    assert first[1].endswith("me")
    assert first[2]


def test_a_job_that_waits_can_be_withdrawn() -> None:
    pool, ran = Pool("test", 1), []
    with blocked(pool, 1):
        job = pool.submit(lambda: ran.append(1))
        assert job.cancel()
    pool.submit(lambda: None).result(60)
    assert ran == []


def test_speech_and_tools_share_no_threads() -> None:
    assert len({id(pool) for pool in (RECOGNITION, SYNTHESIS, TOOLS)}) == 3
    with blocked(TOOLS, TOOLS.limit), blocked(RECOGNITION, RECOGNITION.limit):
        assert SYNTHESIS.submit(lambda: "spoken").result(60) == "spoken"


def test_a_thread_that_hangs_does_not_hold_the_end_of_the_process() -> None:
    program = (
        "import asyncio, time\n"
        "from duologue.processors.kernel.threads import TOOLS\n"
        "async def main():\n"
        "    job = asyncio.ensure_future(TOOLS.run(time.sleep, 60))\n"
        "    await asyncio.sleep(0.1)\n"
        "    job.cancel()\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
    assert time.monotonic() - began < 30
