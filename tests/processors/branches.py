"""Processors for the stories of forks and switches."""

from __future__ import annotations

import anyio

from duologue.errors import ConfigurationError
from duologue.frames import Configure, Idle, UserText
from duologue.processors import Processor, handles


class Tagged(Processor):
    """Marks the text of what passes, in both directions. Says when it was opened and closed."""

    def __init__(self, mark: str, seconds: float = 0.0, broken: bool = False) -> None:
        self.mark, self.seconds, self.broken = mark, seconds, broken
        self.life: list[str] = []

    async def open(self) -> None:
        self.life.append("open")
        await anyio.sleep(self.seconds)
        if self.broken:
            raise ConfigurationError(f"{self.mark} cannot open")

    async def close(self) -> None:
        self.life.append("close")

    @handles(UserText)
    async def down(self, frame: UserText) -> None:
        await self.push(UserText(text=self.mark + frame.text))

    @handles(UserText, upstream=True)
    async def up(self, frame: UserText) -> None:
        await self.push_up(UserText(text=self.mark + frame.text))


class Ears(Processor):
    """Counts the signals it hears."""

    def __init__(self) -> None:
        self.heard = 0

    @handles(Idle)
    def idle(self, signal: Idle) -> None:
        self.heard += 1


class SlowToConfigure(Processor):
    """Takes its time for a `Configure`, in a lane."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @handles(Configure, queued=True)
    async def configure(self, frame: Configure) -> None:
        await anyio.sleep(self.seconds)


class Deaf(Processor):
    """Takes texts and lets none through."""

    @handles(UserText)
    async def take(self, frame: UserText) -> None:
        pass
