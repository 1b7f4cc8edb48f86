"""Calls that a test scripts and then inspects.

`Call` has a simulated caller, `BareCall` has none: its subclasses say how their callers speak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from ..errors import IllegalState
from ..frames import (
    ConnectionChanged,
    ErrorRaised,
    Frame,
    Input,
    Interrupted,
    Output,
    SessionStarted,
    Signal,
    UserText,
)
from ..processors.kernel.groups import leaves
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor, handles
from ..session.item import Item
from ..session.life import Outcome
from ..session.session import Session
from ..transports.memory import MemoryTransport
from .caller import Line, SimulatedCaller
from .reply import Reply

F = TypeVar("F", bound=Frame)

PATIENCE_S = 40.0
"""The default limit of a wait, in seconds."""
PAUSE_S = 0.8
"""Seconds of silence after which the agent has finished for the caller."""
QUIET_S = 0.5
"""Seconds without an owed answer and without speech after which the agent has finished."""
SETTLE_S = 0.05
"""Seconds between the end of the script and the end of the call. A hang-up by the agent arrives within this time."""


class Probe(Processor):
    """Keeps the frames that reach its place in the pipeline, with their session times, and the interruptions."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame]] = []

    @handles(Input, Output)
    async def keep(self, frame: Frame) -> None:
        """Keep the frame and push it on."""
        self.frames.append((self.session.now(), frame))
        await self.push(frame)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Keep the interruption in its place among the frames."""
        self.frames.append((self.session.now(), signal))


class BareCall:
    """A session that runs for the length of a block, without a caller, and its results.

    The block begins when the session has started; at its end the call ends in order, or is cancelled if not `ends`. If
    the block raises, the call is cancelled.

    A call that failed raises its error: before the block if the session cannot start, otherwise at the end of the
    block, with the block's own exception as the context. It has failed if an error ended it, or if a handler, listener
    or hook raised an error of the category `internal`, which is a bug. Errors of tools and services after which the
    call went on are in `errors` alone. A call that `may_fail` raises nothing, and its block always begins.

    All times are session times in seconds. Use it inside an event loop; in tests, under the virtual clock.
    """

    def __init__(self, session: Session, *, ends: bool = True, may_fail: bool = False) -> None:
        self.session = session
        self.may_fail = may_fail
        self.signals: list[tuple[float, Signal]] = []
        """All signals of the call, each with its session time."""
        probes = [leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Probe)]
        self.probe = probes[0] if probes else None
        self._ends = ends
        self._outcome: Outcome | None = None
        self._task: asyncio.Task[None] | None = None
        session.on(Signal, lambda signal: self.signals.append((session.now(), signal)))

    @classmethod
    def through(cls, *processors: Processor, ends: bool = True, may_fail: bool = False, **options: Any) -> Self:
        """Return a call through these processors and no others. `options` are those of `Session`."""
        return cls(Session(Pipeline(processors), **options), ends=ends, may_fail=may_fail)

    async def __aenter__(self) -> Self:
        await self.start()
        if self._outcome is not None:
            self._raise_failure(self._outcome)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self._ends:
                await self.end()
            else:
                self.session.cancel("cancelled")
            self._raise_failure(await self.over())
            return
        failed = self.is_over or any(raised.fatal or raised.category == "internal" for raised in self.errors)
        self.session.cancel("the script failed")
        outcome = await self.over()
        if failed and issubclass(kind, Exception):
            self._raise_failure(outcome)

    def _raise_failure(self, outcome: Outcome) -> None:
        failure = outcome.error or outcome.bug
        if failure is not None and not self.may_fail:
            raise failure

    async def start(self) -> None:
        """Run the session. Returns when it has started, or has ended before that."""
        started = anyio.Event()
        self.session.on(SessionStarted, lambda signal: started.set())
        self.launch().add_done_callback(lambda task: started.set())
        await started.wait()

    def launch(self) -> asyncio.Task[None]:
        """Run the session in a task, which is returned, without waiting for its start."""

        async def run() -> None:
            self._outcome = await self.run()

        self._task = asyncio.get_running_loop().create_task(run())
        return self._task

    async def run(self) -> Outcome:
        """Run the session to its end. Subclasses may do more before and after it."""
        return await self.session.run()

    async def end(self, reason: str = "ended") -> Outcome:
        """End the call, if it has not ended by itself. Returns its outcome. Raises AssertionError if it goes on."""
        if self.session.live:
            await self.session.end(reason)
        return await self.over(PATIENCE_S + self.session.deadlines.drain_s)

    async def over(self, timeout_s: float = PATIENCE_S) -> Outcome:
        """Wait until the call is over. Returns its outcome. Raises AssertionError if it goes on."""
        if self._task is None:
            raise IllegalState("the call has not started")
        with anyio.move_on_after(timeout_s):
            await asyncio.shield(self._task)
        assert self._outcome is not None, f"the call does not end within {timeout_s:g} s"
        return self._outcome

    @property
    def is_over(self) -> bool:
        """True once the call has ended."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome:
        """The outcome of the call. Raises IllegalState while it goes on."""
        if self._outcome is None:
            raise IllegalState("the call is not over")
        return self._outcome

    # -- the script ------------------------------------------------------------------------------------------------

    async def types(self, *texts: str, **fields: Any) -> None:
        """The caller types texts. `fields` are those of `UserText`."""
        for text in texts:
            await self.session.send(UserText(text=text, **fields))

    async def waits(self, seconds: float) -> None:
        """Let time pass."""
        await anyio.sleep(seconds)

    async def waits_until(self, at: float) -> None:
        """Let time pass until session time `at`."""
        await self.waits(at - self.session.now())

    async def settles(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait for `QUIET_S` without an owed answer and without speech. Raises AssertionError if the agent goes on."""
        floor, quiet_s = self.session.floor, 0.0
        with anyio.move_on_after(timeout_s):
            while quiet_s < QUIET_S:
                await anyio.sleep(0.05)
                quiet_s = 0.0 if floor.owner == "agent" or floor.agent_speaking else quiet_s + 0.05
        assert quiet_s >= QUIET_S, f"the agent does not fall silent within {timeout_s:g} s"

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a condition holds. Raises AssertionError, with `what` in its message, after `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while not condition():
                await anyio.sleep(0.01)
        assert condition(), f"{what}: not within {timeout_s:g} s"

    # -- the results -----------------------------------------------------------------------------------------------

    def mark(self) -> frozenset[str]:
        """Return the ids of the items that the log has now, for `reply`."""
        return frozenset(item.id for item in self.session.conversation)

    def reply(self, seen: frozenset[str] = frozenset()) -> Reply:
        """Return the agents' words and deeds that the log has beside the `seen` items, by default all."""
        new = [item for item in self.session.conversation if item.id not in seen]
        began = min((item.at for item in new), default=self.session.now())
        errors = [error.message for at, error in self.signals if isinstance(error, ErrorRaised) and at >= began]
        return Reply(self.session, new, errors, ended=self.is_over)

    def came(self, kind: type[F]) -> list[F]:
        """Return the signals of a type, or the frames of a type that passed the pipeline's `Probe`, in order."""
        return [frame for _, frame in self._kept(kind) if isinstance(frame, kind)]

    def times(self, kind: type[Frame]) -> list[float]:
        """Return the session times of the frames that `came` returns."""
        return [at for at, frame in self._kept(kind) if isinstance(frame, kind)]

    def _kept(self, kind: type[Frame]) -> list[tuple[float, Frame]]:
        if issubclass(kind, Signal):
            return list(self.signals)
        if self.probe is None:
            raise IllegalState(f"no Probe stands in the pipeline: no {kind.__name__} was kept")
        return self.probe.frames

    @property
    def errors(self) -> list[ErrorRaised]:
        """All errors that were raised."""
        return self.came(ErrorRaised)

    @property
    def states(self) -> list[str]:
        """The states of the engine's connection, in order."""
        return [change.state for change in self.came(ConnectionChanged)]

    @property
    def log(self) -> list[str]:
        """The conversation, one string for each item that has a `line`."""
        return [line for item in self.session.conversation if (line := self.line(item))]

    def line(self, item: Item) -> str:
        """Return the line of an item in `log`, empty to leave the item out. Subclasses may write other lines.

        "caller: …", "agent: …", "call: name", "result: …", "note: …", each with its words.
        """
        if item.kind == "message":
            return f"{item.role}: {item.text or ('(image)' if item.name == 'image' else '')}"
        if item.kind == "tool_call":
            return f"call: {item.name}"
        if item.kind == "tool_result":
            return f"result: {item.text}"
        return f"{item.kind}: {item.text}" if item.text else ""

    @property
    def said_by_agent(self) -> list[str]:
        """The agent's messages as the caller heard them."""
        return self._said("agent")

    @property
    def said_by_caller(self) -> list[str]:
        """The caller's messages as the log has them."""
        return self._said("caller")

    def _said(self, role: str) -> list[str]:
        return [item.text for item in self.session.conversation if item.kind == "message" and item.role == role]

    def print(self) -> None:
        """Print the conversation, one line for each item, with its session time."""
        for item in self.session.conversation:
            text = f"{item.name}({item.data})" if item.kind == "tool_call" else item.text
            if item.kind == "message" and item.name == "image":
                text = f"(image {item.data['name']})"
            cut = " ..." if item.status == "interrupted" else ""
            print(f"{item.at:6.2f}  {item.agent or item.role:<10} {text}{cut}")


class Call(BareCall):
    """A call over a `MemoryTransport`, with a simulated caller at its far end.

    transport = MemoryTransport()
    session = Session(Pipeline([transport.input(), Vad(), Endpointing(), Interruption(), engine,
                                transport.output()]))
    async with Call(session, transport) as call:
        await call.asks("what are your opening hours")
    assert call.log == ["caller: what are your opening hours", "agent: From nine to five."]
    """

    def __init__(
        self,
        session: Session,
        transport: MemoryTransport,
        caller: SimulatedCaller | None = None,
        *,
        ends: bool = True,
        may_fail: bool = False,
    ) -> None:
        super().__init__(session, ends=ends, may_fail=may_fail)
        self.transport = transport
        self.caller = caller or SimulatedCaller(transport)

    @classmethod
    def through(
        cls,
        *processors: Processor,
        ends: bool = True,
        may_fail: bool = False,
        sample_rate: int = 16_000,
        **options: Any,
    ) -> Self:
        """Return a call through these processors, a `Probe` and both ends of a `MemoryTransport`.

        `options` are those of `Session`.
        """
        transport = MemoryTransport(sample_rate)
        pipeline = Pipeline([transport.input(), *processors, Probe(), transport.output()])
        return cls(Session(pipeline, **options), transport, ends=ends, may_fail=may_fail)

    async def end(self, reason: str = "hung up") -> Outcome:
        """End the call, if it does not end by itself within `SETTLE_S`. Returns its outcome."""
        await anyio.sleep(SETTLE_S)
        return await super().end(reason)

    async def says(self, text: str) -> Line:
        """The caller speaks. Returns when the last sample has been sent."""
        return await self.caller.say(text)

    async def hears(self, timeout_s: float = PATIENCE_S, pause_s: float = PAUSE_S) -> None:
        """The caller listens until the agent has spoken and been silent for `pause_s`."""
        await self.caller.listen(timeout_s, pause_s)

    async def asks(self, text: str) -> Reply:
        """The caller speaks, and listens to the answer, which is returned."""
        seen = self.mark()
        await self.says(text)
        await self.hears()
        return self.reply(seen)

    async def agent_begins(self) -> float:
        """Wait until the caller hears the agent. Returns the session time at which the agent's speech began."""
        return await self.caller.wait_for_agent_to_start()

    async def waits(self, seconds: float) -> None:
        """The caller is silent for a while, or until the agent hangs up. Raises IllegalState after the call's end."""
        await self.caller.silence(seconds)
