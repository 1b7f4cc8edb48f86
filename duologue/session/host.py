"""`SessionHost`: the parts of a session that run its pipeline, put together as the kernel's `Host`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from ..errors import DeadlineExceeded, IllegalState
from ..frames import End, Frame, SessionEnding, SessionStarted
from ..processors.kernel.groups import active_members
from ..processors.kernel.host import Deadlines, Fenced, Member, Target
from ..processors.kernel.linked import LinkedPipeline, Tap
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import to_the_end
from ..processors.kernel.waits import Waits
from .bus import Bus
from .error_desk import ErrorDesk, ErrorPolicy
from .floor import Floor
from .life import Life, Outcome, State

T = TypeVar("T")


class SessionHost:
    """Runs the processors of one session. The kernel sees it as its `Host`."""

    def __init__(
        self,
        session: Any,
        session_id: str,
        pipeline: Node,
        *,
        deadlines: Deadlines,
        floor: Floor,
        on_error: ErrorPolicy,
        bottom: Callable[[type[Frame]], Target],
    ) -> None:
        self.session = session
        self.deadlines = deadlines
        self.floor = floor
        self.lanes: list[Fenced] = []
        self.waits = Waits()
        self.tap: Tap | None = None
        self._id = session_id
        self._pipeline = pipeline
        self._fences: list[Callable[[], None]] = []
        # The parts, and what others call of them.
        desk = ErrorDesk(session_id, on_error, lambda signal: self.linked.broadcast(signal), self._fail)
        self.report = desk.report
        self.life = Life(session_id, deadlines, desk.report)
        self.begin_draining = self.life.begin_draining
        self.require_running = self.life.require_running
        self.is_open = self.life.opened.has
        self.bus = Bus(self.life, desk.report, self.start_task)
        self.hear, self.guard = self.bus.hear, self.bus.guard
        self.linked: LinkedPipeline = LinkedPipeline(pipeline, self, bottom)
        self.broadcast, self.reroute = self.linked.broadcast, self.linked.reroute

    async def run(self, cut: Callable[[], None]) -> Outcome:
        """Run the pipeline until it ends. `cut` fixes what was heard, when the lanes are closed."""

        def active() -> None:
            self.broadcast(SessionStarted(session_id=self._id))

        def ending(reason: str) -> None:
            for lane in tuple(self.lanes):
                lane.close()
            cut()
            self.broadcast(SessionEnding(reason=reason))

        return await self.life.run(lambda: active_members(self._pipeline), active, ending)

    async def end(self, reason: str) -> None:
        """Send an `End` through the pipeline; end at once if it is not active."""
        if self.life.state is not State.ACTIVE:
            self.life.finish(reason)
        elif not self.life.draining:
            await self.linked.send(End(reason=reason))

    def _fail(self, error: Exception, at_once: bool) -> None:
        if at_once or self.life.state is not State.ACTIVE:
            self.life.finish("error", error)
        else:
            self.life.blame(error)
            self.start_task(self._pipeline, self.end("error"))

    def start_task(
        self, owner: Member, coroutine: Coroutine[Any, Any, T], frame: Frame | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task of the session. An error is reported as raised while handling `frame`.

        Raises IllegalState outside a running session.
        """
        state = self.life.state
        if state in (State.NEW, State.ENDED):
            coroutine.close()
            raise IllegalState(f"{owner.name} cannot start a task: session {self._id} is {state.value}")
        return self.life.tasks.start(owner.name, coroutine, lambda error: self.report(error, owner.name, frame))

    async def open_branch(self, members: Collection[Member]) -> None:
        """Open the members of a branch that becomes active. On an error those that opened are closed again.

        Raises IllegalState if the session does not run, or ends meanwhile.
        """
        self.require_running("open a branch")
        try:
            await self.life.opened.open(members)
            self.require_running("open a branch")
        except BaseException:
            await to_the_end(self.life.opened.close(members))
            raise

    async def close_branch(self, members: Collection[Member]) -> None:
        """Close the members of a branch that is no longer active. Those that take too long are reported."""
        for name in await to_the_end(self.life.opened.close(members)):
            self.report(DeadlineExceeded(f"{name} did not close within {self.deadlines.close_s} s"), name)

    def on_fence(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the fence is raised, after the lanes. Returns a function that ends it."""
        self._fences.append(callback)

        def stop() -> None:
            if callback in self._fences:
                self._fences.remove(callback)

        return stop

    def fence(self) -> list[Exception]:
        """The fence has been raised: empty the lanes of stale output, then call the others. Returns their errors."""
        failed: list[Exception] = []
        for fence in (*(lane.fence for lane in self.lanes), *self._fences):
            try:
                fence()
            except Exception as error:
                failed.append(error)
        return failed
