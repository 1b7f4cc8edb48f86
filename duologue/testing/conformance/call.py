"""A call on an engine under test: the caller, the engine's output, and the rules that every call must keep."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from itertools import groupby
from typing import Any, Protocol, TypeVar

import anyio
from msgspec import structs

from ...agents.agent import Agent
from ...agents.tool import Tool
from ...frames import (
    BotStartedSpeaking,
    BotText,
    Configure,
    ErrorRaised,
    Frame,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    ToolCall,
    Usage,
    UserTranscript,
)
from ...processors.handoff.handoff import Handoff
from ...processors.pipeline import Pipeline
from ...processors.processor import Processor
from ...processors.switch import Switch
from ...processors.tools import Tools
from ...processors.turns.endpointing import Endpointing
from ...processors.turns.interruption import Interruption
from ...processors.turns.vad import Vad
from ...services.context import Message
from ...session import Deadlines, Session
from ...session.item import Item
from ...transports.memory import MemoryTransport
from ..call import Call as SimulatedCall
from ..call import Probe
from ..caller import Line, SimulatedCaller
from .phrases import spoken
from .rig import FarEnd, Rig

NOISE_DBFS = -75.0
"""The level of noise in the caller's audio: too low for any detector. It makes every piece of audio different."""


F = TypeVar("F", bound=Frame)


class Call(SimulatedCall):
    """A call on an engine under test, and the rules that every call must keep."""

    probe: Probe

    def __init__(self, rig: Rig, far: FarEnd, session: Session, caller: SimulatedCaller) -> None:
        super().__init__(session, caller.transport, caller)
        assert self.probe is not None
        self.rig, self.far = rig, far
        self._expected: list[str] = []

    async def says(self, text: str) -> Line:
        """Let the caller speak one of the suite's phrases. Returns when the last sample has been sent."""
        return await self.caller.play(spoken(text, self.caller.sample_rate), self.caller.sample_rate, text)

    async def configure(self, **change: Any) -> None:
        """Send a `Configure` through the pipeline."""
        await self.session.send(Configure(**change))

    def expect_error(self, *messages: str) -> None:
        """Allow errors whose message contains one of these texts."""
        self._expected.extend(messages)

    def heard_by_engine(self, line: Line) -> bool:
        """Return True if the far end has received every sample of a line, in order and on one connection."""
        pcm = self.pcm_of(line)
        return any(pcm in audio for audio in self.far.audio)

    def pcm_of(self, line: Line) -> bytes:
        """Return the microphone's audio during a line, without the last piece of 20 ms."""
        inside = [pcm for at, pcm in self.caller.said if line.start_s - 1e-6 <= at < line.end_s - 0.02]
        return b"".join(inside)

    @property
    def states(self) -> list[str]:
        """Return the states of the engine's connection in order, without repetitions."""
        return [state for state, _ in groupby(super().states)]

    # -- the results in English: a far end may speak another language -------------------------------------------------

    def came(self, kind: type[F]) -> list[F]:
        """Return the signals or frames of a type, in order, with their words in English."""
        return [
            structs.replace(frame, text=self.far.language.read(frame.text)) if isinstance(frame, _WORDS) else frame
            for frame in super().came(kind)
        ]

    @property
    def errors(self) -> list[ErrorRaised]:
        """All errors that were raised, except those about a fault of the plan that costs nothing."""
        manners = self.rig.manners
        return [error for error in super().errors if manners is None or not manners.is_noise(error.message)]

    def line(self, item: Item) -> str:
        """Return the line of an item in `log`, in English."""
        return super().line(structs.replace(item, text=self.far.language.read(item.text)))

    def _said(self, role: str) -> list[str]:
        return [self.far.language.read(text) for text in super()._said(role)]

    # -- the rules of every call -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError if the call broke one of the rules."""
        self._check_responses()
        self._check_log()
        for message in (error.message for error in self.errors):
            manners = self.rig.manners
            explained = any(part in message for part in self._expected) or (manners and manners.explains(message))
            assert explained, f"an error that nobody expected: {message}"
        assert not self.outcome.abandoned, f"left behind at the end: {self.outcome.abandoned}"

    def _check_responses(self) -> None:
        begun: dict[str, ResponseStarted] = {}
        ended: set[str] = set()
        calls: set[str] = set()
        fence = 0
        for at, frame in self.probe.frames:
            where = f"at {at:.3f}: {frame}"
            if isinstance(frame, Interrupted):
                fence = frame.turn
            elif isinstance(frame, ResponseStarted):
                assert frame.response_id not in begun, f"E1: a response begins twice, {where}"
                assert frame.turn > fence, f"E2: a response of an interrupted turn begins, {where}"
                begun[frame.response_id] = frame
            elif isinstance(frame, Output):
                assert frame.response_id in begun, f"E1: not after the start of its response, {where}"
                assert frame.response_id not in ended, f"E1: after the end of its response, {where}"
                assert frame.turn == begun[frame.response_id].turn, f"E1: another turn than its response, {where}"
                if isinstance(frame, ResponseEnded):
                    ended.add(frame.response_id)
                    if frame.turn <= fence:
                        assert frame.status == "interrupted", f"E2: the end of an interrupted response, {where}"
                else:
                    assert frame.turn > fence, f"E2: output of an interrupted turn, {where}"
                if isinstance(frame, ToolCall):
                    assert frame.call_id not in calls, f"E4: a tool call comes twice, {where}"
                    calls.add(frame.call_id)
        missing = begun.keys() - ended
        assert not missing or self.hung_up, f"E1: no end of {sorted(missing)}"

    @property
    def hung_up(self) -> bool:
        """True if the call was cut off: responses in progress have no end then."""
        return self.is_over and self.outcome.reason in ("cancelled", "hung up")

    def _check_log(self) -> None:
        items = self.session.conversation.items
        turns = [item.turn for item in items if item.turn]
        assert turns == sorted(turns), f"E3: turns out of order: {turns}"
        for item in items:
            if item.kind == "tool_result":
                same = [other for other in items if other.call_id == item.call_id]
                assert [other.kind for other in same] == ["tool_call", "tool_result"], f"E4: calls and results: {same}"
        said: dict[str, str] = {}
        for text in super().came(BotText):
            said[text.response_id] = said.get(text.response_id, "") + text.text
        # A sentence whose speech has failed was not heard; what comes after it may be.
        gaps = any(_SILENT_SENTENCE in error.message for error in super().errors)
        for item in items:
            if item.kind == "message" and item.role == "agent" and item.id in said:
                whole, heard = squeezed(said[item.id]), squeezed(item.text)
                assert whole.startswith(heard) or (gaps and _in_order(heard, whole)), (
                    f"E10: heard what was not said: {item.text!r} of {said[item.id]!r}"
                )

    def __str__(self) -> str:
        lines = [f"{self.rig.name}, at {self.session.now():.3f} s; outcome {self.outcome if self.is_over else None}"]
        lines += [f"  {item.at:7.3f} turn {item.turn} {item.kind} {item.role} {item.status}: {item.text!r}"
                  for item in self.session.conversation]  # fmt: skip
        signals = [event for event in self.signals if not isinstance(event[1], Usage)]
        events = [*signals, *((at, f) for at, f in self.probe.frames if isinstance(f, _TOLD))]
        lines += [f"  {at:7.3f} {frame}" for at, frame in sorted(events, key=lambda event: event[0])]
        lines += [f"  remembered: {message.role} {message.text!r} {[call.name for call in message.calls] or ''}"
                  for message in (self.far.history if self.far.asked else ())]  # fmt: skip
        return "\n".join(lines)


class Judge(Protocol):
    """Judges the calls of a scenario in the place of `Call.check` alone."""

    def forgives(self, error: Exception) -> bool:
        """Return True if the call goes on after a broken promise of the scenario."""

    async def conclude(self, call: Call, ends: bool) -> None:
        """End a call, or wait for its end if not `ends`, and check it."""


current_judge: ContextVar[Judge | None] = ContextVar("current_judge", default=None)
"""The judge of the running scenario, None for `Call.check`."""

latest: ContextVar[Call | None] = ContextVar("latest", default=None)
"""The call of the running scenario."""

_WORDS = (BotText, UserTranscript)
_SILENT_SENTENCE = "no speech for a sentence"
_TOLD = (ResponseStarted, ResponseEnded, ToolCall, UserTranscript)


def _in_order(part: str, whole: str) -> bool:
    """Return True if the characters of `part` are in `whole`, in this order."""
    rest = iter(whole)
    return all(character in rest for character in part)


def squeezed(text: str) -> str:
    """Return a text without spaces, for comparisons."""
    return re.sub(r"\s+", "", text)


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


def spoken_by(history: Iterable[Message], role: str) -> list[str]:
    """Return the texts of one side in a history."""
    return [message.text for message in history if message.role == role and message.text]


AGENT = Agent(name="Ann", instructions="You are Ann.")


@asynccontextmanager
async def calling(
    rig: Rig,
    far: FarEnd,
    *,
    tools: Iterable[Tool | Callable[..., Any]] = (),
    agents: Iterable[Agent] = (),
    engines: Mapping[str, Processor] | None = None,
    ends: bool = True,
    prepare: Callable[[Session], None] = lambda session: None,
    meanwhile: Callable[[Call], Awaitable[None]] | None = None,
    agent: Agent = AGENT,
    **options: Any,
) -> AsyncIterator[Call]:
    """Make a call on a rig's engine. At the end of the block the call ends, and the rules of every call are checked.

    With `agents` the pipeline has a `Handoff`, and with `engines` a `Switch`, where "tested" is the rig's engine.
    `ends=False` is for a call that ends by itself within the block. `prepare` receives the session before it runs.
    `meanwhile` runs while the session opens, and is finished before the block begins. `options` are the session's.
    """
    contract = far.contract
    transport = MemoryTransport(contract.capabilities.input_sample_rate)
    caller = SimulatedCaller(transport, noise_dbfs=NOISE_DBFS)
    probe = Probe()
    ears = () if rig.detects_turns and engines is None else (Vad(), Endpointing(), Interruption())
    place: Processor = far.engine if engines is None else Switch({**engines, "tested": far.engine})
    several = [Handoff(agents)] if agents else []
    session = Session(
        Pipeline([transport.input(), *ears, place, probe, *several, Tools(tools), transport.output()]),
        agent=None if agents else agent,
        deadlines=Deadlines(),
        **options,
    )
    prepare(session)
    call = Call(rig, far, session, caller)
    latest.set(call)
    if meanwhile is None:
        await call.start()
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.start)
            await meanwhile(call)
    try:
        yield call
    except Exception as error:
        if (judge := current_judge.get()) is None or not judge.forgives(error):
            session.cancel("the scenario failed")
            await call.over()
            raise
    except BaseException:
        session.cancel("the scenario failed")
        await call.over()
        raise
    if (judge := current_judge.get()) is None:
        await (call.end() if ends else call.over())
        call.check()
    else:
        await judge.conclude(call, ends)


def first_word_at(call: Call, turn: int) -> float:
    """Return the session time at which the caller begins to hear a turn."""
    return next(at for at, s in call.signals if isinstance(s, BotStartedSpeaking) and s.turn == turn)
