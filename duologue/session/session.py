"""`Session`: one call, and all that outlives the engines in it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..agents.agent import Agent
from ..errors import IllegalState
from ..frames import (
    AccessChanged,
    AudioLevel,
    BotText,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Frame,
    Interrupted,
    SessionEnding,
    SessionStarted,
    Signal,
    ToolCall,
    Usage,
    UserTranscript,
)
from ..processors.kernel.host import Deadlines, Member
from ..processors.kernel.linked import Tap
from ..processors.kernel.node import Node
from .audio import Access, CallAudio
from .bottom import Bottom
from .conversation import Conversation
from .error_desk import ErrorPolicy, end_on_fatal
from .feed import Feed
from .floor import Floor
from .hooks import HOOK_TIMEOUT_S, Hooks
from .host import SessionHost
from .idle_clock import IdleClock
from .ledger import Ledger
from .levels import Levels
from .life import Outcome, State
from .log_keeper import LogKeeper
from .usage import UsageTotals

log = logging.getLogger("duologue")

S = TypeVar("S", bound=Signal)
T = TypeVar("T")
Interceptable = TypeVar("Interceptable", UserTranscript, BotText, ToolCall)


class Session:
    """One call: its pipeline, conversation, playout ledger, floor, deadlines and tasks.

    `on_error` decides what an error does to the call. With `idle_s`, an `Idle` signal is broadcast whenever nothing
    has happened for that many seconds. Raises ConfigurationError if a processor already belongs to another session.
    """

    def __init__(
        self,
        pipeline: Node,
        *,
        id: str = "",
        agent: Agent | None = None,
        deadlines: Deadlines | None = None,
        on_error: ErrorPolicy = end_on_fatal,
        idle_s: float | None = None,
    ) -> None:
        self.id = id or uuid.uuid4().hex[:12]
        self.pipeline = pipeline
        self.agent = agent
        """The active agent's definition."""
        self.deadlines = deadlines or Deadlines()
        self.conversation = Conversation(
            self.id, self.now, failed=lambda error: self.report(error, "conversation listener")
        )
        self.calls = self.conversation.calls
        """The tool calls in the log."""
        keeper = LogKeeper(self.conversation, self.now)
        self.ledger = Ledger(keeper.opened, keeper.heard, keeper.settled)
        self.floor = Floor(lambda: bool(self.ledger.unsettled), self._caller_speaks)
        self.usage = UsageTotals()
        self.audio = CallAudio(self.report)
        """Both sides' audio as it is heard, and the caller's access."""
        self.feed = Feed(self)
        """The call as events, for watchers."""
        bottom = Bottom(
            self.audio,
            self.ledger,
            finish=self.cancel,
            report=self.report,
            send_up=lambda f: self.host.linked.send_up(f),
        )
        self.host = SessionHost(
            self,
            self.id,
            pipeline,
            deadlines=self.deadlines,
            floor=self.floor,
            on_error=on_error,
            bottom=bottom.resolve,
        )
        """What runs the pipeline."""
        self.hooks = Hooks(self.report, self.broadcast, self.conversation)
        self.on(Usage, self.usage.add)
        levels = Levels(self.audio, self.now, self.broadcast)
        self.host.bus.watch(AudioLevel, levels.listened)
        self.on(SessionEnding, lambda signal: levels.stop())
        if idle_s is not None:
            idle = IdleClock(self.floor, idle_s, self.broadcast)
            self.on(SessionStarted, lambda signal: idle.start())
            self.on(SessionEnding, lambda signal: idle.stop())

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self.host.life.state

    def now(self) -> float:
        """Session time in seconds: 0 when `run` began."""
        return self.host.life.now()

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> Outcome:
        """Run the call until it ends; returns how it ended. Cancelling this ends the call at once.

        Raises IllegalState if the session ran before. Errors do not raise: see `Outcome.error`.
        """

        def cut() -> None:
            self.floor.close()
            for heard in self.ledger.cut(self.floor.turn):
                log.debug("session %s: response %s was cut by the end", self.id, heard.response_id)

        return await self.host.run(cut)

    async def end(self, reason: str = "ended") -> None:
        """End the call once all frames before this have been dealt with; it is cut short after `drain_s` seconds.

        Before the call is active it ends at once; a call that is ending goes on doing so.
        """
        await self.host.end(reason)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the call now. Does not wait, and nothing in the pipeline can hold it up."""
        self.host.life.finish(reason)

    @property
    def draining(self) -> bool:
        """True while an `End` is on its way: frames before it are still dealt with, and nothing new should begin."""
        return self.host.life.draining

    def start_task(self, owner: Member, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task of the session; it is cancelled when the session ends. Its error is reported.

        Raises IllegalState outside a running session.
        """
        return self.host.start_task(owner, coroutine)

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Make an error known as an `ErrorRaised` signal; the session's policy decides what follows."""
        self.host.report(error, processor, frame, fatal=fatal)

    # -- frames ----------------------------------------------------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Put a frame in at the head of the pipeline. Raises IllegalState if the session is not active."""
        if self.state is not State.ACTIVE:
            raise IllegalState(f"session {self.id} is {self.state.value}: it takes no {type(frame).__name__}")
        await self.host.linked.send(frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell every processor and listener that wants this signal, before this returns."""
        self.host.broadcast(signal)

    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> Callable[[], None]:
        """Call `listener` with every signal of a type. A plain function runs at once, an `async def` in a task.

        Returns a function that ends it. Raises ConfigurationError for another type.
        """
        return self.host.bus.on(signal_type, listener, self.pipeline)

    def observe(self, tap: Tap) -> Callable[[], None]:
        """Let `tap(processor, direction, frame)` see every push. Returns a function that ends it.

        Without a tap there is no cost: the routes are worked out anew.
        """
        return self.host.linked.observe(tap)

    def intercept(
        self,
        frame_type: type[Interceptable],
        hook: Callable[[Interceptable], Any],
        *,
        timeout_s: float = HOOK_TIMEOUT_S,
    ) -> Callable[[], None]:
        """Ask `hook(frame)`, a `def` or an `async def`, before anything follows from a frame: a `UserTranscript`, a
        sentence of the agent's as `BotText`, or a `ToolCall`.

        It returns the frame, changed (a text, a call's arguments) or not, or None to block it; for a call also a
        `ToolResult`, which answers it. A hook that raises or takes longer than `timeout_s` seconds is reported; a
        transcript then passes unchanged, a sentence is not spoken, a tool call is refused.

        A cascade asks before it speaks a sentence. A native engine has spoken by the time the sentence is known: a
        hook can block it, which interrupts the response, and cannot change it (`Capabilities.text_may_change`).

        Returns a function that ends it. Raises ConfigurationError for another type.
        """
        return self.hooks.add(frame_type, hook, timeout_s)

    # -- silence ---------------------------------------------------------------------------------------------------

    def on_fence(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the fence is raised, at once and before anything else runs.

        Lanes need no call. Returns a function that ends it.
        """
        return self.host.on_fence(callback)

    def interrupt(self, reason: str = "barge-in") -> Interrupted:
        """Make void, everywhere and at once, all that the agent was about to say or do.

        Fixes what was heard, and tells everyone. Returns the signal that was broadcast. All of it happens in one step
        of the event loop, in this order:

        1. The fence rises. From here on every push of older output ends where it is, work inside `floor.scope(turn)` is
           cancelled, and holds that are not lasting end.
        2. The lanes drop stale output and cancel the handlers at work on it. This comes before the playouts: room in
           a lane, or in a playout, wakes a waiting push, which must find its frame stale.
        3. The playouts fall silent (`on_fence`) and tell the ledger how much of their audio was played. What the far
           end has played counts as heard, so this comes before the ledger is cut.
        4. The ledger settles the interrupted responses. Their heard text is fixed, and the log holds it.
        5. Errors of step 3 are reported, and `Interrupted` is broadcast. This is last: its listeners read the log, and
           may begin a new turn, which nothing above must touch.
        """
        turn = self.floor.raise_fence()
        failed = self.host.fence()
        heard = self.ledger.cut(turn)
        for error in failed:
            self.report(error, "on_fence")
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

    def set_access(self, access: Access, *, by: str = "") -> None:
        """Let the caller be heard (`active`) or not (`muted`), from this moment on.

        The audio of a muted caller is silence to the pipeline. Of a `revoked` one, texts, keys and images are dropped
        as well. `by` names the origin of the change. Raises ConfigurationError for anything else.
        """
        if self.audio.set_access(access, self.now()) and self.state in (State.CONNECTING, State.ACTIVE):
            self.broadcast(AccessChanged(access=access, by=by))
