"""`Session`: one call, with everything that outlives its engines; and `run`, which runs one."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, get_args

import anyio
from typing_extensions import TypeVar

from ..agents.agent import Agent, check_tools_run
from ..agents.engine import NO_ENGINE, Engine
from ..errors import ConfigurationError
from ..frames import (
    BotText,
    Frame,
    Interrupted,
    Signal,
    ToolCall,
    UserTranscript,
)
from ..processors.kernel.groups import leaves, members
from ..processors.kernel.host import Deadlines, Tap
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Kept
from .audio import Access, CallAudio
from .boundary import enters
from .call_trace import CallTrace
from .conversation import Conversation
from .cost import CostMeter
from .error_desk import ErrorPolicy
from .feed import Feed
from .floor import Expected, Floor
from .hooks import HOOK_TIMEOUT_S, Hooks
from .host import SessionHost
from .idle import IdleClock
from .interrupting import interrupt
from .life import Outcome, State
from .microphone import CallMode, Mode
from .playback import SpeechControls
from .prices import PriceGiven, Prices
from .prompts import Prompts
from .resuming import CallResume, Resumed
from .usage import UsageTotals

log = logging.getLogger("duologue")

S = TypeVar("S", bound=Signal)
T = TypeVar("T")
Data = TypeVar("Data", default=Any)
Interceptable = TypeVar("Interceptable", UserTranscript, BotText, ToolCall)


class Session(Generic[Data]):
    """One call: its pipeline, conversation, playout ledger, floor, deadlines and tasks.

    `id` is the id of the transport's client by default, else a random one. `data` is the application's own state of
    the call, by default an empty dict: tools, hooks and instructions find it at `session.data`. `on_error` decides
    what an error does to the call; by default a fatal error ends it. With `idle_s`, an `Idle` signal is broadcast
    whenever nothing has happened for `idle_s` seconds. `mode` says when the caller is heard: always ("continuous"),
    until they have heard an answer ("one_turn": see `arm`), or while they press a button ("push_to_talk": see `talk`).

    The logger `duologue.call` has a line at INFO for the begin and the end of the call, each hand-off, connection and
    client, and at DEBUG for each turn and tool. Words, arguments and results are in it only with `log_words`.

    With `budget_usd`, the call ends with the reason "budget" once the conversation has cost that many US dollars, and
    `carried_usd` in earlier calls: see `cost`. `prices`, a mapping or a TOML file, go before the package's. `trace`
    keeps what happens in the call: see `duologue.trace.Trace`. `resume` takes an earlier call up:
    see `duologue.trace.Resume`.

    Raises ConfigurationError for malformed prices, and for a processor of another session or in a wrong place.
    """

    def __init__(
        self,
        pipeline: Node,
        *,
        id: str = "",
        agent: Agent | None = None,
        deadlines: Deadlines | None = None,
        on_error: ErrorPolicy | None = None,
        idle_s: float | None = None,
        mode: Mode = "continuous",
        prices: Prices | Mapping[str, PriceGiven] | str | Path | None = None,
        budget_usd: float | None = None,
        carried_usd: float = 0.0,
        log_words: bool = False,
        data: Data | None = None,
        trace: CallTrace | None = None,
        resume: CallResume | None = None,
    ) -> None:
        self.id = id or _call_id(pipeline) or uuid.uuid4().hex[:12]
        self.pipeline = pipeline
        self.agent = agent
        """The active agent's definition."""
        self.data: Data = {} if data is None else data  # type: ignore[assignment]
        """The application's own state of the call, of any type. The framework only reads it."""
        self.trace = trace
        """Keeps what happens in the call; None without a trace."""
        self.resumed: Resumed | None = None
        """The earlier call that this one goes on from; None without `resume`."""
        self.prompts = Prompts(self)
        """Makes the agents' texts, which may depend on the session."""
        self.deadlines = deadlines or Deadlines()
        self.floor = Floor(self.broadcast)
        self.microphone = CallMode(self, mode)
        """The mode of the call, and the gate of the caller's microphone."""
        self.host = SessionHost(self, self.id, pipeline, self.deadlines, self.floor, on_error, log_words, resume)
        """Runs the pipeline."""
        self.now: Callable[[], float] = self.host.now
        """Returns session time in seconds: 0 when `run` began."""
        failed = partial(self.report, processor="conversation listener")
        self.conversation = Conversation(self.id, self.now, failed=failed, started_at=lambda: self.started_at)
        self.calls = self.conversation.calls
        """The tool calls in the log."""
        self.ledger = self.conversation.ledger
        """The seconds that each response has sent and played."""
        self.floor.pending = self.ledger.pending
        self.usage = UsageTotals()
        self.audio = CallAudio(self.host)
        """Both sides' audio as it is heard, and the caller's access."""
        self.feed = Feed(self)
        """The call as events, for watchers."""
        self.hooks = Hooks(
            self.host.report, self.host.broadcast, self.conversation, self.host.life.tasks.start, self.deadlines.stop_s
        )
        self.playback = SpeechControls(self)
        """The volume of the agent's speech, its pauses, and its replay."""
        self.cost = CostMeter(self, Prices.of(prices), budget_usd, carried_usd, self.host.stop_spending)
        """The cost of the call and of its conversation, as it grows."""
        self.host.check_wiring()
        self.microphone.begin()
        if agent is not None:
            _check_agent(agent, members(pipeline))
        if idle_s is not None:
            IdleClock(self.floor, idle_s, self.on, self.broadcast)

    def __repr__(self) -> str:
        return f"<Session {self.id}, {self.state.value}: {self.pipeline!r}>"

    @property
    def state(self) -> State:
        """The state of the session."""
        return self.host.life.state

    @property
    def live(self) -> bool:
        """True while frames flow: from the start of the session to the beginning of its end."""
        return self.host.life.live

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> Outcome:
        """Run the call until it ends, and return its outcome. Cancelling this ends the call at once.

        Raises IllegalState if the session has run before, and outside asyncio. Errors in the call are not raised: see
        `Outcome.error`.
        """
        return await self.host.run(self._cut)

    def _cut(self) -> None:
        self.floor.close()
        for heard in self.ledger.cut(self.floor.turn):
            log.debug("session %s: response %s was cut by the end", self.id, heard.response_id)
        self.conversation.end_calls()

    @property
    def started_at(self) -> datetime | None:
        """The wall-clock time at which `run` began; None before that. Session time counts from it."""
        return self.host.life.started_at

    def on_ended(self, function: Callable[[Session, Outcome], Any]) -> Callable[[], None]:
        """Call `function(session, outcome)`, a `def` or an `async def`, once the call has ended and all has closed.

        For work such as saving the conversation. `run` returns after it, at the latest `Deadlines.farewell_s` seconds
        later: work that takes longer is cancelled, and named in the log. Returns a function that removes it.
        """
        return self.host.endings.add(function)

    async def end(self, reason: str = "ended") -> None:
        """End the call once all earlier frames have been handled, after `drain_s` seconds at the latest.

        A call that is not active yet ends at once. Does nothing if the call is ending already.
        """
        await self.host.end(reason)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the call now, without waiting for the pipeline. Returns at once."""
        self.host.life.finish(reason)

    @property
    def draining(self) -> bool:
        """True while an `End` is on its way: earlier frames are still handled, but nothing new should begin."""
        return self.host.life.draining

    def start_task(self, owner: Node, coroutine: Coroutine[Any, Any, T], *, name: str = "") -> asyncio.Task[T]:
        """Run a coroutine in a task that is cancelled when the session ends. Its error is reported.

        `name` is the name of the task, by default its owner's.

        Raises IllegalState outside a running session.
        """
        return self.host.start_task(owner, Kept(coroutine), name=name)

    def report(self, error: Exception, processor: str, frame: Frame | None = None, *, fatal: bool = False) -> None:
        """Broadcast an error as an `ErrorRaised` signal, and apply the session's error policy."""
        self.host.report(error, processor, frame, fatal=fatal)

    # -- frames ----------------------------------------------------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Put a frame in at the head of the pipeline. Raises IllegalState if the session is not active."""
        await self.host.send(frame)

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal to every processor and listener that handles it, before this returns."""
        self.host.broadcast(signal)

    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> Callable[[], None]:
        """Call `listener` with every signal of a type. A plain function runs at once, an `async def` in a task.

        Returns a function that removes it. Raises ConfigurationError for another type.
        """
        return self.host.bus.on(signal_type, listener)

    def observe(self, tap: Tap, *frame_types: type[Frame]) -> Callable[[], None]:
        """Call `tap(processor, direction, frame)` with every push, or only with those of frames of these types.

        Pushes that nobody observes have no extra cost: taps are part of the cached routes. For signals use `on`.
        Returns a function that removes it.
        """
        return self.host.linked.observe(tap, *frame_types)

    def intercept(
        self,
        frame_type: type[Interceptable],
        hook: Callable[[Interceptable], Any],
        *,
        timeout_s: float = HOOK_TIMEOUT_S,
    ) -> Callable[[], None]:
        """Call `hook(frame)`, a `def` or an `async def`, before anything follows from a frame: a `UserTranscript`, a
        sentence of the agent as `BotText`, or a `ToolCall`.

        The hook returns the frame, or a copy with another text or other arguments, or None to block it. For a call it
        may also return a `ToolResult`, which answers the call. A hook that raises or takes longer than `timeout_s`
        seconds is reported; the transcript then passes unchanged, the sentence is not spoken, the tool call is refused.

        A cascade calls the hook before it speaks a sentence. A native engine has already spoken when the sentence is
        known: the hook can block it, which interrupts the response, but not change it
        (`Capabilities.text_may_change`).

        Returns a function that removes it. Raises ConfigurationError for another type.
        """
        return self.hooks.add(frame_type, hook, timeout_s)

    # -- silence ---------------------------------------------------------------------------------------------------

    def on_fence(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the fence is raised, at once and before anything else runs.

        Lanes are emptied without a callback. Returns a function that removes it.
        """
        return self.host.on_fence(callback)

    def interrupt(self, reason: str = "barge-in") -> Interrupted:
        """Make everything void that the agent was about to say or do, everywhere and at once.

        Settles the interrupted responses and returns the `Interrupted` signal that was broadcast. All of it happens in
        one step of the event loop: see `duologue.session.interrupting`.
        """
        return interrupt(self, reason)

    def set_access(self, access: Access, *, by: str = "") -> None:
        """Set the caller's access, from this moment on: `active`, `muted` or `revoked`.

        The pipeline gets silence for the audio of a muted or revoked caller. For a `revoked` caller, texts, keys and
        images are dropped as well. `by` names the origin of the change. Raises ConfigurationError for another access.
        """
        self.audio.set_access(access, by)

    def talk(self, talking: bool) -> bool:
        """In the mode "push_to_talk": the caller presses the button, or releases it. Returns False if nothing changes.

        A press interrupts the agent, unless its speech is protected. A button that is not released within 60 s, or
        whose client is gone, counts as released; a press with less than 0.1 s of audio is not a turn. Raises
        IllegalState in another mode and outside a running session, BadInput unless `talking` is a bool.
        """
        return self.microphone.talk(talking)

    async def arm(self) -> None:
        """In the mode "one_turn": hear the caller again, for another exchange. Returns once the engine is connected.

        Does nothing while the caller is heard. Raises IllegalState in another mode and outside a running session, and
        the error of an engine that cannot connect again: the microphone then stays closed.
        """
        await self.microphone.arm()

    def expect(self, answer: Expected | None) -> None:
        """Say that the caller's next turn probably is "digits", such as a card's number, or "yes_no"; None takes it
        back. It only changes the silence that ends that turn. Raises ConfigurationError for another value."""
        if answer not in (None, *get_args(Expected)):
            raise ConfigurationError(f"an expected answer is one of {', '.join(get_args(Expected))}, not {answer!r}")
        self.floor.expected = answer


enters(Session, "arm", "broadcast", "cancel", "end", "expect", "interrupt", "report", "send", "set_access", "talk")


def _check_agent(agent: Agent, nodes: list[Node]) -> None:
    if not any(isinstance(node, Engine) for node in nodes):
        raise ConfigurationError(f"nothing takes the agent {agent.name!r}: the pipeline has no engine {NO_ENGINE}")
    check_tools_run(agent, nodes)


def _call_id(pipeline: Node) -> str:
    """Return the id of the client whose transport is in the pipeline, "" without one."""
    ends = (leaf for leaf in leaves(pipeline) if isinstance(leaf, Node))
    return next((end.call_id for end in ends if end.call_id), "")


def run(session: Session) -> Outcome:
    """Run a call to its end and return its outcome. Ctrl-C ends the call at once and raises KeyboardInterrupt.

    For programs that run just one call. Inside an event loop, await `Session.run` instead.
    """
    return anyio.run(session.run)
