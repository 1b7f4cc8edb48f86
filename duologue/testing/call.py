"""`Call`: a call with a simulated caller, which a test scripts and then inspects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

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
from ..session.host import Outcome, State
from ..session.session import Session
from ..transports.memory import MemoryTransport
from .caller import Line, SimulatedCaller

F = TypeVar("F", bound=Frame)

PATIENCE_S = 40.0
"""The default limit of a wait, in seconds."""
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


class Call:
    """A session around a `MemoryTransport`, and a simulated caller at its far end.

        transport = MemoryTransport()
        session = Session(Pipeline([transport.input(), Vad(), Endpointing(), Interruption(), engine,
                                    transport.output()]))
        async with Call(session, transport) as call:
            await call.asks("what are your opening hours")
        assert call.log == ["caller: what are your opening hours", "agent: From nine to five."]

    The block begins when the session has started; at its end the call ends. If the block raises, the call is cancelled.
    All times are session times in seconds. Use it inside an event loop; in tests, under the virtual clock.
    """

    def __init__(self, session: Session, transport: MemoryTransport, caller: SimulatedCaller | None = None) -> None:
        self.session = session
        self.transport = transport
        self.caller = caller or SimulatedCaller(transport)
        self.outcome: Outcome | None = None
        """The outcome of the call, None while it goes on."""
        self.signals: list[tuple[float, Signal]] = []
        """All signals of the call, each with its session time."""
        probes = [leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Probe)]
        self.probe = probes[0] if probes else None
        self._task: asyncio.Task[None] | None = None
        session.on(Signal, lambda signal: self.signals.append((session.now(), signal)))

    @classmethod
    def through(cls, *processors: Processor, sample_rate: int = 16_000, **options: Any) -> Call:
        """Return a call through these processors, a `Probe` and both ends of a `MemoryTransport`.

        `options` are those of `Session`.
        """
        transport = MemoryTransport(sample_rate)
        return cls(
            Session(Pipeline([transport.input(), *processors, Probe(), transport.output()]), **options), transport
        )

    async def __aenter__(self) -> Call:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.session.cancel("the script failed")
            await self.over(PATIENCE_S)
        else:
            await self.end()

    async def start(self) -> None:
        """Run the session. Returns when it has started, or has ended before that."""
        started = anyio.Event()
        self.session.on(SessionStarted, lambda signal: started.set())

        async def run() -> None:
            try:
                self.outcome = await self.session.run()
            finally:
                started.set()

        self._task = asyncio.get_running_loop().create_task(run())
        await started.wait()

    async def end(self, reason: str = "hung up") -> Outcome:
        """End the call, if it has not ended by itself. Returns its outcome. Raises AssertionError if it goes on."""
        await anyio.sleep(SETTLE_S)
        if self.session.state is State.ACTIVE:
            await self.session.end(reason)
        return await self.over(PATIENCE_S + self.session.deadlines.drain_s)

    async def over(self, timeout_s: float = PATIENCE_S) -> Outcome:
        """Wait until the call is over. Returns its outcome. Raises AssertionError if it goes on."""
        if self._task is None:
            raise IllegalState("the call has not started")
        with anyio.move_on_after(timeout_s):
            await asyncio.shield(self._task)
        assert self.outcome is not None, f"the call does not end within {timeout_s:g} s"
        return self.outcome

    # -- the script ------------------------------------------------------------------------------------------------

    async def says(self, text: str) -> Line:
        """The caller speaks. Returns when the last sample has been sent."""
        return await self.caller.say(text)

    async def hears(self, timeout_s: float = PATIENCE_S) -> None:
        """The caller listens until the agent has spoken and fallen silent."""
        await self.caller.listen(timeout_s)

    async def asks(self, text: str) -> None:
        """The caller speaks, and listens to the answer."""
        await self.says(text)
        await self.hears()

    async def types(self, text: str, **fields: Any) -> None:
        """The caller sends a text."""
        await self.session.send(UserText(text=text, **fields))

    async def agent_begins(self) -> float:
        """Wait until the caller hears the agent. Returns the session time at which the agent's speech began."""
        return await self.caller.wait_for_agent_to_start()

    async def waits(self, seconds: float) -> None:
        """The caller is silent for a while."""
        await self.caller.silence(seconds)

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a condition holds. Raises AssertionError, with `what` in its message, after `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while not condition():
                await anyio.sleep(0.01)
        assert condition(), f"{what}: not within {timeout_s:g} s"

    # -- the results -----------------------------------------------------------------------------------------------

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
    def errors(self) -> list[str]:
        """The messages of all errors."""
        return [error.message for error in self.came(ErrorRaised)]

    @property
    def states(self) -> list[str]:
        """The states of the engine's connection in order, without repetitions."""
        states = [change.state for change in self.came(ConnectionChanged)]
        return [state for place, state in enumerate(states) if not place or states[place - 1] != state]

    @property
    def log(self) -> list[str]:
        """The conversation, one string for each item: "caller: …", "agent: …", "call: name", "result: …", "note: …"."""
        lines = []
        for item in self.session.conversation:
            if item.kind == "message":
                lines.append(f"{item.role}: {item.text}")
            elif item.kind == "tool_call":
                lines.append(f"call: {item.name}")
            elif item.kind == "tool_result":
                lines.append(f"result: {item.text}")
            elif item.text:
                lines.append(f"{item.kind}: {item.text}")
        return lines

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
            cut = " ..." if item.status == "interrupted" else ""
            print(f"{item.at:6.2f}  {item.agent or item.role:<10} {text}{cut}")
