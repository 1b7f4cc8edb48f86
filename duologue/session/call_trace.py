"""`CallTrace`: the interface by which the parts of a session give records to a trace."""

from __future__ import annotations

from typing import Any, Protocol

from .life import Outcome


class CallTrace(Protocol):
    """Keeps what happens in one call, in order. `duologue.trace.Trace` is one.

    `session.trace` is None without a trace: test that before the data of a record are made.
    """

    def begin(self, session: Any) -> None:
        """Begin with a session that starts to run. Raises ConfigurationError if this trace has had a call."""

    def note(self, kind: str, data: Any = None, *, source: str = "", words: Any = None) -> None:
        """Keep a record of now: at once, in the order of the calls, and from any thread. Never raises.

        `data` are the facts, plain data or a `msgspec.Struct`. `words` are what the caller or the agent said, tools'
        arguments and results, and whatever else is private: a trace may be without them, and they can be redacted.
        For the kinds in `duologue.trace.PRIVATE`, all data are private.
        """

    async def close(self, outcome: Outcome) -> None:
        """End with the outcome of the call, and wait until all is written. Does not raise."""
