"""The memory of a session, idle and after a turn, and the memory that remains after its end.

Memory is the process's own (USS), for each of many sessions that are alive at once. The churn starts and ends sessions,
each with a spoken turn, and compares memory, tasks, threads and descriptors before and after.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

import anyio
import psutil

from benchmarks._call import Call, speech
from benchmarks._report import arguments, report
from duologue.frames import SessionStarted, UserText
from duologue.testing.clock import run

MB = 1024 * 1024


def used_bytes() -> int:
    """Return the bytes that belong to this process alone, after the allocator has returned its free memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_full_info().uss)


async def _alive(sessions: int, after_start: Callable[[Call], Awaitable[None]]) -> float:
    """Return the bytes for each of this number of sessions that are alive at once."""
    before = used_bytes()
    calls = []
    async with anyio.create_task_group() as tasks:
        for _ in range(sessions):
            call = Call()
            calls.append(call)
            tasks.start_soon(call.session.run)
        await anyio.sleep(0.1)
        for call in calls:
            await after_start(call)
        await anyio.sleep(15)
        bytes_each = (used_bytes() - before) / sessions
        for call in calls:
            call.session.cancel("measured")
    return bytes_each


async def _nothing(call: Call) -> None:
    return None


async def _one_turn(call: Call) -> None:
    await call.session.send(UserText(text="what is the weather in paris"))


async def _turn_and_end() -> None:
    """Make a call of one spoken turn."""
    call = Call()

    async def drive(signal: SessionStarted) -> None:
        pcm = speech()
        for place in range(0, len(pcm), 640):
            call.transport.send(pcm[place : place + 640])
            await anyio.sleep(0.02)
        for _ in range(60):
            call.transport.send(bytes(640))
            await anyio.sleep(0.02)
        call.transport.hang_up()

    call.session.on(SessionStarted, drive)
    await call.session.run()


async def idle(sessions: int) -> dict[str, float]:
    """Return the memory of sessions before the first turn."""
    await _alive(5, _nothing)
    return {"idle_mb_per_session": round(await _alive(sessions, _nothing) / MB, 4)}


async def spoken(sessions: int) -> dict[str, float]:
    """Return the memory of sessions after a turn."""
    await _alive(5, _one_turn)
    return {"after_turn_mb_per_session": round(await _alive(sessions, _one_turn) / MB, 4)}


async def churn(sessions: int) -> dict[str, float]:
    """Return the differences after this number of sessions have begun and ended."""
    for _ in range(sessions // 5):
        await _turn_and_end()
    process = psutil.Process()
    tasks, threads, descriptors = len(asyncio.all_tasks()), threading.active_count(), process.num_fds()
    before = used_bytes()
    for _ in range(sessions):
        await _turn_and_end()
    return {
        "churned_sessions": sessions,
        "churn_growth_mb": round((used_bytes() - before) / MB, 3),
        "tasks_left": len(asyncio.all_tasks()) - tasks,
        "threads_left": threading.active_count() - threads,
        "descriptors_left": process.num_fds() - descriptors,
    }


PARTS = {"idle": idle, "spoken": spoken, "churn": churn}


def fresh(part: str, sessions: int) -> dict[str, float]:
    """Run one part in a separate process, so that it does not reuse memory that another part has freed."""
    command = [sys.executable, "-m", "benchmarks.memory", "--part", part, "--sessions", str(sessions)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


if __name__ == "__main__":
    if "--part" in sys.argv:
        # On the virtual clock: thousands of calls of several seconds each.
        print(json.dumps(run(PARTS[sys.argv[2]], int(sys.argv[4]))))
    else:
        options = arguments("Memory of sessions.", {"sessions": 200, "churn": 1000})
        figures: dict[str, float] = {"sessions": options.sessions}
        for part in PARTS:
            figures |= fresh(part, options.churn if part == "churn" else options.sessions)
        report(figures, as_json=options.json)
