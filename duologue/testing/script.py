"""`converse`: runs a session together with a script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..frames import SessionStarted
from ..session import Outcome, Session, State

HANG_UP_S = 0.05
"""Seconds after the script in which a hang-up of the caller still arrives and counts as the end of the call."""


async def converse(session: Session, script: Callable[[], Awaitable[None]]) -> Outcome:
    """Run a session, and `script()`, which plays the caller, from the session's start.

    The call ends with the script, unless the caller hangs up before. An error of the script ends the call and is raised
    here. Returns the outcome of the session.
    """
    outcome: list[Outcome] = []

    async def run() -> None:
        outcome.append(await session.run())
        tasks.cancel_scope.cancel()  # the call has ended: the rest of the script has no use

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
