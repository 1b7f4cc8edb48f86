"""`ErrorDesk`: logs and broadcasts errors, and applies the error policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from ..errors import CONTAINED, DuologueError, error_text
from ..frames import ErrorRaised, Frame
from .logs import Repeats

log = logging.getLogger("duologue")

Decision = Literal["continue", "end", "cancel"]
ErrorPolicy = Callable[[ErrorRaised], Decision]

MAX_BROADCAST = 16
"""Errors that are broadcast in one go: the first, and errors reported meanwhile. Others are not broadcast."""
REPEATED, REPEATED_S = 10, 10.0
"""Errors of one kind that are logged and broadcast at once, and the seconds after which each further one is."""


def end_on_fatal(error: ErrorRaised) -> Decision:
    """The default error policy: the call goes on, unless the error is fatal."""
    return "end" if error.fatal else "continue"


class ErrorDesk:
    """Broadcasts errors one at a time, in the order in which they are reported.

    An error that is reported during the broadcast of another waits until that has ended. Of errors of the same type
    from the same processor, `REPEATED` are logged and broadcast at once, and then one every `REPEATED_S` seconds, with
    the number of those left out; the policy decides about each. `fail(error, at_once)` ends the session; `now` returns
    session time in seconds.
    """

    def __init__(
        self,
        session_id: str,
        policy: ErrorPolicy,
        broadcast: Callable[[ErrorRaised], None],
        fail: Callable[[Exception, bool], None],
        now: Callable[[], float],
    ) -> None:
        self._id = session_id
        self._policy = policy
        self._broadcast = broadcast
        self._fail = fail
        self._now = now
        self.bug: Exception | None = None
        """The first error of the category `internal`."""
        self._repeats: Repeats[tuple[str, str]] = Repeats(REPEATED, REPEATED_S)
        self._waiting: list[tuple[ErrorRaised, Exception, bool]] = []  # the first is being broadcast

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Log an error, broadcast it as an `ErrorRaised` signal, and carry out the policy's decision.

        `frame` is the frame that was being handled. An error of a listener to `ErrorRaised` is only logged, unless it
        is fatal: a broadcast would call the failing listener again.
        """
        raised = error
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]  # the log has the others
        category = error.category if isinstance(error, DuologueError) else "internal"
        if category == "internal" and self.bug is None:
            self.bug = error
        while_doing = f" (while handling {type(frame).__name__})" if frame is not None else ""
        kind = processor, type(error).__name__ + while_doing
        left_out = 0 if fatal else self._repeats.take(kind, self._now())
        more = f" (and {left_out} more like it)" if left_out else ""
        if left_out is not None:
            log.log(
                logging.ERROR if category == "internal" else logging.WARNING,
                "session %s: %s: %s%s",
                self._id,
                *kind,
                more,
                exc_info=raised if category == "internal" else None,
            )
        if isinstance(frame, ErrorRaised) and not fatal:
            return
        message = error_text(error) + while_doing + more
        signal = ErrorRaised(processor=processor, category=category, message=message, fatal=fatal)
        self._waiting.append((signal, error, left_out is not None))
        if len(self._waiting) == 1:
            self._broadcast_all()

    def close(self) -> None:
        """Log how many errors were left out since the last of their kind: the session ends."""
        for kind, count in self._repeats.left_out():
            log.warning("session %s: %s (and %d more like it)", self._id, ": ".join(kind), count)

    def _broadcast_all(self) -> None:
        count = 0
        try:
            while self._waiting:
                signal, error, passes = self._waiting[0]
                count += passes
                if passes and count <= MAX_BROADCAST:
                    self._broadcast(signal)
                if (decision := self._decide(signal)) != "continue":
                    self._fail(error, decision == "cancel")
                self._waiting.pop(0)
        finally:
            self._waiting.clear()

    def _decide(self, signal: ErrorRaised) -> Decision:
        try:
            decision = self._policy(signal)
            if decision in ("continue", "end", "cancel"):
                return decision
            log.error("session %s: on_error answered %r, not continue, end or cancel", self._id, decision)
        except CONTAINED:
            log.exception("session %s: on_error failed", self._id)
        return end_on_fatal(signal)
