"""The cost of a frame's way through a processor that handles it, one that does not, and one with a lane.

Each figure is the difference between a pipeline with 50 of these processors and an empty one, for each frame and
processor. The best of several rounds excludes other work of the machine.
"""

from __future__ import annotations

import time

import anyio
import anyio.lowlevel

from benchmarks._report import arguments, report
from duologue.frames import BotAudio, SessionStarted, UserText
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session

PROCESSORS = 50
FRAMES = 2_000
ROUNDS = 7


class Handles(Processor):
    """Handles each frame and pushes it on."""

    @handles(BotAudio)
    async def relay(self, frame: BotAudio) -> None:
        """Push it on."""
        await self.push(frame)


class Passes(Processor):
    """Does not handle the frames."""

    @handles(UserText)
    async def text(self, frame: UserText) -> None:
        """Not called in this benchmark."""


class Queues(Processor):
    """Handles each frame in its lane and pushes it on."""

    @handles(BotAudio, queued=True)
    async def relay(self, frame: BotAudio) -> None:
        """Push it on."""
        await self.push(frame)


class Counts(Processor):
    """Stands at the end of the pipeline."""

    def __init__(self) -> None:
        self.count = 0

    @handles(BotAudio)
    async def take(self, frame: BotAudio) -> None:
        """Count the frame."""
        self.count += 1


async def seconds_per_frame(kind: type[Processor], processors: int) -> float:
    """Return the seconds for each frame in the best round."""
    counter = Counts()
    session = Session(Pipeline([*(kind() for _ in range(processors)), counter]))
    rounds: list[float] = []

    async def drive(signal: SessionStarted) -> None:
        frame = BotAudio(audio=b"\0" * 960)
        for _ in range(ROUNDS):
            counter.count = 0
            began = time.perf_counter()
            for _ in range(FRAMES):
                await session.send(frame)
            while counter.count < FRAMES:
                await anyio.lowlevel.checkpoint()
            rounds.append((time.perf_counter() - began) / FRAMES)
        await session.end()

    session.on(SessionStarted, drive)
    await session.run()
    return min(rounds)


async def measure() -> dict[str, float]:
    """Return all figures, in microseconds."""
    none = await seconds_per_frame(Handles, 0)
    figures = {}
    for name, kind in (("handled_us", Handles), ("passed_us", Passes), ("lane_us", Queues)):
        taken = await seconds_per_frame(kind, PROCESSORS)
        figures[name] = round(max(0.0, taken - none) / PROCESSORS * 1e6, 4)
    return figures


if __name__ == "__main__":
    options = arguments("The cost of a hop, in microseconds.")
    report(anyio.run(measure), as_json=options.json)
