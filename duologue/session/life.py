"""`Life`: the phases of a session and its end. `OpenMembers`: its open processors. `Endings`: work after the end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ..errors import CONTAINED, DeadlineExceeded, DuologueError, IllegalState, contained
from ..frames import End
from ..processors.kernel.host import Deadlines, Member
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Tasks, to_the_end, wall_time
from .cost import NO_COST, Cost
from .error_desk import ErrorDesk

log = logging.getLogger("duologue")


class State(Enum):
    """The state of a session."""

    NEW = "new"
    CONNECTING = "connecting"
    """The pipeline opens, or an engine that had disconnected in the mode "one_turn" connects again."""
    ACTIVE = "active"
    ARMED = "armed"
    """The session is open, and the caller's microphone is not heard: see `Session.arm` and `Session.talk`."""
    REFRESHING = "refreshing"
    """A new connection of a native engine is to take the place of the one in use. The call goes on."""
    ENDING = "ending"
    ENDED = "ended"


_OPEN = frozenset({State.CONNECTING, State.ACTIVE, State.ARMED, State.REFRESHING})
_MOVES: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CONNECTING}),
    **{state: _OPEN - {state} | {State.ENDING} for state in _OPEN},
    State.ENDING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended. `abandoned` names the processors that missed their deadline and were left behind.

    `error` ended the call. `bug` is the first error of the category `internal`: the call may have gone on after it.
    `cost` is the cost of the conversation.
    """

    reason: str
    error: BaseException | None = None
    abandoned: tuple[str, ...] = ()
    bug: Exception | None = None
    cost: Cost = NO_COST


class Life:
    """The phases of a session: connecting, open, ending, ended. Each has its deadline. Runs once.

    `moved(before, now, reason)` is called with every change of the state.
    """

    __slots__ = (
        "_deadlines",
        "_desk",
        "_drain_timer",
        "_error",
        "_id",
        "_moved",
        "_over",
        "_reason",
        "began",
        "clock",
        "cost",
        "draining",
        "live",
        "opened",
        "started_at",
        "state",
        "tasks",
        "wanted",
    )

    def __init__(
        self, session_id: str, deadlines: Deadlines, desk: ErrorDesk, moved: Callable[[State, State, str], None]
    ) -> None:
        self.state = State.NEW
        self.live = False
        """True while frames flow: from the moment at which everything is open to the beginning of the end."""
        self.wanted: Callable[[], State] = _active
        """Returns the state that an open session should have."""
        self.started_at: datetime | None = None
        """The wall-clock time at which `run` began; None before that."""
        self.tasks = Tasks(session_id)
        self.opened = OpenMembers(self.tasks, deadlines, desk.report)
        self._id = session_id
        self._deadlines = deadlines
        self._desk = desk
        self._moved = moved
        self.clock: Callable[[], float] | None = None
        """The loop's clock; None before `run`."""
        self.began = 0.0
        """Loop time at which `run` began."""
        self.draining = False
        """True while an `End` is on its way through the pipeline."""
        self.cost: Callable[[], Cost] = lambda: NO_COST
        """Returns the cost of the call."""
        self._drain_timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] | None = None
        self._reason: str | None = None
        self._error: BaseException | None = None

    async def run(
        self,
        began: Callable[[], None],
        members: Callable[[], Awaitable[Collection[Member]]],
        active: Callable[[], None],
        ending: Callable[[str], None],
        ended: Callable[[Outcome], Awaitable[None]],
    ) -> Outcome:
        """Call `began`, open the members, call `active`, and wait for the end.

        Then call `ending` with the reason, stop the tasks, close the members, and call `ended` with the outcome.
        Cancelling this ends the session at once. Raises IllegalState if it has run before.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise IllegalState(
                "a session runs on asyncio's event loop: use anyio.run(main) without a backend, or asyncio.run(main())"
            ) from None
        if self.state is not State.NEW:
            raise IllegalState(f"session {self._id} cannot go from {self.state.value} to connecting")
        self._move(State.CONNECTING)
        self.started_at = wall_time()
        self.clock, self.began = loop.time, loop.time()
        began()
        self._over = loop.create_future()
        if self._reason is not None:
            self._over.set_result(None)
        else:
            # In its own task: a processor that ignores its cancellation must not delay the end.
            self.tasks.start("session", self._start(members, active))
        try:
            await asyncio.wait({self._over})
        except asyncio.CancelledError:
            self.finish("cancelled")
            await to_the_end(self._stop(ending, ended))
            raise
        return await to_the_end(self._stop(ending, ended))

    async def _start(self, members: Callable[[], Awaitable[Collection[Member]]], active: Callable[[], None]) -> None:
        try:
            await self.opened.open(await members())
            if self._reason is not None:
                return
            self.live = True
            self.settle()
            active()
        except CONTAINED as error:
            failure = contained(error)
            self._desk.report(failure, "Session", fatal=True)
            self.finish("error", failure)

    async def _stop(self, ending: Callable[[str], None], ended: Callable[[Outcome], Awaitable[None]]) -> Outcome:
        """Cancel the tasks and close the processors. Returns the outcome, with the names of owners left behind."""
        self.live = False
        self._move(State.ENDING, self._reason or "")
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self.tasks.cancel()
        ending(self._reason or "")
        deadlines = self._deadlines
        abandoned = await self.tasks.let_end(deadlines.farewell_s)
        if abandoned:
            log.error("session %s: %s did not end within %g s", self._id, ", ".join(abandoned), deadlines.farewell_s)
        ignored = await self.tasks.wait(deadlines.stop_s)
        if ignored:
            log.error("session %s: %s ignored the cancellation and was left behind", self._id, ", ".join(ignored))
        late = await self.opened.close()
        if late:
            log.error("session %s: %s did not close within %g s", self._id, ", ".join(late), deadlines.close_s)
        abandoned += ignored + late + await self.tasks.wait(deadlines.stop_s)  # tasks started while closing
        self._move(State.ENDED, self._reason or "")
        outcome = Outcome(self._reason or "", self._error, tuple(dict.fromkeys(abandoned)), self._desk.bug, self.cost())
        await ended(outcome)
        return outcome

    @property
    def running(self) -> bool:
        """True from the start of `run` to the beginning of the end."""
        return self.state in _OPEN

    def settle(self, reason: str = "") -> None:
        """Go to the state that an open session should have now, for `reason`."""
        if self.live and (state := self.wanted()) is not self.state:
            self._move(state, reason)

    def _move(self, state: State, reason: str = "") -> None:
        before = self.state
        if state not in _MOVES[before]:
            raise IllegalState(f"session {self._id} cannot go from {before.value} to {state.value}")
        self.state = state
        self._moved(before, state, reason)

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        """End the session now, with this reason. Only the first call has an effect."""
        if self._reason is None:
            self._reason, self._error = reason, self._error or error
            if self._over is not None:
                self._over.set_result(None)

    def blame(self, error: BaseException) -> None:
        """Make this the error of the outcome, unless it has one already."""
        self._error = self._error or error

    def begin_draining(self, end: End) -> None:
        """Start the deadline `drain_s`, within which an `End` that was pushed must reach the end of the pipeline."""
        if not self.draining and self.live:
            self.draining = True
            late = f"{end.reason}: drain deadline"
            self._drain_timer = asyncio.get_running_loop().call_later(self._deadlines.drain_s, self.finish, late)


def _active() -> State:
    return State.ACTIVE


class OpenMembers:
    """The processors that are open or opening. Each is closed once."""

    def __init__(self, tasks: Tasks, deadlines: Deadlines, report: Callable[[Exception, str], None]) -> None:
        self._tasks = tasks
        self._deadlines = deadlines
        self._report = report
        self._open: list[Member] = []  # a third of a dictionary's memory
        self._opening: dict[Member, asyncio.Task[None]] = {}
        self._closing: dict[asyncio.Task[None], str] = {}

    def has(self, processor: Member) -> bool:
        """Return True for a processor that is open or opening."""
        return processor in self._open

    async def open(self, processors: Collection[Member]) -> None:
        """Open processors, all at the same time.

        Raises the first error of a processor, in their order, and DeadlineExceeded, naming the processors that take
        longer than `start_s`. The calling code then has to close them.
        """
        # A task takes 2 kB, in all sessions that start at the same time, and most processors open nothing.
        jobs = {
            self._tasks.start(processor.name, self._do_open(processor)): processor
            for processor in processors
            if _does_something(processor.open, Node.open)
        }
        self._open.extend(processors)
        self._opening.update({processor: task for task, processor in jobs.items()})
        if not jobs:
            return
        limit_s = self._deadlines.start_s
        try:
            done, late = await asyncio.wait(jobs, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            done, late = set(), set(jobs)
            raise
        finally:
            for task in late:
                task.cancel()
        for task in jobs:  # in pipeline order: the error raised does not depend on timing
            if task.done() and task.cancelled():
                raise DuologueError(f"{jobs[task].name} did not open: it awaited something that was cancelled")
            if task in done and (error := task.exception()) is not None:
                raise error
        if late:
            names = ", ".join(sorted(jobs[task].name for task in late))
            raise DeadlineExceeded(f"{names} did not open within {limit_s} s")
        # A task that is kept costs half a kilobyte, for the rest of the call, and a dictionary does not shrink.
        self._opening = {other: task for other, task in self._opening.items() if other not in processors}
        self._tasks.compact()

    async def _do_open(self, processor: Member) -> None:
        try:
            await processor.open()
        except SystemExit as error:
            raise contained(error) from error
        processor.check_opened()

    async def close(self, processors: Collection[Member] | None = None) -> list[str]:
        """Close the open processors among these, by default all open processors.

        Also waits for closings in progress. Returns the names of the processors that take longer than `close_s`.
        """
        for processor in [p for p in reversed(self._open) if processors is None or p in processors]:
            self._open.remove(processor)
            opening = self._opening.pop(processor, None)
            if opening is not None or _does_something(processor.close, Node.close):
                task = asyncio.get_running_loop().create_task(self._close(processor, opening))
                self._closing[task] = processor.name
        jobs = dict(self._closing)
        late: set[asyncio.Task[None]] = set()
        if jobs:
            _, late = await asyncio.wait(jobs, timeout=self._deadlines.close_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._deadlines.stop_s)
        for task in jobs:
            self._closing.pop(task, None)
        return sorted({jobs[task] for task in late})

    async def _close(self, processor: Member, opening: asyncio.Task[None] | None) -> None:
        if opening is not None and not opening.done():
            await asyncio.wait({opening}, timeout=self._deadlines.stop_s)
        try:
            await processor.close()
        except CONTAINED as error:
            self._report(contained(error), processor.name)


def _does_something(method: Callable[..., Any], empty: Callable[..., Any]) -> bool:
    """Return True if a method has replaced the `empty` one of its base."""
    return getattr(method, "__func__", None) is not empty


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function of the application, for errors and the log."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


class Endings:
    """The functions to call with the outcome of a call, once everything has closed."""

    def __init__(self) -> None:
        self._functions: list[Callable[..., Any]] = []

    def add(self, function: Callable[..., Any]) -> Callable[[], None]:
        """Add a function. Returns a function that removes it."""
        self._functions.append(function)

        def stop() -> None:
            if function in self._functions:
                self._functions.remove(function)

        return stop

    async def run(self, session_id: str, patience_s: float, *args: Any) -> None:
        """Call every function with these arguments, all at the same time.

        An error is logged. A coroutine that takes longer than `patience_s` seconds is cancelled and named in the log.
        """
        tasks = {asyncio.ensure_future(_call(session_id, f, args)): f for f in self._functions}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience_s)
        for task in late:
            task.cancel()
            name = name_of(tasks[task])
            log.error(
                "session %s: on_ended: %s did not end within %g s, and was cancelled", session_id, name, patience_s
            )


async def _call(session_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            await result
    except CONTAINED:
        log.exception("session %s: on_ended: %s failed", session_id, name_of(function))
