"""`Processor`: what applications and services subclass."""

from __future__ import annotations

from ..session.session import Session
from .kernel.node import Node
from .kernel.spec import handles

__all__ = ["Processor", "handles"]


class Processor(Node):
    """Takes typed frames and pushes typed frames.

    Subclass it, mark methods with `handles`, and put instances into a `Pipeline`. An instance belongs to one
    session. `open` and `close` bracket the session; `capacity` bounds the lane, if there is one.
    """

    @property
    def session(self) -> Session:
        """The session that it belongs to. Raises IllegalState before there is one."""
        session: Session = self.host.session
        return session

    @property
    def in_session(self) -> bool:
        """True once it belongs to a session."""
        return self._host is not None
