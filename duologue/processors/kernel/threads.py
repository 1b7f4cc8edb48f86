"""Blocking work in threads, outside the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


@lru_cache(maxsize=1)
def _executor() -> ThreadPoolExecutor:
    # One pool for all calls of the process: more threads than cores do not help.
    return ThreadPoolExecutor(max_workers=max(2, (os.cpu_count() or 2)), thread_name_prefix="duologue")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run `function(*args)` in the process's worker pool. Cancelling ends the wait, not the work.

    It uses the event loop's `run_in_executor`, which a virtual clock can wait for.
    """
    return await asyncio.get_running_loop().run_in_executor(_executor(), function, *args)
