"""The memory of a session: what its start leaves behind, and its size."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from typing import Any

import anyio

from duologue import Cascade, Endpointing, Interruption, MemoryTransport, Pipeline, Processor, Session, Tools, Vad
from duologue.frames import SessionStarted
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

IDLE_BYTES = 51_000
"""Five sixths of the memory that a session of this pipeline took before anybody counted. It takes 48 to 49.5 kB.

Turn-taking by words and by sound takes 5 kB of it: the caller's words, the levels and the path of the echo.
"""


class Opens(Processor):
    """Keeps track of the task that opened it."""

    def __init__(self) -> None:
        self.closed = False
        self.opened_by: weakref.ref[asyncio.Task[Any]] | None = None

    async def open(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.opened_by = weakref.ref(task)
        await anyio.sleep(0.1)

    async def close(self) -> None:
        self.closed = True


class Passes(Processor):
    """Has nothing to open or to close."""


class Watches(Processor):
    """Counts the tasks that open and close processors."""

    def __init__(self) -> None:
        self.opening = self.closing = 0

    async def open(self) -> None:
        self.opening = len(tasks_of("OpenMembers._open"))

    async def close(self) -> None:
        self.closing = len(tasks_of("OpenMembers._close"))


def tasks_of(coroutine: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == coroutine]


async def test_a_processor_that_opens_nothing_takes_no_task() -> None:
    watches = Watches()
    session = Session(Pipeline([watches, Passes(), Passes()]))
    session.on(SessionStarted, lambda _: session.cancel())
    await session.run()
    assert (watches.opening, watches.closing) == (1, 1)


async def test_the_tasks_that_opened_the_processors_are_forgotten() -> None:
    processors = [Opens(), Opens()]
    session = Session(Pipeline(processors))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        await anyio.sleep(1)
        gc.collect()
        assert [processor.opened_by and processor.opened_by() for processor in processors] == [None, None]
        session.cancel()
    assert all(processor.closed for processor in processors)


def cascade_session() -> Session:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(), MockLLM(), MockTTS())
    turns = Vad(), Endpointing(), Interruption()
    return Session(Pipeline([transport.input(), *turns, engine, Tools(), transport.output()]))


async def test_an_idle_session_is_small() -> None:
    async def allocated(sessions: int) -> int:
        async with anyio.create_task_group() as tasks:
            tracemalloc.start()
            made = [cascade_session() for _ in range(sessions)]
            for session in made:
                tasks.start_soon(session.run)
            await anyio.sleep(5)
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            for session in made:
                session.cancel()
        return used

    await allocated(5)  # what is imported and cached at first is not counted
    assert await allocated(20) / 20 < IDLE_BYTES
