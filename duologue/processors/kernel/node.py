"""`Node`: a place in a pipeline, a processor or a group of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ...errors import IllegalState
from ...frames import Frame, Signal
from .host import Host, Target
from .lane import Lane
from .spec import Spec, read_spec


class _Unlinked(dict[type[Frame], Target]):
    def __missing__(self, frame_type: type[Frame]) -> Target:
        return _push_unlinked


async def _push_unlinked(frame: Frame) -> None:
    raise IllegalState(f"{type(frame).__name__} was pushed outside a running session")


class Node:
    """Takes frames and pushes frames. Belongs to one session.

    `open` and `close` bracket the session; `capacity` bounds the lane, if there is one. Application code subclasses
    `Processor`, which adds the session to this.
    """

    capacity: int = 256
    """Frames that the lane holds before those who push downstream must wait."""

    _spec: Spec | None = None
    _host: Host | None = None
    _aside: bool = False
    """True in the branch of a `Tee`: its frames reach neither end of the pipeline."""
    # Set when the pipeline is linked.
    _lane: Lane | None = None
    _down: dict[type[Frame], Target] = _Unlinked()
    _up: dict[type[Frame], Target] = _Unlinked()

    @property
    def name(self) -> str:
        """What errors and traces call it."""
        return type(self).__name__

    @property
    def host(self) -> Host:
        """What runs it. Raises IllegalState before it is part of a session."""
        if self._host is None:
            raise IllegalState(f"{self.name} is not part of a session yet")
        return self._host

    async def open(self) -> None:
        """Acquire resources. Called once, before any frame; must end within the session's `start_s`."""

    async def close(self) -> None:
        """Release resources. Called once if `open` was, also after an error; bounded by the session's `close_s`."""

    def take_at_once(self, frame: Frame) -> bool:
        """Deal with a frame in place of the queued handler, in the task that pushes it downstream.

        Returns False to have it queued. Asked only where no processor further down handles such a frame.
        """
        return False

    def push(self, frame: Frame) -> Awaitable[None]:
        """Send a frame downstream: to the next processor that handles its type.

        Await the result. It returns once the frame has been handled or is in a lane; a full lane makes it wait.
        A stale `Output` is dropped. Errors of the processors downstream are reported there, and not raised here.
        """
        return self._down[frame.__class__](frame)

    def push_up(self, frame: Frame) -> Awaitable[None]:
        """Send a frame upstream. It never waits for a full lane, so that no circle of waiting can close."""
        return self._up[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell all processors and listeners of the session, at once."""
        self.host.broadcast(signal)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session. What it raises is reported as this processor's error.

        Raises IllegalState outside a running session.
        """
        self.host.start_task(self, function(*args))

    @classmethod
    def spec(cls) -> Spec:
        """Return what the class handles. Raises ConfigurationError for handlers that cannot work."""
        found = cls.__dict__.get("_spec")
        if found is None:
            found = cls._spec = read_spec(cls)
        return found
