"""`TextCall`: a call without audio, and processors that many tests use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio

from duologue.frames import BotText, Control, Frame, Input, Output, UserText
from duologue.processors import Processor, handles
from duologue.processors.kernel.lane import Lane
from duologue.testing import BareCall


class Sink(Processor):
    """The end of a pipeline: keeps every frame that reaches it, and its session time in seconds."""

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
    """The same for the frames that come up, at the head of a pipeline."""

    @handles(Input, Output, Control, upstream=True)
    async def take(self, frame: Frame) -> None:
        await super().take(frame)


class Relay(Processor):
    """Handles text at once and pushes it on."""

    @handles(UserText, BotText)
    async def relay(self, frame: UserText | BotText) -> None:
        await self.push(frame)


class Slow(Processor):
    """Takes `seconds` for each text, in a lane of `capacity`. Keeps the texts that it began and those it finished."""

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


class TextCall(BareCall):
    """A call of texts: what either side writes enters at the head of the pipeline."""

    async def answers(self, *texts: str, turn: int = 1) -> None:
        """The agent writes texts, where a test has no engine."""
        for text in texts:
            await self.session.send(BotText(text=text, turn=turn))


running = TextCall.through


def lane_of(call: BareCall) -> Lane:
    """The lane of the only processor of a call that has one."""
    (lane,) = call.session.host.lanes
    assert isinstance(lane, Lane)
    return lane


async def settled() -> None:
    """Wait until all has happened that needs no time."""
    await asyncio.sleep(1e-9)


async def in_background(function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
    """Start a coroutine function and let it run as far as it can."""
    task = asyncio.create_task(function(*args))
    await settled()
    return task
