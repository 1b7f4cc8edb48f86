"""`SessionHost`: runs the pipeline of a session; `Bus`: its signals."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from ..errors import (
    CONTAINED,
    BudgetUsedUp,
    ConfigurationError,
    DeadlineExceeded,
    IllegalState,
    contained,
)
from ..frames import (
    End,
    Frame,
    SessionEnding,
    SessionStarted,
    Signal,
    StateChanged,
)
from ..processors.kernel.groups import LinkedPipeline, active_leaves, active_members
from ..processors.kernel.host import Deadlines, Fenced, Member, Tap, Target
from ..processors.kernel.lane import DONE
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Kept, WaitRecord, to_the_end
from ..processors.kernel.wiring import check_wiring
from .bottom import Bottom
from .boundary import as_code_of, inside
from .call_log import CallLog
from .call_trace import boundary_of, close_trace
from .error_desk import ErrorDesk, ErrorPolicy, end_on_fatal
from .floor import Floor
from .life import Endings, Life, Outcome, State, name_of
from .resuming import CallResume

log = logging.getLogger("duologue")

S = TypeVar("S", bound=Signal)
T = TypeVar("T")


class Report(Protocol):
    """The type of `Session.report`, which reports an error."""

    def __call__(
        self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False
    ) -> None: ...


class Bus:
    """Calls listeners with the signals that they want, and guards each: an error is reported, the others go on."""

    def __init__(self, life: Life, report: Report, start_task: Callable[..., Any]) -> None:
        self.life = life
        self.report = report
        self.start_task = start_task
        self.listeners: dict[type[Signal], list[_GuardedListener]] = {}
        self._watchers: dict[type[Signal], Callable[[int], None]] = {}

    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> Callable[[], None]:
        """Call `listener` with every signal of a type. Returns a function that removes it.

        Raises ConfigurationError if `signal_type` is not a type of signals.
        """
        if not (isinstance(signal_type, type) and issubclass(signal_type, Signal)):
            raise ConfigurationError(f"{signal_type!r} is not a signal: use observe() for other frames")
        listeners = self.listeners.setdefault(signal_type, [])
        guarded = _GuardedListener(self, listener, name_of(listener))
        changed: Callable[[int], None] = self._watchers.get(signal_type, _unwatched)
        listeners.append(guarded)
        changed(1)

        def stop() -> None:
            if guarded in listeners:
                listeners.remove(guarded)
                changed(-1)

        return stop

    def watch(self, signal_type: type[Signal], changed: Callable[[int], None]) -> None:
        """Call `changed` with 1 for each new listener of exactly this type, and with -1 for each that is removed.

        For signals that are made only while somebody listens.
        """
        self._watchers[signal_type] = changed

    def target(self, signal_type: type[Frame], members: Iterable[Member]) -> Target:
        """Return a function that calls the handlers of a signal at once: those of `members`, then the listeners."""
        found = (member.signal_handler(signal_type) for member in members)
        return _Delivery(self, tuple(handler for handler in found if handler is not None), signal_type.__mro__)

    def finish(self, result: Any, owner: str, signal: Signal) -> None:
        """Run the coroutine of a handler that is `async def` in a task."""
        if inspect.iscoroutine(result):
            if self.life.state is State.ENDED:
                result.close()  # no task can run any more
            else:
                self.start_task(owner, Kept(result), signal)


# Objects with slots take a third of the memory of closures, and a session has dozens of these.


class _GuardedListener:
    """A listener. Its error is reported. The coroutine of an `async def` runs in a task."""

    __slots__ = ("_bus", "_listener", "_owner")

    def __init__(self, bus: Bus, listener: Callable[[Any], Any], owner: str) -> None:
        self._bus = bus
        self._listener = listener
        self._owner = owner

    def __call__(self, signal: Signal) -> None:
        try:
            result = self._listener(signal)
        except CONTAINED as error:
            self._bus.report(contained(error), self._owner, signal)
            return
        if result is not None:
            self._bus.finish(result, self._owner, signal)


class _Delivery:
    """Calls the handlers of signals of one type, then the listeners to the type and to its bases."""

    __slots__ = ("_bases", "_bus", "_handlers")

    def __init__(self, bus: Bus, handlers: tuple[Any, ...], bases: tuple[type, ...]) -> None:
        self._bus = bus
        self._handlers = handlers  # methods of processors
        self._bases = bases

    def __call__(self, signal: Any) -> Awaitable[None]:
        bus = self._bus
        for handler in self._handlers:
            try:
                result = handler(signal)
            except CONTAINED as error:
                bus.report(contained(error), handler.__self__.name, signal)
                continue
            if result is not None:
                bus.finish(result, handler.__self__.name, signal)
        listeners = bus.listeners
        for base in self._bases:
            if base in listeners:
                for listener in tuple(listeners[base]):
                    listener(signal)
        return DONE


def _unwatched(count: int) -> None:
    pass


class SessionHost:
    """Runs the processors of one session. The kernel sees it as its `Host`."""

    def __init__(
        self,
        session: Any,
        session_id: str,
        pipeline: Node,
        deadlines: Deadlines,
        floor: Floor,
        on_error: ErrorPolicy | None,
        log_words: bool = False,
        resume: CallResume | None = None,
    ) -> None:
        self.session = session
        self.deadlines = deadlines
        self.floor = floor
        self.lanes: list[Fenced] = []
        self.waits = WaitRecord()
        self.tap: Tap | None = None
        if resume is not None and session.trace is None:
            raise ConfigurationError("resume needs a trace: the call goes on in it, in the same store")
        self._resume = resume
        self._id = session_id
        self._pipeline = pipeline
        self._fences: list[Callable[[], None]] = []
        # The parts, and their methods that others call directly.
        desk = ErrorDesk(session_id, on_error or end_on_fatal, self.broadcast, self._fail, self.now)
        self._desk = desk
        self.report = desk.report
        self.life = Life(session_id, deadlines, desk, self._moved)
        self.bus = Bus(self.life, desk.report, self._start_task)
        self.linked: LinkedPipeline = LinkedPipeline(pipeline, self, Bottom(self).resolve)
        self.endings = Endings()
        self._log = CallLog(session_id, log_words)
        self._targets: dict[type[Frame], Target] = {}
        self._hearers = self._find_hearers()

    def now(self) -> float:
        """Session time in seconds: 0 when `run` began."""
        life = self.life
        return life.clock() - life.began if life.clock is not None else 0.0

    def require_running(self, what: str) -> None:
        """Raise IllegalState, naming what cannot be done, unless the session connects or is active."""
        if not self.life.running:
            raise IllegalState(f"session {self._id} is {self.life.state.value}: it cannot {what}")

    def check_wiring(self) -> None:
        """Raise ConfigurationError, with the mend, if a processor cannot work in its place. Called before `run`."""
        check_wiring(self._pipeline)

    def _find_hearers(self) -> list[Node]:
        return [node for node in active_leaves(self._pipeline) if node.spec().signals]

    def _find_target(self, signal_type: type[Frame]) -> Target:
        target = self._targets[signal_type] = self.signal_target(signal_type, self._hearers)
        return target

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal to every active processor, then to the session's listeners, before this returns."""
        target = self._targets.get(signal.__class__) or self._find_target(signal.__class__)
        if self.tap is not None:
            self.tap(self._pipeline, "down", signal)
        target(signal)

    def tap_for(self, frame_type: type[Frame]) -> Tap | None:
        """Return the function to call with pushes of frames of this type; None if nobody observes them."""
        return self.linked.tap_for(frame_type)

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
        self.linked.reroute()
        self._targets.clear()
        self._hearers = self._find_hearers()

    async def run(self, cut: Callable[[], None]) -> Outcome:
        """Run the pipeline until it ends. `cut` settles the responses once the lanes are closed."""
        self._cut = cut
        self.life.cost = self.session.cost.readout
        self.session.cost.begin()
        self._log.begins(self._pipeline, self.session.feed)
        # Methods: closures would take three times the memory, for the whole call.
        parts = self._began, self._members, self._active, self._ending, self._ended
        with as_code_of(None):  # `_began` sets the boundary
            return await self.life.run(*parts)

    def _began(self) -> None:
        if self.session.trace is not None and self._resume is None:
            self.session.trace.begin(self.session)
            inside.set(boundary_of(self.session))

    async def _members(self) -> Collection[Member]:
        if self._resume is not None:
            await self._resume.take(self.session)
        return active_members(self._pipeline)

    def _active(self) -> None:
        for signal_type in {handled for node in self._hearers for handled in node.spec().signals}:
            self._find_target(signal_type)  # resolve now, not at the first interruption
        self.broadcast(SessionStarted(session_id=self._id))

    def _moved(self, before: State, now: State, reason: str) -> None:
        self.broadcast(StateChanged(state=now.value, before=before.value, reason=reason))

    def _ending(self, reason: str) -> None:
        for lane in tuple(self.lanes):
            lane.close()
        self._cut()
        self.broadcast(SessionEnding(reason=reason))
        self._desk.close()

    async def _ended(self, outcome: Outcome) -> None:
        self._log.ends(self.now(), outcome.reason, outcome.error, outcome.abandoned)
        if self.session.trace is not None:
            await close_trace(self.session.trace, outcome, self._id, self.deadlines.farewell_s)
        await self.endings.run(self._id, self.deadlines.farewell_s, self.session, outcome)

    def begin_draining(self, end: End) -> None:
        """Start to drain: an open processor has pushed an `End`."""
        self.life.begin_draining(end)

    def is_open(self, member: Member) -> bool:
        """Return True for a member that is open, or opening."""
        return self.life.opened.has(member)

    def signal_target(self, signal_type: type[Frame], members: Iterable[Member]) -> Target:
        """Return a function that calls the handlers of a signal at once: of `members`, then the session's listeners."""
        return self.bus.target(signal_type, members)

    def send(self, frame: Frame) -> Awaitable[None]:
        """Put a frame in at the head of the pipeline. Raises IllegalState if the session is not active."""
        if not self.life.live:
            raise IllegalState(f"session {self._id} is {self.life.state.value}: it takes no {type(frame).__name__}")
        return self.linked.send(frame)

    async def end(self, reason: str) -> None:
        """Send an `End` through the pipeline; if the session is not active, end at once."""
        if not self.life.live:
            self.life.finish(reason)
        elif not self.life.draining:
            await self.linked.send(End(reason=reason))

    def _fail(self, error: Exception, at_once: bool) -> None:
        if at_once or not self.life.live:
            self.life.finish("error", error)
        else:
            self.life.blame(error)
            self.start_task(self._pipeline, self.end("error"))

    def stop_spending(self, error: BudgetUsedUp) -> None:
        """End the call now: its budget is used up. Nothing of the agent's goes out any more, and nothing new begins."""
        self.life.finish("budget")
        self.life.draining = True
        if self.life.live:
            self.session.interrupt("budget")
        # For readers of the log only: without a text it is not sent to a model.
        told = {"category": error.category, "error": str(error)}
        self.session.conversation.add("note", "system", name="error", data=told)
        self.report(error, "Session")

    def start_task(
        self, owner: Member, coroutine: Coroutine[Any, Any, T], frame: Frame | None = None, *, name: str = ""
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task of the session. An error is reported as raised while handling `frame`.

        `name` is the name of the task, by default its owner's.

        Raises IllegalState outside a running session.
        """
        return self._start_task(name or owner.name, coroutine, frame)

    def _start_task(self, owner: str, coroutine: Coroutine[Any, Any, T], frame: Frame | None) -> asyncio.Task[T]:
        state = self.life.state
        if state in (State.NEW, State.ENDED):
            coroutine.close()
            raise IllegalState(f"{owner} cannot start a task: session {self._id} is {state.value}")
        return self.life.tasks.start(owner, coroutine, lambda error: self.report(error, owner, frame))

    async def open_branch(self, members: Collection[Member]) -> None:
        """Open the members of a branch that becomes active. On an error, close those that have opened.

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
        """Call `callback` whenever the fence is raised, after the lanes. Returns a function that removes it."""
        self._fences.append(callback)

        def stop() -> None:
            if callback in self._fences:
                self._fences.remove(callback)

        return stop

    def fence(self) -> list[Exception]:
        """Empty the lanes of stale output after the fence has risen, then call the callbacks. Returns their errors."""
        failed: list[Exception] = []
        for fence in (*(lane.fence for lane in self.lanes), *self._fences):
            try:
                fence()
            except CONTAINED as error:
                failed.append(contained(error))
        return failed
