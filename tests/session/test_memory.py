"""The memory of a session: what its start leaves behind, and its size."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import pytest

from duologue import Pipeline, Processor, Session
from duologue.frames import SessionStarted
from tests.session.size import bytes_of

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


def test_an_idle_session_is_small() -> None:
    assert bytes_of("idle") < IDLE_BYTES


@pytest.mark.parametrize(("talk", "at_most"), [("spoken", 62_000), ("microphone", 90_000)])
def test_a_session_after_a_turn_is_small(talk: str, at_most: int) -> None:
    """Two seconds of the agent's speech would take 96 kB, and two of the caller's 64."""
    assert bytes_of(talk) < at_most
