"""The thread of all MCP connections of a program, with an event loop of its own.

The official package starts processes, parses and validates on the loop that reads, and cancels by the scopes of anyio.
Neither reaches a call from here: its loop does none of this work, and no failure of a connection cancels its tasks.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

EXIT_S = 5.0
"""The time that connections have to close at the end of the program, in seconds."""


class _Thread(Executor):
    """Runs coroutine functions. An executor: the virtual clock of tests stands still while it works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop. The first use starts the thread."""
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="duologue-mcp", daemon=True).start()
                atexit.register(self._end)
            return self._loop

    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Run the coroutine that `fn(…)` returns. Cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(fn(*args, **kwargs), self.loop())

    def _end(self) -> None:
        """Cancel what still runs, so that processes of servers end with the program."""
        loop = self._loop
        if loop is None or not loop.is_running():
            return

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=EXIT_S)

        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(cancel(), loop).result(EXIT_S + 1)


THREAD = _Thread()


async def in_thread(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an async function in the thread of the connections, and return its result. Cancelling this cancels it."""
    # A plain function is submitted: asyncio refuses coroutine functions in its debug mode.
    call: Callable[[], Any] = partial(_started, function, args, kwargs)
    result: T = await asyncio.get_running_loop().run_in_executor(THREAD, call)
    return result


def _started(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)
