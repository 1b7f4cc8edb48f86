"""Prints the bytes of a session, measured in a process of its own.

CPython 3.11 gives the first 30 instances of a class room for attributes that they do not have, one less for each
instance. What ran before would count otherwise: one of the first sessions takes 45 kB, a later one 41 kB.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from duologue import Cascade, Endpointing, Interruption, MemoryTransport, Pipeline, Session, Tools, Vad
from duologue.frames import UserText
from duologue.testing.clock import run
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

Talk = Callable[[Session, MemoryTransport], Coroutine[Any, Any, None]]
WARM_UP, SESSIONS = 40, 20


def cascade_session() -> tuple[Session, MemoryTransport]:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(), MockLLM(), MockTTS())
    turns = Vad(), Endpointing(), Interruption()
    return Session(Pipeline([transport.input(), *turns, engine, Tools(), transport.output()])), transport


async def idle(session: Session, transport: MemoryTransport) -> None:
    """Nobody talks."""


async def spoken(session: Session, transport: MemoryTransport) -> None:
    """The caller writes, and the agent speaks."""
    await session.send(UserText(text="hello"))


async def microphone(session: Session, transport: MemoryTransport) -> None:
    """The same, with nine seconds of the caller's silence."""
    await session.send(UserText(text="hello"))
    for _ in range(450):
        transport.send(bytes(640))
        await anyio.sleep(0.02)


async def allocated(sessions: int, talk: Talk) -> float:
    """Return the bytes for each of the sessions that are alive at once, after they have talked."""
    tracemalloc.start()
    made = [cascade_session() for _ in range(sessions)]
    async with anyio.create_task_group() as tasks:
        for session, _ in made:
            tasks.start_soon(session.run)
        await anyio.sleep(5)
        for session, transport in made:
            tasks.start_soon(talk, session, transport)
        await anyio.sleep(10)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for session, _ in made:
            session.cancel()
    return used / sessions


def bytes_of(talk: str) -> float:
    """Return the bytes of a session after `talk`, the name of a function of this module."""
    command = [sys.executable, "-m", "tests.session.size", talk]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    return float(done.stdout)


async def _measure(talk: Talk) -> None:
    await allocated(WARM_UP, spoken)  # what is imported and cached at first is not counted
    print(await allocated(SESSIONS, talk))


if __name__ == "__main__":
    run(_measure, globals()[sys.argv[1]])
