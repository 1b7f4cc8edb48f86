"""The server of the tests: `make talk`'s agents, with a diary in the file that DUOLOGUE_TEST_DIARY names.

Each line is JSON: {"event", "session", "time", …}. "connected" has the transport's kind, "interrupted" what was heard,
"ended" the reason and the conversation; "left" names the tasks that there are a second later and were not before.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from duologue import Session
from duologue.cli.web_demo import WebDemo
from duologue.frames import ClientChanged, ConnectionChanged, Interrupted, SessionEnding, SessionStarted
from duologue.transports.client import ClientTransport

LEFT_AFTER_S = 1.0


class Noted(WebDemo):
    """Writes the diary."""

    def __call__(self, transport: ClientTransport) -> Session:
        before = _tasks()
        return with_diary(super().__call__(transport), transport, before)


def with_diary(session: Session, transport: ClientTransport, before: frozenset[str] = frozenset()) -> Session:
    """Write the diary of a session. `before` are the tasks that there were before it was made."""
    diary = Path(os.environ["DUOLOGUE_TEST_DIARY"])

    def note(event: str, **details: Any) -> None:
        with diary.open("a") as file:
            file.write(json.dumps({"event": event, "session": session.id, "time": time.time(), **details}) + "\n")

    def ending(signal: SessionEnding) -> None:
        note("ended", reason=signal.reason, rows=session.conversation.rows())
        loop.call_later(LEFT_AFTER_S, lambda: note("left", tasks=sorted(_tasks() - before)))

    loop = asyncio.get_running_loop()
    session.on(SessionStarted, lambda signal: note("connected", kind=transport.kind, connection=transport.id))
    session.on(Interrupted, lambda signal: note("interrupted", heard=signal.heard))
    session.on(ConnectionChanged, lambda signal: note("engine", engine=signal.engine, state=signal.state))
    session.on(ClientChanged, lambda signal: note(f"client {signal.state}", reason=signal.reason))
    session.on(SessionEnding, ending)
    return session


def _tasks() -> frozenset[str]:
    return frozenset(f"{id(task)} {task.get_name()} {task.get_coro()!r}" for task in asyncio.all_tasks())


make_session = Noted()
