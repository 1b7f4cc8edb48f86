"""`CallTrace`: the interface by which the parts of a session give records to a trace."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from ..errors import error_text
from .boundary import Boundary
from .life import Outcome

log = logging.getLogger("duologue")


class CallTrace(Protocol):
    """Keeps what happens in one call, in order. `duologue.trace.Trace` is one.

    `session.trace` is None without a trace: test that before the data of a record are made.
    """

    @property
    def boundary(self) -> Boundary | None:
        """Sees all that enters the session; None for a trace that keeps only the log."""

    def begin(self, session: Any) -> None:
        """Begin with a session that starts to run. Raises ConfigurationError if this trace has had a call."""

    def note(self, kind: str, data: Any = None, *, source: str = "", words: Any = None) -> None:
        """Keep a record of now: at once, in the order of the calls, and from any thread. Never raises.

        `data` are the facts, plain data or a `msgspec.Struct`. `words` are what the caller or the agent said, tools'
        arguments and results, and whatever else is private: a trace may be without them, and they can be redacted.
        For the kinds in `duologue.trace.PRIVATE`, all data are private.
        """

    async def flush(self, within_s: float = 10.0) -> None:
        """Wait until the present records are kept, at most `within_s` seconds. Does not raise."""

    async def close(self, outcome: Outcome) -> None:
        """End with the outcome of the call, and wait until all is written. Does not raise."""


async def close_trace(trace: CallTrace, outcome: Outcome, session_id: str, patience_s: float) -> None:
    """End a trace with the outcome of its call. One that takes longer than `patience_s` seconds is left behind."""
    closing = asyncio.ensure_future(trace.close(outcome))
    _, late = await asyncio.wait({closing}, timeout=patience_s)
    if late:
        closing.cancel()
        log.error("session %s: the trace was not written within %g s", session_id, patience_s)
    elif not closing.cancelled() and (error := closing.exception()) is not None:
        log.error("session %s: the trace did not end: %s", session_id, error_text(error))


def boundary_of(session: Any) -> Boundary | None:
    """Return the boundary of a session, None without one."""
    trace: CallTrace | None = session.trace
    return None if trace is None else trace.boundary
