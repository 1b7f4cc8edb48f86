"""`run`: a call from a program that has no event loop of its own."""

from __future__ import annotations

import anyio

from .host import Outcome
from .session import Session


def run(session: Session) -> Outcome:
    """Run a call to its end and return its outcome. Ctrl-C ends the call at once and raises KeyboardInterrupt.

    For programs that are nothing but one call. Inside an event loop, await `Session.run` instead.
    """
    return anyio.run(session.run)
