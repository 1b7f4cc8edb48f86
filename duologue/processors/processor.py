"""`Processor`: what applications and services subclass."""

from __future__ import annotations

from ..session.session import Session
from .kernel.node import Node, handles

__all__ = ["Processor", "handles"]


class Processor(Node):
    """Takes typed frames and pushes typed frames.

    Subclass it, mark methods with `handles`, and put instances into a `Pipeline`. An instance belongs to one
    session. `open` and `close` bracket the session; `capacity` bounds the lane, if there is one.
    """

    session: Session
    """The session that it belongs to. Reading it raises IllegalState before there is one."""
