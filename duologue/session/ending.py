"""`Endings`: the application's work once a call has ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("duologue")


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function of the application, for errors and the log."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


class Endings:
    """The functions to call with the outcome of a call, once everything has closed."""

    def __init__(self) -> None:
        self._functions: list[Callable[..., Any]] = []

    def add(self, function: Callable[..., Any]) -> Callable[[], None]:
        """Add a function. Returns a function that removes it."""
        self._functions.append(function)

        def stop() -> None:
            if function in self._functions:
                self._functions.remove(function)

        return stop

    async def run(self, session_id: str, patience_s: float, *args: Any) -> None:
        """Call every function with these arguments, all at the same time.

        An error is logged. A coroutine that takes longer than `patience_s` seconds is cancelled and named in the log.
        """
        tasks = {asyncio.ensure_future(_call(session_id, f, args)): f for f in self._functions}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience_s)
        for task in late:
            task.cancel()
            name = name_of(tasks[task])
            log.error(
                "session %s: on_ended: %s did not end within %g s, and was cancelled", session_id, name, patience_s
            )


async def _call(session_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("session %s: on_ended: %s failed", session_id, name_of(function))
