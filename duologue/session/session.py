"""`Session`: one call, and all that must outlive the engines in it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import ConfigurationError, DeadlineExceeded, DuologueError, IllegalState, ToolError
from ..frames import (
    AccessChanged,
    AudioLevel,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    End,
    ErrorRaised,
    Frame,
    Idle,
    Interrupted,
    ResponseEnded,
    SessionEnding,
    SessionStarted,
    Signal,
    ToolCall,
    ToolResult,
    Usage,
    UserTranscript,
)
from ..processors.kernel.groups import active_leaves, all_groups, build, groups, leaves, register
from ..processors.kernel.lane import Lane, Waits
from ..processors.kernel.lifecycle import Deadlines, Opened
from ..processors.kernel.processor import Processor
from ..processors.kernel.routes import Direction, EndPort, Link, Routes, Target, drop, signal_target
from ..processors.kernel.tasks import Tasks, to_the_end
from .conversation import Conversation
from .floor import Floor
from .hooks import HOOK_TIMEOUT_S, Hooks
from .ledger import Heard, Ledger, Response
from .levels import Levels
from .usage import UsageTotals

if TYPE_CHECKING:
    from ..agents.agent import Agent
    from .row_feed import RowFeed

log = logging.getLogger("duologue")

S = TypeVar("S", bound=Signal)
T = TypeVar("T")
Held = TypeVar("Held", UserTranscript, ToolCall)
Access = Literal["active", "muted", "revoked"]
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
        self.floor = Floor(lambda: bool(self.ledger.unsettled), self._caller_speaks)
        self.conversation = Conversation(
            self.id, self.now, failed=lambda error: self.report(error, "conversation listener")
        )
        self.ledger = Ledger(self._response_opened, self._response_heard, self._response_settled)
        self.usage = UsageTotals()
        self.has_playout = False
        """A transport plays what the agent says, and tells the ledger."""
        self.row_feed: RowFeed | None = None
        """Where `Rows` come from, once there are some."""
        self.access: Access = "active"
        """Whether the caller may be heard: see `set_access`."""
        self.access_since = 0.0
        """Session time of its last change."""
        self.hooks = Hooks(self)
        self.said: list[Callable[[bytes, int, float], None]] = []
        """Called by the transport with what the caller says, as the pipeline gets it; otherwise as `played`."""
        self.played: list[Callable[[bytes, int, float], None]] = []
        """Called by the playout with what the caller has just heard: PCM, sample rate, session time of its start."""
        self.tap: Tap | None = None
        self._taps: list[Tap] = []
        self.state = State.NEW
        self._on_error = on_error
        self._idle_s = idle_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._clock: Callable[[], float] | None = None
        self.lanes: list[Lane] = []
        """All lanes that are not closed."""
        self.waits = Waits()
        self._tasks = Tasks(self.id)
        self._opened = Opened(self._tasks, self.deadlines, self.report)
        self._drain_timer: asyncio.TimerHandle | None = None
        self._finished = False
        self._over: asyncio.Future[None] | None = None
        self._reason = ""
        self._error: BaseException | None = None
        self._fences: list[Callable[[], None]] = []
        self._listeners: dict[type[Signal], list[Callable[[Any], None]]] = {}
        self._levels = Levels(self)
        self._signals: dict[type[Frame], Target] = {}
        self._reporting = False
        self._link()

    # -- linking ---------------------------------------------------------------------------------------------------

    def _link(self) -> None:
        register(Link(), self.pipeline)
        bottom, top = EndPort(self._bottom), EndPort(lambda frame_type: drop)
        head = build(self, self.pipeline, "down", bottom)
        tail = build(self, self.pipeline, "up", top)
        self._leaves = leaves(self.pipeline)
        for processor in [*all_groups(self.pipeline), *self._leaves]:
            processor._session = self
        self._head = Routes(self, self.pipeline, "down", head)
        self._tail = Routes(self, self.pipeline, "up", tail)

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
        for processor in self._leaves:
            processor._down.clear()
            processor._up.clear()
        self._head.clear()
        self._tail.clear()
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
                try:
                    tap(processor, direction, frame)
                except Exception as error:
                    self.report(error, "observe")

        self.tap = all_taps if taps else None
        self.reroute()

    def _bottom(self, frame_type: type[Frame]) -> Target:
        """What the session does with frames that nobody downstream handles."""
        if issubclass(frame_type, End):
            return self._drained
        if issubclass(frame_type, ResponseEnded):
            return self._shown
        if issubclass(frame_type, ToolCall):
            return self._refused
        return drop

    async def _drained(self, frame: End) -> None:
        self._finish(frame.reason)

    async def _refused(self, frame: ToolCall) -> None:
        # An agent that waits for a result in vain would owe the caller an answer for ever.
        error = f"the tool {frame.name!r} cannot be called: nobody in the pipeline runs tools"
        self.report(ToolError(error), "Session")
        await self._tail[ToolResult](
            ToolResult(call_id=frame.call_id, name=frame.name, turn=frame.turn, result={"error": error}, is_error=True)
        )

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
        if self._finished:
            self._over.set_result(None)
        else:
            self._tasks.start("session", self._start())
        try:
            await asyncio.wait({self._over})
        except asyncio.CancelledError:
            self._finish("cancelled")
            await to_the_end(self._stop())
            raise
        abandoned = await to_the_end(self._stop())
        return Outcome(self._reason, self._error, tuple(abandoned))

    async def _start(self) -> None:
        try:
            await self._opened.open([*groups(self.pipeline), *active_leaves(self.pipeline)])
            if self._finished:
                return
            self._move(State.ACTIVE)
            self.floor.touched = self._touch
            self._touch()
            self.broadcast(SessionStarted(session_id=self.id))
        except Exception as error:
            self._finish("error", error)

    async def _stop(self) -> list[str]:
        """Cancel the tasks, close the processors, each within its deadline. Returns what had to be left behind."""
        self._move(State.ENDING)
        self.floor.close()
        for timer in (self._idle_timer, self._drain_timer):
            if timer is not None:
                timer.cancel()
        self._levels.stop()
        for lane in tuple(self.lanes):
            lane.close()
        self._tasks.cancel()
        for heard in self.ledger.cut(self.floor.turn):
            log.debug("session %s: response %s was cut by the end", self.id, heard.response_id)
        self.broadcast(SessionEnding(reason=self._reason))
        abandoned = await self._tasks.wait(self.deadlines.stop_s)
        if abandoned:
            log.error("session %s: %s ignored the cancellation and was left behind", self.id, ", ".join(abandoned))
        late = await self._opened.close()
        if late:
            log.error("session %s: %s did not close within %s s", self.id, ", ".join(late), self.deadlines.close_s)
        abandoned += late + await self._tasks.wait(self.deadlines.stop_s)  # what closing has started
        self._move(State.ENDED)
        return list(dict.fromkeys(abandoned))

    def _finish(self, reason: str, error: BaseException | None = None) -> None:
        if self._finished:
            return
        self._finished = True
        self._reason, self._error = reason, self._error or error
        if self._over is not None:
            self._over.set_result(None)

    async def end(self, reason: str = "ended") -> None:
        """End the call once everything before this has been dealt with; cut short after `drain_s`.

        Before the call is active it ends at once; a call that ends already goes on doing so.
        """
        if self.state is not State.ACTIVE:
            self._finish(reason)
        elif not self.draining:
            await self.send(End(reason=reason))

    @property
    def draining(self) -> bool:
        """Whether an `End` is on its way: what comes before it is still dealt with, and nothing new should begin."""
        return self._drain_timer is not None

    def begin_draining(self, end: End) -> None:
        """An `End` has been pushed: it must reach the end of the pipeline within `drain_s`."""
        if self._drain_timer is None and self.state is State.ACTIVE:
            late = f"{end.reason}: drain deadline"
            self._drain_timer = asyncio.get_running_loop().call_later(self.deadlines.drain_s, self._finish, late)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the call now. Does not wait, and nothing in the pipeline can hold it up."""
        self._finish(reason)

    async def open_branch(self, branch: Processor) -> None:
        """Open the processors of a branch that becomes active. On an error those that opened are closed again.

        Raises IllegalState if the session does not run, or ends meanwhile.
        """
        self.require_running("open a branch")
        processors = [*groups(branch), *active_leaves(branch)]
        try:
            await self._opened.open(processors)
            self.require_running("open a branch")
        except BaseException:
            await to_the_end(self._opened.close(processors))
            raise

    async def close_branch(self, branch: Processor) -> None:
        """Close the processors of a branch that is no longer active."""
        late = await to_the_end(self._opened.close([*groups(branch), *leaves(branch)]))
        for name in late:
            self.report(DeadlineExceeded(f"{name} did not close within {self.deadlines.close_s} s"), name)

    def is_open(self, processor: Processor) -> bool:
        """Whether it has been opened, or is about to be, and not closed again."""
        return self._opened.has(processor)

    def require_running(self, what: str) -> None:
        """Raise IllegalState, naming what cannot be done, unless the session connects or is active."""
        if self.state not in (State.CONNECTING, State.ACTIVE):
            raise IllegalState(f"session {self.id} is {self.state.value}: it cannot {what}")

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

    def hear(self, signal: Signal) -> None:
        """Tell the listeners of a signal that has been pushed or broadcast."""
        if isinstance(signal, Usage):
            self.usage.add(signal)
        for base in signal.__class__.__mro__:
            for listener in tuple(self._listeners.get(base, ())):
                listener(signal)

    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> Callable[[], None]:
        """Call `listener` with every signal of a type. A plain function runs at once, an `async def` in a task.

        Returns a function that ends it.
        """
        if not (isinstance(signal_type, type) and issubclass(signal_type, Signal)):
            raise ConfigurationError(f"{signal_type!r} is no signal: use observe() for other frames")
        listeners, guarded = self._listeners.setdefault(signal_type, []), self.guard_signal(listener, self.pipeline)
        listeners.append(guarded)
        if signal_type is AudioLevel:
            self._levels.listened(1)

        def stop() -> None:
            if guarded in listeners:
                listeners.remove(guarded)
                if signal_type is AudioLevel:
                    self._levels.listened(-1)

        return stop

    def intercept(
        self, frame_type: type[Held], hook: Callable[[Held], Any], *, timeout_s: float = HOOK_TIMEOUT_S
    ) -> Callable[[], None]:
        """Ask `hook(frame)`, a `def` or an `async def`, before anything follows from a `UserTranscript` or `ToolCall`.

        It returns the frame, changed (a transcript's text, a call's arguments) or not, or None to block it; for a call
        also a `ToolResult`, which answers it. If it raises or takes longer than `timeout_s` that is reported; a
        transcript then passes unchanged, and a tool call is refused. Returns a function that ends it. Raises
        ConfigurationError for another type.
        """
        return self.hooks.add(frame_type, hook, timeout_s)

    def set_access(self, access: Access, *, by: str = "") -> None:
        """Let the caller be heard (`active`) or not (`muted`), from this moment on; `by` says who wants it so.

        What a muted caller says is silence to the pipeline. Of a `revoked` one also texts, keys and images are
        dropped. Raises ConfigurationError for anything else.
        """
        if access not in ("active", "muted", "revoked"):
            raise ConfigurationError(f"access is active, muted or revoked, not {access!r}")
        if access == self.access:
            return
        self.access, self.access_since = access, self.now()
        if self.state in (State.CONNECTING, State.ACTIVE):
            self.broadcast(AccessChanged(access=access, by=by))

    def guard_signal(self, handler: Callable[[Any], Any], processor: Processor) -> Callable[[Any], None]:
        """A handler of signals that reports what it raises."""

        def call(signal: Signal) -> None:
            try:
                result = handler(signal)
            except Exception as error:
                self.report(error, processor.name, signal)
                return
            if inspect.iscoroutine(result):
                if self.state is State.ENDED:
                    result.close()  # nobody is left to run it
                else:
                    self.start_task(processor, result, signal)

        return call

    def spawn(self, owner: Processor, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session; it is cancelled when the session ends.

        Raises IllegalState outside a running session.
        """
        self.start_task(owner, function(*args))

    def start_task(
        self, owner: Processor, coroutine: Coroutine[Any, Any, T], frame: Frame | None = None
    ) -> asyncio.Task[T]:
        """As `spawn`. Errors are reported as raised while handling `frame`."""
        if self.state in (State.NEW, State.ENDED):
            coroutine.close()
            raise IllegalState(f"{owner.name} cannot start a task: session {self.id} is {self.state.value}")
        return self._tasks.start(owner.name, coroutine, lambda error: self.report(error, owner.name, frame))

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Make an error known as an `ErrorRaised` signal; the session's policy decides what follows."""
        raised = error
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]  # what the user needs to see; the log has the rest
        category = error.category if isinstance(error, DuologueError) else "internal"
        while_doing = f" (while handling {type(frame).__name__})" if frame is not None else ""
        log.log(
            logging.ERROR if category == "internal" else logging.WARNING,
            "session %s: %s: %s%s",
            self.id,
            processor,
            type(error).__name__,
            while_doing,
            exc_info=raised if category == "internal" else None,
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
        decision = self._decide(signal)
        if decision == "cancel":
            self._finish("error", error)
        elif decision == "end" and self.state is State.ACTIVE:
            self._error = self._error or error
            self.spawn(self.pipeline, self.end, "error")
        elif decision == "end":
            self._finish("error", error)

    def _decide(self, signal: ErrorRaised) -> Decision:
        try:
            decision = self._on_error(signal)
            if decision in ("continue", "end", "cancel"):
                return decision
            log.error("session %s: on_error answered %r, not continue, end or cancel", self.id, decision)
        except Exception:
            log.exception("session %s: on_error failed", self.id)
        return end_on_fatal(signal)

    # -- the floor -------------------------------------------------------------------------------------------------

    def on_fence(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the fence is raised, at once and before anything else runs.

        Lanes need no call. Returns a function that ends it.
        """
        self._fences.append(callback)

        def stop() -> None:
            if callback in self._fences:
                self._fences.remove(callback)

        return stop

    def interrupt(self, reason: str = "barge-in") -> Interrupted:
        """Make void, everywhere and at once, all that the agent was about to say or do.

        Fixes what was heard, and tells everyone. Returns what they are told.
        """
        turn = self.floor.raise_fence()
        failed: list[Exception] = []
        for fence in (*(lane.fence for lane in self.lanes), *self._fences):
            try:
                fence()
            except Exception as error:
                failed.append(error)
        heard = self.ledger.cut(turn)
        for problem in failed:
            self.report(problem, "on_fence")
        signal = Interrupted(
            turn=turn,
            heard=" ".join(h.text for h in heard if h.text),
            heard_s=sum(h.seconds for h in heard),
            reason=reason,
        )
        self.broadcast(signal)
        return signal

    def _caller_speaks(self, speaking: bool, at: float) -> None:
        self.broadcast(CallerStartedSpeaking(at=at) if speaking else CallerStoppedSpeaking(at=at))

    def _response_opened(self, response: Response) -> None:
        self.conversation.add(
            "message", "agent", turn=response.turn, id=response.id, agent=response.agent, status="in_progress"
        )

    def _response_heard(self, response: Response) -> None:
        if self.conversation.get(response.id) is not None:
            self.conversation.update(response.id, at=self.now())

    def _response_settled(self, response: Response, heard: Heard, interrupted: bool) -> None:
        if self.conversation.get(response.id) is None:
            return  # so long ago that the conversation has forgotten it
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
