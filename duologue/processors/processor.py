"""`Processor`: the base class of the processors of applications and services."""

from __future__ import annotations

from ..session.session import Session
from .kernel.handlers import handles
from .kernel.node import Node

__all__ = ["Processor", "handles"]


class Processor(Node):
    """Takes typed frames and pushes typed frames.

    Subclass it, mark methods with `handles`, and put instances into a `Pipeline`. An instance belongs to one
    session. `open` and `close` bracket the session; `capacity` bounds the lane, if there is one.
    """

    session: Session
    """The session of the processor. Reading it raises IllegalState before the processor belongs to one."""
