"""`Session`: one call, and all that must outlive the engines in it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
import anyio.abc

from ..errors import ConfigurationError, DeadlineExceeded, DuologueError, IllegalState
from ..frames import (
    End,
    ErrorRaised,
    Frame,
    Idle,
    Interrupted,
    ResponseEnded,
    SessionEnding,
    SessionStarted,
    Signal,
    Usage,
)
from ..processors.base import Processor
from ..processors.pipeline import active_leaves, all_groups, build, groups, leaves, register
from ..processors.routing import Direction, EndPort, Link, Routes, Target, drop, signal_target
from .conversation import Conversation
from .floor import Floor
from .ledger import Heard, Ledger, Response
from .usage import UsageTotals

if TYPE_CHECKING:
    from ..processors.agent import Agent

log = logging.getLogger("duologue")

S = TypeVar("S", bound=Signal)
Tap = Callable[[Processor, Direction, Frame], None]
Decision = Literal["continue", "end", "cancel"]
ErrorPolicy = Callable[[ErrorRaised], Decision]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each phase of a session may take, in seconds."""

    start_s: float = 10.0
    """Opening all processors."""
    drain_s: float = 30.0
    """From the `End` until the last has been said."""
    stop_s: float = 2.0
    """Until all tasks have obeyed their cancellation."""
    close_s: float = 5.0
    """Closing all processors; they close at the same time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended. `abandoned` names what did not stop within its deadline and had to be left behind."""

    reason: str
    error: BaseException | None = None
    abandoned: tuple[str, ...] = ()


def end_on_fatal(error: ErrorRaised) -> Decision:
    """The default error policy: the call goes on, unless the error is fatal."""
    return "end" if error.fatal else "continue"


class Session:
    """One call: its pipeline, conversation, playout ledger, floor, deadlines and tasks.

    `on_error` decides what an error does to the call. With `idle_s`, an `Idle` signal is broadcast whenever nothing
    has happened for so long. Raises ConfigurationError if a processor already belongs to another session.
    """

    def __init__(
        self,
        pipeline: Processor,
        *,
        id: str = "",
        agent: Agent | None = None,
        deadlines: Deadlines | None = None,
        on_error: ErrorPolicy = end_on_fatal,
        idle_s: float | None = None,
    ) -> None:
        if idle_s is not None and idle_s <= 0:
            raise ConfigurationError(f"idle_s must be positive, not {idle_s}")
        self.id = id or uuid.uuid4().hex[:12]
        self.pipeline = pipeline
        self.agent = agent
        """The active agent's definition."""
        self.deadlines = deadlines or Deadlines()
        self.floor = Floor(lambda: bool(self.ledger.unsettled))
        self.conversation = Conversation(self.id, self.now)
        self.ledger = Ledger(self._response_opened, self._response_heard, self._response_settled)
        self.usage = UsageTotals()
        self.has_playout = False
        """A transport plays what the agent says, and tells the ledger."""
        self.played: list[Callable[[bytes, int, float], None]] = []
        """Called by the playout with what the caller has just heard: PCM, sample rate, session time of its start."""
        self.tap: Tap | None = None
        self._taps: list[Tap] = []
        self.state = State.NEW
        self._on_error = on_error
        self._idle_s = idle_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._clock: Callable[[], float] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._working: dict[asyncio.Task[Any], str] = {}
        self._over: asyncio.Future[None] | None = None
        self._reason = ""
        self._error: BaseException | None = None
        self._fences: list[Callable[[], None]] = []
        self._listeners: dict[type[Signal], list[Callable[[Any], None]]] = {}
        self._signals: dict[type[Frame], Target] = {}
        self._opened: list[Processor] = []
        self._reporting = False
        self._link()

    # -- linking ---------------------------------------------------------------------------------------------------

    def _link(self) -> None:
        register(Link(), self.pipeline)
        bottom, top = EndPort(self._bottom), EndPort(lambda frame_type: drop)
        head = build(self, self.pipeline, "down", bottom)
        build(self, self.pipeline, "up", top)
        self._leaves = leaves(self.pipeline)
        for processor in [*all_groups(self.pipeline), *self._leaves]:
            processor._session = self
            if processor._lane is not None:
                self._fences.append(processor._lane.fence)
        self._head = Routes(self, self.pipeline, "down", head)

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
        for processor in self._leaves:
            processor._down.clear()
            processor._up.clear()
        self._head.clear()
        self._signals.clear()

    def observe(self, tap: Tap) -> Callable[[], None]:
        """Let `tap(processor, direction, frame)` see every push. Returns a function that ends it.

        Without a tap there is no cost: the routes are worked out anew.
        """
        self._taps.append(tap)
        self._tap_changed()

        def stop() -> None:
            if tap in self._taps:
                self._taps.remove(tap)
                self._tap_changed()

        return stop

    def _tap_changed(self) -> None:
        taps = tuple(self._taps)

        def all_taps(processor: Processor, direction: Direction, frame: Frame) -> None:
            for tap in taps:
                tap(processor, direction, frame)

        self.tap = all_taps if taps else None
        self.reroute()

    def _bottom(self, frame_type: type[Frame]) -> Target:
        """What the session does with frames that nobody downstream handles."""
        if issubclass(frame_type, End):
            return self._drained
        if issubclass(frame_type, ResponseEnded):
            return self._shown
        return drop

    async def _drained(self, frame: End) -> None:
        self._finish(frame.reason)

    async def _shown(self, frame: ResponseEnded) -> None:
        # Without a playout nothing is heard: what leaves the pipeline is what was said.
        if not self.has_playout:
            self.ledger.finish(frame.response_id, interrupted=frame.status == "interrupted")

    # -- time ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Session time in seconds: 0 when `run` began."""
        return self._clock() - self._began if self._clock is not None else 0.0

    # -- running ---------------------------------------------------------------------------------------------------

    def _move(self, state: State) -> None:
        if state not in _MOVES[self.state]:
            raise IllegalState(f"session {self.id} cannot go from {self.state.value} to {state.value}")
        self.state = state

    async def run(self) -> Outcome:
        """Run the call until it ends; says how it ended. Cancelling this ends the call at once.

        Raises IllegalState if the session ran before. Errors do not raise: see `Outcome.error`.
        """
        self._move(State.CONNECTING)
        loop = asyncio.get_running_loop()
        self._clock, self._began = loop.time, loop.time()
        self._over = loop.create_future()
        # A task of its own, so that a child that ignores its cancellation cannot hold up whoever called run().
        main = loop.create_task(self._main(), name=f"duologue session {self.id}")
        try:
            await asyncio.wait({main, self._over}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._finish("cancelled")
            with anyio.CancelScope(shield=True):
                await self._stop(main)
            raise
        with anyio.CancelScope(shield=True):
            abandoned = await self._stop(main)
        return Outcome(self._reason, self._error, tuple(abandoned))

    async def _main(self) -> None:
        assert self._over is not None
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                await self._open_all(self.pipeline)
            except Exception as error:
                self._finish("error", error)
                return
            self._move(State.ACTIVE)
            self.floor.touched = self._touch
            self._touch()
            self.broadcast(SessionStarted(session_id=self.id))
            await asyncio.shield(self._over)

    async def _open_all(self, node: Processor) -> None:
        limit = self.deadlines.start_s
        waiting: set[str] = set()

        async def opening(processor: Processor) -> None:
            waiting.add(processor.name)
            self._opened.append(processor)
            await processor.open()
            waiting.discard(processor.name)

        try:
            with anyio.fail_after(limit):
                async with anyio.create_task_group() as tasks:
                    for processor in [*groups(node), *active_leaves(node)]:
                        tasks.start_soon(opening, processor)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{', '.join(sorted(waiting))} did not open within {limit} s") from error
        except BaseExceptionGroup as group:
            raise _first(group) from group

    async def open_branch(self, branch: Processor) -> None:
        """Open the processors of a branch that becomes active. On an error those that opened are closed again."""
        before = len(self._opened)
        try:
            await self._open_all(branch)
        except Exception:
            opened = self._opened[before:]
            del self._opened[before:]
            await self._close(opened)
            raise

    async def close_branch(self, branch: Processor, name: str) -> None:
        """Close the processors of a branch that is no longer active."""
        mine = {id(p) for p in [*groups(branch), *leaves(branch)]}
        opened = [p for p in self._opened if id(p) in mine]
        self._opened = [p for p in self._opened if id(p) not in mine]
        await self._close(opened)

    async def _close(self, processors: list[Processor]) -> list[str]:
        """Close them all at once. Returns the names of those that did not close in time."""
        late: list[str] = []

        async def closing(processor: Processor) -> None:
            try:
                with anyio.move_on_after(self.deadlines.close_s) as scope:
                    await processor.close()
                if scope.cancelled_caught:
                    late.append(processor.name)
            except Exception as error:
                self.report(error, processor.name)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for processor in reversed(processors):
                    tasks.start_soon(closing, processor)
        return late

    async def _stop(self, main: asyncio.Task[None]) -> list[str]:
        """Cancel the tasks, close the processors, each within its deadline. Returns what had to be left behind."""
        if not main.done() or self.state is State.CONNECTING:
            self._finish("ended")
        self._move(State.ENDING)
        self.broadcast(SessionEnding(reason=self._reason))
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.floor.touched = lambda: None
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        abandoned: list[str] = []
        _, unfinished = await asyncio.wait({main}, timeout=self.deadlines.stop_s)
        if unfinished:
            abandoned += sorted(set(self._working.values()))
            log.error("session %s: %s ignored the cancellation and was left behind", self.id, ", ".join(abandoned))
        for heard in self.ledger.cut(self.floor.turn):
            log.debug("session %s: response %s was cut by the end", self.id, heard.response_id)
        closer = asyncio.get_running_loop().create_task(self._close(self._opened), name=f"duologue closing {self.id}")
        done, _ = await asyncio.wait({closer}, timeout=self.deadlines.close_s + self.deadlines.stop_s)
        late = closer.result() if done else [p.name for p in self._opened]
        if late:
            log.error("session %s: %s did not close within %s s", self.id, ", ".join(late), self.deadlines.close_s)
        self._move(State.ENDED)
        return abandoned + late

    def _finish(self, reason: str, error: BaseException | None = None) -> None:
        if self._over is not None and not self._over.done():
            self._reason, self._error = reason, error
            self._over.set_result(None)

    async def end(self, reason: str = "ended") -> None:
        """End the call once everything before this has been dealt with; cut short after `drain_s`."""
        if self.state is State.ACTIVE:
            asyncio.get_running_loop().call_later(self.deadlines.drain_s, self._finish, f"{reason}: drain deadline")
            await self.send(End(reason=reason))

    def cancel(self, reason: str = "cancelled") -> None:
        """End the call now. Does not wait, and nothing in the pipeline can hold it up."""
        self._finish(reason)

    # -- frames ----------------------------------------------------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Put a frame in at the head of the pipeline. Raises IllegalState if the session is not active."""
        if self.state is not State.ACTIVE:
            raise IllegalState(f"session {self.id} is {self.state.value}: it takes no {type(frame).__name__}")
        await self._head[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell every processor and listener that wants this signal, before this returns."""
        cls = signal.__class__
        target = self._signals.get(cls)
        if target is None:
            everyone = signal_target(self, cls, active_leaves(self.pipeline))
            target = self._signals[cls] = everyone
        if self.tap is not None:
            self.tap(self.pipeline, "down", signal)
        target(signal)
        if isinstance(signal, Usage):
            self.usage.add(signal)
        for base in cls.__mro__:
            for listener in self._listeners.get(base, ()):
                listener(signal)

    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> None:
        """Call `listener` with every signal of a type. A plain function runs at once, an `async def` in a task."""
        if not (isinstance(signal_type, type) and issubclass(signal_type, Signal)):
            raise ConfigurationError(f"{signal_type!r} is no signal: use observe() for other frames")
        self._listeners.setdefault(signal_type, []).append(self.guard_signal(listener, self.pipeline))

    def guard_signal(self, handler: Callable[[Any], Any], processor: Processor) -> Callable[[Any], None]:
        """A handler of signals that reports what it raises."""
        if asyncio.iscoroutinefunction(handler):
            return lambda signal: self.spawn(processor, handler, signal)

        def call(signal: Signal) -> None:
            try:
                handler(signal)
            except Exception as error:
                self.report(error, processor.name, signal)

        return call

    def spawn(self, owner: Processor, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session; it is cancelled when the session ends.

        Raises IllegalState outside a running session.
        """
        if self._tasks is None or self.state not in (State.CONNECTING, State.ACTIVE):
            raise IllegalState(f"{owner.name} cannot start a task: session {self.id} is {self.state.value}")
        self._tasks.start_soon(self._run_task, owner.name, function, args, name=f"{owner.name} {self.id}")

    async def _run_task(self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._working[task] = name
        try:
            await function(*args)
        except Exception as error:
            self.report(error, name)
        finally:
            del self._working[task]

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Make an error known as an `ErrorRaised` signal; the session's policy decides what follows."""
        category = error.category if isinstance(error, DuologueError) else "internal"
        while_doing = f" (while handling {type(frame).__name__})" if frame is not None else ""
        log.log(
            logging.ERROR if category == "internal" else logging.WARNING,
            "session %s: %s: %s%s",
            self.id,
            processor,
            type(error).__name__,
            while_doing,
            exc_info=error if category == "internal" else None,
        )
        if isinstance(frame, ErrorRaised) or self._reporting:
            return  # whoever fails at hearing of errors is not told of its own
        signal = ErrorRaised(
            processor=processor,
            category=category,
            message=(str(error) or type(error).__name__) + while_doing,
            fatal=fatal,
        )
        self._reporting = True
        try:
            self.broadcast(signal)
        finally:
            self._reporting = False
        decision = self._on_error(signal)
        if decision == "cancel":
            self._finish("error", error)
        elif decision == "end" and self.state is State.ACTIVE:
            self._error = error
            self.spawn(self.pipeline, self.end, "error")
        elif decision == "end":
            self._finish("error", error)

    # -- the floor -------------------------------------------------------------------------------------------------

    def on_fence(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the fence is raised, at once and before anything else runs."""
        self._fences.append(callback)

    def interrupt(self, reason: str = "barge-in") -> Interrupted:
        """Make void, everywhere and at once, all that the agent was about to say or do.

        Fixes what was heard, and tells everyone. Returns what they are told.
        """
        turn = self.floor.raise_fence()
        for fence in self._fences:
            fence()
        heard = self.ledger.cut(turn)
        signal = Interrupted(
            turn=turn,
            heard=" ".join(h.text for h in heard if h.text),
            heard_s=sum(h.seconds for h in heard),
            reason=reason,
        )
        self.broadcast(signal)
        return signal

    def _response_opened(self, response: Response) -> None:
        self.conversation.add(
            "message", "agent", turn=response.turn, id=response.id, agent=response.agent, status="in_progress"
        )

    def _response_heard(self, response: Response) -> None:
        self.conversation.update(response.id, at=self.now())

    def _response_settled(self, response: Response, heard: Heard, interrupted: bool) -> None:
        if not heard.text:
            self.conversation.remove(response.id)
            return
        self.conversation.update(
            response.id,
            text=heard.text,
            status="interrupted" if interrupted else "complete",
            heard_s=heard.seconds,
            ended_at=self.now(),
            words=tuple(w for w in response.words if w.start_s < heard.seconds),
        )

    # -- idleness --------------------------------------------------------------------------------------------------

    def _touch(self) -> None:
        if self._idle_s is None:
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = asyncio.get_running_loop().call_later(self._idle_s, self._idle)

    def _idle(self) -> None:
        assert self._idle_s is not None
        if not (self.floor.agent_speaking or self.floor.caller_speaking):
            self.broadcast(Idle(seconds=self._idle_s, owner=self.floor.owner))
        self._touch()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error in a group: what the user needs to see."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
