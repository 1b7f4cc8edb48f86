"""A session that runs for the length of a block, and processors that most stories need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from duologue.frames import BotText, Control, ErrorRaised, Frame, Input, Output, SessionStarted, UserText
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Outcome, Session


class Sink(Processor):
    """The end of the line: keeps every frame that reaches it, and when (session time in seconds)."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.times: list[float] = []

    @handles(Input, Output, Control)
    async def take(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.times.append(self.session.now())

    @property
    def texts(self) -> list[str]:
        """Their texts; for a frame without one its type's name."""
        return [getattr(frame, "text", type(frame).__name__) for frame in self.frames]


class Top(Sink):
    """The same for what comes up, at the head of the line."""

    @handles(Input, Output, Control, upstream=True)
    async def take(self, frame: Frame) -> None:
        await super().take(frame)


class Relay(Processor):
    """Handles text at once and pushes it on."""

    @handles(UserText, BotText)
    async def relay(self, frame: UserText | BotText) -> None:
        await self.push(frame)


class Slow(Processor):
    """Takes `seconds` for each text, in a lane of `capacity`. Keeps what it began and what it finished."""

    def __init__(self, seconds: float = 1.0, capacity: int = 256) -> None:
        self.seconds, self.capacity = seconds, capacity
        self.begun: list[str] = []
        self.finished: list[str] = []

    @handles(UserText, BotText, queued=True)
    async def work(self, frame: UserText | BotText) -> None:
        self.begun.append(frame.text)
        await anyio.sleep(self.seconds)
        self.finished.append(frame.text)
        await self.push(frame)


class Call:
    """A session that runs, its errors, and in the end its outcome."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.errors: list[ErrorRaised] = []
        self.outcome = Outcome("it still runs")
        session.on(ErrorRaised, self.errors.append)

    async def say(self, *texts: str) -> None:
        """The caller types these."""
        for text in texts:
            await self.session.send(UserText(text=text))

    async def answer(self, *texts: str, turn: int = 1) -> None:
        """The agent's words enter at the head, where a test has no engine."""
        for text in texts:
            await self.session.send(BotText(text=text, turn=turn))


@asynccontextmanager
async def running(*processors: Processor, ends: bool = True, **options: Any) -> AsyncIterator[Call]:
    """A call through these processors. After the block it ends in order, or is cancelled if not `ends`."""
    call = Call(Session(Pipeline(processors), **options))
    started = asyncio.Event()
    call.session.on(SessionStarted, lambda _: started.set())
    running = asyncio.create_task(call.session.run())
    try:
        await started.wait()
        yield call
        if ends:
            await call.session.end()
        else:
            call.session.cancel()
    except BaseException:
        call.session.cancel()
        raise
    finally:
        call.outcome = await running


async def settled() -> None:
    """Everything that can happen without time going by has happened."""
    await asyncio.sleep(1e-9)


async def in_background(function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
    """Start it and let it come as far as it can."""
    task = asyncio.create_task(function(*args))
    await settled()
    return task
