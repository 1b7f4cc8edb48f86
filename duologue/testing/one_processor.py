"""`run_processor`: runs one processor with a list of frames, and returns those that leave it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import anyio

from ..errors import BadInput
from ..frames import (
    Control,
    End,
    ErrorRaised,
    Frame,
    Input,
    Output,
    SessionEnding,
    SessionStarted,
    Signal,
    StateChanged,
)
from ..processors.kernel.node import Node
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor, handles
from ..session.session import Session
from .call import BareCall

F = TypeVar("F", bound=Frame)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A frame that reaches the processor from below."""

    frame: Frame


RunStep: TypeAlias = Frame | Upstream | float
"""A frame to give, or seconds to wait."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A frame that has left the processor, or a signal, and its session time in seconds."""

    at: float
    direction: Literal["down", "up", "signal"]
    frame: Frame


class Ran:
    """The frames that have left a processor. It is iterable: the frames that went downstream.

    `all` has all of them in order, with times and directions.
    """

    def __init__(self, leaving: list[Leaving]) -> None:
        self.all = leaving

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.down)

    def __repr__(self) -> str:
        return f"<Ran {', '.join(f'{each.at:.3f} {each.direction} {each.frame!r}' for each in self.all)}>"

    @property
    def down(self) -> list[Frame]:
        """The frames that went downstream."""
        return [each.frame for each in self.all if each.direction == "down"]

    @property
    def up(self) -> list[Frame]:
        """The frames that went upstream."""
        return [each.frame for each in self.all if each.direction == "up"]

    @property
    def signals(self) -> list[Signal]:
        """The signals that were broadcast, without those of the session's start, end and states."""
        return [each.frame for each in self.all if isinstance(each.frame, Signal)]

    @property
    def errors(self) -> list[ErrorRaised]:
        """The errors that were raised."""
        return self.came(ErrorRaised)

    def came(self, kind: type[F]) -> list[F]:
        """Return the frames and signals of a type, in order."""
        return [each.frame for each in self.all if isinstance(each.frame, kind)]

    def times(self, kind: type[Frame]) -> list[float]:
        """Return the session times of the frames that `came` returns."""
        return [each.at for each in self.all if isinstance(each.frame, kind)]


async def run_processor(processor: Node, steps: Iterable[RunStep], *, may_fail: bool = False, **options: Any) -> Ran:
    """Run a processor, or a pipeline, in a session of its own, and return the frames that leave it.

    `steps` are given one after the other: a frame comes from above, an `Upstream` one from below, a signal is
    broadcast, and a number is the seconds to wait. At the end the session ends in order, so that frames in lanes are
    handled. `options` are those of `Session`.

    Raises the error of a session that cannot start, and the first bug in a handler, unless it `may_fail`; BadInput for
    a step of another type.
    """
    steps = list(steps)
    for step in steps:
        if not isinstance(step, Frame | Upstream | int | float):
            raise BadInput(f"{step!r} is not a frame, an Upstream or a number of seconds")
    leaving: list[Leaving] = []
    top, bottom = _Top(leaving), _Below(leaving)
    call = BareCall(Session(Pipeline([top, processor, bottom]), **options), may_fail=may_fail)

    def keep(signal: Signal) -> None:
        if not isinstance(signal, SessionStarted | SessionEnding | StateChanged):
            leaving.append(Leaving(call.session.now(), "signal", signal))

    call.session.on(Signal, keep)
    async with call:
        for step in steps:
            if isinstance(step, Upstream):
                await bottom.push_up(step.frame)
            elif isinstance(step, Signal):
                call.session.broadcast(step)
            elif isinstance(step, Frame):
                await top.push(step)
            else:
                await anyio.sleep(step)
    return Ran(leaving)


class _Top(Processor):
    def __init__(self, leaving: list[Leaving]) -> None:
        self._leaving = leaving

    @handles(Input, Output, Control, upstream=True)
    async def keep(self, frame: Frame) -> None:
        """Keep a frame that has gone upstream."""
        self._leaving.append(Leaving(self.session.now(), "up", frame))


class _Below(Processor):
    def __init__(self, leaving: list[Leaving]) -> None:
        self._leaving = leaving

    @handles(Input, Output, Control)
    async def keep(self, frame: Frame) -> None:
        """Keep a frame that has gone downstream, and push it on."""
        if not isinstance(frame, End):
            self._leaving.append(Leaving(self.session.now(), "down", frame))
        if not isinstance(frame, Control):
            await self.push(frame)
