"""`Bus`: the listeners of a session's signals."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ConfigurationError
from ..frames import Frame, Signal
from ..processors.kernel.host import Member
from .life import Life, State


class Report(Protocol):
    """Makes an error known: `Session.report`."""

    def __call__(
        self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False
    ) -> None: ...


class Bus:
    """Calls listeners with the signals that they want, each guarded: what one raises is reported and harms nobody."""

    def __init__(self, life: Life, report: Report, start_task: Callable[..., Any]) -> None:
        self._life = life
        self._report = report
        self._start_task = start_task
        self._listeners: dict[type[Signal], list[Callable[[Any], None]]] = {}
        self._watchers: dict[type[Signal], Callable[[int], None]] = {}

    def on(self, signal_type: Any, listener: Callable[[Any], Any], owner: Member) -> Callable[[], None]:
        """Call `listener` with every signal of a type. Returns a function that ends it.

        Raises ConfigurationError if `signal_type` is not a type of signals.
        """
        if not (isinstance(signal_type, type) and issubclass(signal_type, Signal)):
            raise ConfigurationError(f"{signal_type!r} is not a signal: use observe() for other frames")
        listeners, guarded = self._listeners.setdefault(signal_type, []), self.guard(listener, owner)
        changed: Callable[[int], None] = self._watchers.get(signal_type, _unwatched)
        listeners.append(guarded)
        changed(1)

        def stop() -> None:
            if guarded in listeners:
                listeners.remove(guarded)
                changed(-1)

        return stop

    def watch(self, signal_type: type[Signal], changed: Callable[[int], None]) -> None:
        """Call `changed` with 1 for each new listener of exactly this type, and with -1 for each that leaves.

        For signals that cost something to make.
        """
        self._watchers[signal_type] = changed

    def hear(self, signal: Signal) -> None:
        """Tell the listeners of a signal that has been pushed or broadcast."""
        for base in signal.__class__.__mro__:
            for listener in tuple(self._listeners.get(base, ())):
                listener(signal)

    def guard(self, handler: Callable[[Any], Any], owner: Member) -> Callable[[Any], None]:
        """Wrap a handler of signals: what it raises is reported; what an `async def` has to do runs in a task."""

        def call(signal: Signal) -> None:
            try:
                result = handler(signal)
            except Exception as error:
                self._report(error, owner.name, signal)
                return
            if result is not None and inspect.iscoroutine(result):
                if self._life.state is State.ENDED:
                    result.close()  # its task would have nothing to run in
                else:
                    self._start_task(owner, result, signal)

        return call


def _unwatched(count: int) -> None:
    pass
