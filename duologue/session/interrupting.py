"""`interrupt`: makes void what the agent was about to say. `may_interrupt`: the moments in which it can be done."""

from __future__ import annotations

from typing import Protocol

from ..frames import Frame, Interrupted, Signal
from .floor import Floor
from .host import SessionHost
from .ledger import Ledger


class CutIn(Protocol):
    """The part of a session that an interruption uses."""

    @property
    def floor(self) -> Floor: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def host(self) -> SessionHost: ...
    def report(self, error: Exception, processor: str, frame: Frame | None = None) -> None: ...
    def broadcast(self, signal: Signal) -> None: ...


def interrupt(session: CutIn, reason: str) -> Interrupted:
    """Carry out `Session.interrupt`. All of it happens in one step of the event loop, in this order:

    1. The fence rises. From now on every push of older output ends where it is, work inside `floor.scope(turn)` is
       cancelled, and holds that are not lasting end.
    2. The lanes drop stale output and cancel the handlers at work on it. This comes before the playouts: room in
       a lane, or in a playout, wakes a waiting push, which must find its frame stale.
    3. The playouts fall silent (`on_fence`) and tell the ledger how much of their audio was played. This comes
       before the ledger is cut: audio that the far end has played counts as heard.
    4. The ledger settles the interrupted responses. Their heard text is fixed, and the log holds it.
    5. Errors of step 3 are reported, and `Interrupted` is broadcast. This is last: its listeners read the log, and
       may begin a new turn, which nothing above must touch.
    """
    turn = session.floor.raise_fence()
    failed = session.host.fence()
    heard = session.ledger.cut(turn)
    for error in failed:
        session.report(error, "on_fence")
    signal = Interrupted(
        turn=turn,
        heard=" ".join(h.text for h in heard if h.text),
        heard_s=sum(h.seconds for h in heard),
        reason=reason,
    )
    session.broadcast(signal)
    return signal


def may_interrupt(session: CutIn) -> bool:
    """Return True if the agent speaks or works on an answer, and none of it is protected."""
    floor = session.floor
    if floor.owner != "agent" or floor.is_protected(floor.turn):
        return False
    return not any(floor.is_protected(response.turn) for response in session.ledger.unsettled)
