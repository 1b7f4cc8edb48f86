"""`Life`: the state of a session, its clock, its tasks and open processors, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from ..errors import IllegalState
from ..frames import End
from ..processors.kernel.host import Deadlines, Member
from ..processors.kernel.lifecycle import OpenMembers
from ..processors.kernel.tasks import Tasks, to_the_end

log = logging.getLogger("duologue")


class State(Enum):
    """Where a session is in its life."""

    NEW = "new"
    CONNECTING = "connecting"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


_MOVES: dict[State, set[State]] = {
    State.NEW: {State.CONNECTING},
    State.CONNECTING: {State.ACTIVE, State.ENDING},
    State.ACTIVE: {State.ENDING},
    State.ENDING: {State.ENDED},
    State.ENDED: set(),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended. `abandoned` names the processors that missed their deadline and were left behind."""

    reason: str
    error: BaseException | None = None
    abandoned: tuple[str, ...] = ()


class Life:
    """Runs once: connecting, active, ending, ended. Each phase has its deadline."""

    def __init__(self, session_id: str, deadlines: Deadlines, report: Callable[[Exception, str], None]) -> None:
        self.state = State.NEW
        self.tasks = Tasks(session_id)
        self.opened = OpenMembers(self.tasks, deadlines, report)
        self._id = session_id
        self._deadlines = deadlines
        self._clock: Callable[[], float] | None = None
        self._began = 0.0
        self._drain_timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] | None = None
        self._reason: str | None = None
        self._error: BaseException | None = None

    def now(self) -> float:
        """Session time in seconds: 0 when `run` began."""
        return self._clock() - self._began if self._clock is not None else 0.0

    async def run(
        self, members: Callable[[], Collection[Member]], active: Callable[[], None], ending: Callable[[str], None]
    ) -> Outcome:
        """Open the members, call `active`, and wait for the end.

        Then call `ending` with the reason, stop the tasks and close the members. Cancelling this ends the session at
        once. Raises IllegalState if it ran before.
        """
        self._move(State.CONNECTING)
        loop = asyncio.get_running_loop()
        self._clock, self._began = loop.time, loop.time()
        self._over = loop.create_future()
        if self._reason is not None:
            self._over.set_result(None)
        else:
            # A task of its own: a processor that ignores its cancellation must not hold up the end.
            self.tasks.start("session", self._start(members, active))
        try:
            await asyncio.wait({self._over})
        except asyncio.CancelledError:
            self.finish("cancelled")
            await to_the_end(self._stop(ending))
            raise
        abandoned = await to_the_end(self._stop(ending))
        return Outcome(self._reason or "", self._error, tuple(abandoned))

    async def _start(self, members: Callable[[], Collection[Member]], active: Callable[[], None]) -> None:
        try:
            await self.opened.open(members())
            if self._reason is not None:
                return
            self._move(State.ACTIVE)
            active()
        except Exception as error:
            self.finish("error", error)

    async def _stop(self, ending: Callable[[str], None]) -> list[str]:
        """Cancel the tasks and close the processors. Returns the names of those left behind."""
        self._move(State.ENDING)
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self.tasks.cancel()
        ending(self._reason or "")
        abandoned = await self.tasks.wait(self._deadlines.stop_s)
        if abandoned:
            log.error("session %s: %s ignored the cancellation and was left behind", self._id, ", ".join(abandoned))
        late = await self.opened.close()
        if late:
            log.error("session %s: %s did not close within %s s", self._id, ", ".join(late), self._deadlines.close_s)
        abandoned += late + await self.tasks.wait(self._deadlines.stop_s)  # tasks that closing has started
        self._move(State.ENDED)
        return list(dict.fromkeys(abandoned))

    def _move(self, state: State) -> None:
        if state not in _MOVES[self.state]:
            raise IllegalState(f"session {self._id} cannot go from {self.state.value} to {state.value}")
        self.state = state

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        """End the session now, for this reason. Only the first call counts."""
        if self._reason is None:
            self._reason, self._error = reason, self._error or error
            if self._over is not None:
                self._over.set_result(None)

    def blame(self, error: BaseException) -> None:
        """Make this the error of the outcome, unless there is one."""
        self._error = self._error or error

    @property
    def draining(self) -> bool:
        """True while an `End` is on its way through the pipeline."""
        return self._drain_timer is not None

    def begin_draining(self, end: End) -> None:
        """An `End` has been pushed: it must reach the end of the pipeline within `drain_s`."""
        if self._drain_timer is None and self.state is State.ACTIVE:
            late = f"{end.reason}: drain deadline"
            self._drain_timer = asyncio.get_running_loop().call_later(self._deadlines.drain_s, self.finish, late)

    def require_running(self, what: str) -> None:
        """Raise IllegalState, naming what cannot be done, unless the session connects or is active."""
        if self.state not in (State.CONNECTING, State.ACTIVE):
            raise IllegalState(f"session {self._id} is {self.state.value}: it cannot {what}")
