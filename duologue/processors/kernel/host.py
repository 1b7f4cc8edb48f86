"""`Host`: what the kernel needs of the session that runs a pipeline, and the types that both speak of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ...frames import End, Frame, Signal

T = TypeVar("T")

Direction = Literal["down", "up"]
Target = Callable[[Any], Awaitable[None]]
"""A callable that takes a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each phase of a session may take, in seconds."""

    start_s: float = 10.0
    """Opening all processors."""
    drain_s: float = 30.0
    """From the `End` until the last audio was heard."""
    stop_s: float = 2.0
    """Until all tasks have obeyed their cancellation."""
    close_s: float = 5.0
    """Closing all processors; they close at the same time."""


class Member(Protocol):
    """A processor or a group, as its host sees it."""

    @property
    def name(self) -> str:
        """The name in errors and traces."""

    def signal_handler(self, signal_type: type[Frame]) -> Callable[[Any], Any] | None:
        """Return the method that handles signals of a type; None if there is none."""

    async def open(self) -> None:
        """Acquire resources."""

    async def close(self) -> None:
        """Release resources."""


class LaneOwner(Member, Protocol):
    """A member that has a lane."""

    @property
    def capacity(self) -> int:
        """Frames that its lane holds."""

    @property
    def host(self) -> Host:
        """Runs it."""


class Fence(Protocol):
    """Tells which output an interruption has made void."""

    @property
    def fence(self) -> int:
        """The turn up to which every `Output` is stale."""

    def is_stale(self, frame: Frame) -> bool:
        """Return True for a frame that an interruption has made void."""


class Fenced(Protocol):
    """Work that an interruption thins out and the end of the session closes: a lane."""

    def fence(self) -> None:
        """Drop stale output."""

    def close(self) -> None:
        """Drop everything, for good."""


class Worked(Protocol):
    """A queue with one task that empties it."""

    @property
    def worker(self) -> asyncio.Task[Any] | None:
        """The task; None before there is one."""


class Waits:
    """Which tasks wait for which others, so that no circle of them can close."""

    def __init__(self) -> None:
        self._on: dict[asyncio.Task[Any], Worked | asyncio.Task[Any]] = {}

    def in_a_circle(self, on: Worked | asyncio.Task[Any]) -> bool:
        """Return True if the running task would wait for itself, perhaps over others, by waiting for `on`."""
        me = asyncio.current_task()
        step: Worked | asyncio.Task[Any] | None = on
        for _ in range(len(self._on) + 1):
            task = step if step is None or isinstance(step, asyncio.Task) else step.worker
            if task is None or task is me:
                return task is me
            step = self._on.get(task)
        return False

    @contextmanager
    def noted(self, on: Worked | asyncio.Task[Any]) -> Iterator[None]:
        """In the block the running task waits for another one, or for room in a queue."""
        me = asyncio.current_task()
        assert me is not None
        self._on[me] = on
        try:
            yield
        finally:
            del self._on[me]


class Host(Protocol):
    """Runs the processors of a pipeline. A session has one."""

    tap: Callable[[Any, Direction, Frame], None] | None
    """Sees every push, as (node, direction, frame), while somebody observes."""

    @property
    def session(self) -> Any:
        """The session of the processors. The kernel hands it on and never looks inside."""

    @property
    def deadlines(self) -> Deadlines:
        """How long each phase may take."""

    @property
    def floor(self) -> Fence:
        """Tells which output is stale."""

    @property
    def lanes(self) -> list[Fenced]:
        """The lanes that are not closed. A lane adds and removes itself."""

    @property
    def waits(self) -> Waits:
        """Which tasks wait for which others."""

    def report(self, error: Exception, processor: str, frame: Frame | None = None) -> None:
        """Make an error known."""

    def start_task(
        self, owner: Member, coroutine: Coroutine[Any, Any, T], frame: Frame | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task that ends with the session. Its error is reported."""

    def broadcast(self, signal: Signal) -> None:
        """Tell every processor and listener that wants this signal."""

    def signal_target(self, signal_type: type[Frame], members: Iterable[Member]) -> Target:
        """Return what calls the handlers of a signal at once: those of `members`, then the session's listeners."""

    def begin_draining(self, end: End) -> None:
        """An `End` has been pushed by an open processor."""

    def require_running(self, what: str) -> None:
        """Raise IllegalState, naming what cannot be done, unless the session runs."""

    def is_open(self, member: Member) -> bool:
        """Return True for a member that is open, or opening."""

    async def open_branch(self, members: Collection[Member]) -> None:
        """Open the members of a branch, all or none."""

    async def close_branch(self, members: Collection[Member]) -> None:
        """Close the members of a branch."""

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
