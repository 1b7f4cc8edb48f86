"""`converse`: a call and its script, side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..frames import SessionStarted
from ..session import Outcome, Session, State

HANG_UP_S = 0.05
"""A caller who hung up at the end of the script is the one who ended the call: the news takes a moment."""


async def converse(session: Session, script: Callable[[], Awaitable[None]]) -> Outcome:
    """Run a session, and from its start on `script()`, which plays the caller.

    The call ends with the script, if the caller does not hang up before.

    Returns how the session ended. What the script raises ends the call and is raised here.
    """
    outcome: list[Outcome] = []

    async def run() -> None:
        outcome.append(await session.run())
        tasks.cancel_scope.cancel()  # nobody is there for the rest of the script

    failure: Exception | None = None
    started = anyio.Event()
    session.on(SessionStarted, lambda signal: started.set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await started.wait()
            await script()
        except Exception as error:
            failure = error
            session.cancel("the script failed")
        else:
            await anyio.sleep(HANG_UP_S)
            if session.state is State.ACTIVE:
                await session.end("script ended")
    if failure is not None:
        raise failure
    return outcome[0]
