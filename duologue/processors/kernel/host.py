"""`Host`: the part of a session that the kernel uses, and the types that both share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ...frames import End, Frame, Signal

T = TypeVar("T")

Direction = Literal["down", "up"]
Tap = Callable[[Any, Direction, Frame], None]
"""Called with a push: the processor, the direction, the frame."""
Target = Callable[[Any], Awaitable[None]]
"""A callable that takes a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """The time limits of the phases of a session, in seconds."""

    start_s: float = 10.0
    """Opening all processors."""
    drain_s: float = 30.0
    """From the `End` until the last audio is heard."""
    farewell_s: float = 10.0
    """Work at the end of the call: each asynchronous listener of `SessionEnding`, and each of `Session.on_ended`."""
    stop_s: float = 2.0
    """From the cancellation of all tasks until they have ended."""
    close_s: float = 5.0
    """Closing all processors, which close at the same time."""


class Member(Protocol):
    """The part of a processor or a group that its host uses."""

    @property
    def name(self) -> str:
        """The name in errors and traces."""

    def signal_handler(self, signal_type: type[Frame]) -> Callable[[Any], Any] | None:
        """Return the method that handles signals of a type; None if there is none."""

    async def open(self) -> None:
        """Acquire resources."""

    def check_opened(self) -> None:
        """Raise ConfigurationError if `open` was overridden and does not call the base's."""

    async def close(self) -> None:
        """Release resources."""


class LaneOwner(Member, Protocol):
    """A member that has a lane."""

    @property
    def capacity(self) -> int:
        """The number of frames that its lane holds."""

    @property
    def host(self) -> Host:
        """The host that runs it."""


class Fence(Protocol):
    """Knows which output is stale."""

    @property
    def fence(self) -> int:
        """The turn up to which every `Output` is stale."""

    def is_stale(self, frame: Frame) -> bool:
        """Return True for a frame that an interruption has made void."""


class Fenced(Protocol):
    """A lane: an interruption drops its stale output, and the end of the session closes it."""

    def fence(self) -> None:
        """Drop stale output."""

    def close(self) -> None:
        """Drop everything, now and later."""


class Worked(Protocol):
    """A queue with one task that empties it."""

    @property
    def worker(self) -> asyncio.Task[Any] | None:
        """The task; None before the first frame."""


class Waits(Protocol):
    """The record of which tasks wait for which others, to avoid deadlocks."""

    def in_a_circle(self, on: Worked | asyncio.Task[Any]) -> bool:
        """Return True if waiting for `on` would make the running task wait for itself, directly or through others."""

    def noted(self, on: Worked | asyncio.Task[Any]) -> AbstractContextManager[None]:
        """In the block, record that the running task waits for another task, or for room in a queue."""


class Host(Protocol):
    """Runs the processors of a pipeline. A session has one."""

    tap: Tap | None
    """Called with every signal (node, direction, frame) while somebody observes all pushes, else None."""

    def tap_for(self, frame_type: type[Frame]) -> Tap | None:
        """Return the function to call with pushes (node, direction, frame) of this type; None if nobody observes."""

    @property
    def session(self) -> Any:
        """The session of the processors. The kernel passes it on and does not use it."""

    @property
    def deadlines(self) -> Deadlines:
        """The time limits of the phases."""

    @property
    def floor(self) -> Fence:
        """Knows which output is stale."""

    @property
    def lanes(self) -> list[Fenced]:
        """The open lanes. A lane adds and removes itself."""

    @property
    def waits(self) -> Waits:
        """The record of which tasks wait for which others."""

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Report an error."""

    def start_task(
        self, owner: Member, coroutine: Coroutine[Any, Any, T], frame: Frame | None = None, *, name: str = ""
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task that ends with the session, named `name` or as its owner. Its error is reported."""

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal to every processor and listener that handles it."""

    def signal_target(self, signal_type: type[Frame], members: Iterable[Member]) -> Target:
        """Return a function that calls the handlers of a signal at once: of `members`, then the session's listeners."""

    def begin_draining(self, end: End) -> None:
        """Start to drain: an open processor has pushed an `End`."""

    def require_running(self, what: str) -> None:
        """Raise IllegalState, naming what cannot be done, unless the session runs."""

    def is_open(self, member: Member) -> bool:
        """Return True for a member that is open, or opening."""

    async def open_branch(self, members: Collection[Member]) -> None:
        """Open the members of a branch: all, or none on an error."""

    async def close_branch(self, members: Collection[Member]) -> None:
        """Close the members of a branch."""

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
