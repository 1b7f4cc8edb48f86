"""`within`: a text or another value from a function of the application, within a deadline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

from ...errors import DeadlineExceeded, DuologueError
from .tasks import stopped
from .threads import Pool

ASKED = Pool("functions of the application", 64, max_waiting=0)
"""Threads for plain functions that return a text: fillers and the like. One that never returns keeps its thread."""
STOP_S = 0.2
"""Seconds for a function to end once it is cancelled."""


async def within(function: Callable[..., Any], *values: object, limit_s: float, what: str) -> Any:
    """Return the result of a function: an `async def` runs on the event loop, a plain `def` in a thread.

    Raises DeadlineExceeded, which names `what` it is, after `limit_s` seconds: an `async def` is cancelled then, a
    thread is left behind. Passes on errors of the function, SystemExit as an error, and PoolFull without a thread.
    """
    task = asyncio.get_running_loop().create_task(_value_of(function, values, what), name=what)
    try:
        await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        return task.result()
    over = f"{what} took longer than {limit_s:g} s"
    raise DeadlineExceeded(over if await stopped(task, STOP_S) else f"{over}, and ignores its cancellation")


async def _value_of(function: Callable[..., Any], values: tuple[object, ...], what: str) -> Any:
    def called() -> Any:
        with _exits_named(what):
            return function(*values)

    with _exits_named(what):
        if is_async(function):
            return await function(*values)
        result = await ASKED.run(copy_context().run, called, label=what)
        return await result if inspect.isawaitable(result) else result


@contextmanager
def _exits_named(what: str) -> Iterator[None]:
    """Turn SystemExit, which does not end the program, into an error that names the function."""
    try:
        yield
    except SystemExit as error:
        raise DuologueError(f"{what}: SystemExit: {error}") from error


def is_async(function: Callable[..., Any]) -> bool:
    """Return True if calling a function, a partial of one, or an object with `__call__` gives a coroutine."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
