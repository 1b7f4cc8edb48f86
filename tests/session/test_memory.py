"""The memory of a session: what its start leaves behind, and its size."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from duologue import Cascade, Endpointing, Interruption, MemoryTransport, Pipeline, Processor, Session, Tools, Vad
from duologue.frames import SessionStarted, UserText
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

Talk = Callable[[Session, MemoryTransport], Coroutine[Any, Any, None]]

IDLE_BYTES = 45_000
"""Three quarters of the memory that a session of this pipeline took before anybody counted."""


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
        self.opening = len(tasks_of("OpenMembers._do_open"))

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


def cascade_session() -> tuple[Session, MemoryTransport]:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(), MockLLM(), MockTTS())
    turns = Vad(), Endpointing(), Interruption()
    return Session(Pipeline([transport.input(), *turns, engine, Tools(), transport.output()])), transport


async def allocated(
    sessions: int, talk: Callable[[Session, MemoryTransport], Coroutine[Any, Any, None]] | None = None
) -> float:
    """Return the bytes for each of the sessions that are alive at once, after they have talked."""
    tracemalloc.start()
    made = [cascade_session() for _ in range(sessions)]
    async with anyio.create_task_group() as tasks:
        for session, _ in made:
            tasks.start_soon(session.run)
        await anyio.sleep(5)
        for session, transport in made:
            if talk is not None:
                tasks.start_soon(talk, session, transport)
        await anyio.sleep(10)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for session, _ in made:
            session.cancel()
    return used / sessions


async def test_an_idle_session_is_small() -> None:
    await allocated(5)  # what is imported and cached at first is not counted
    assert await allocated(20) < IDLE_BYTES


@pytest.mark.parametrize(("microphone", "at_most"), [(False, 62_000), (True, 90_000)])
async def test_a_session_after_a_turn_is_small(microphone: bool, at_most: int) -> None:
    """Two seconds of the agent's speech would take 96 kB, and two of the caller's 64."""

    async def talk(session: Session, transport: MemoryTransport) -> None:
        await session.send(UserText(text="hello"))
        for _ in range(450 if microphone else 0):
            transport.send(bytes(640))
            await anyio.sleep(0.02)

    await allocated(5, talk)
    assert await allocated(20, talk) < at_most
