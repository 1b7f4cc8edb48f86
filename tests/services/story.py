"""A call as a script, for the tests of the services: what the caller does, and what comes out of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from duologue.frames import (
    BotAudio,
    BotText,
    EndOfTurn,
    ErrorRaised,
    Frame,
    Input,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    Signal,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserText,
)
from duologue.processors import Processor, Switch, handles
from duologue.services.cascade import Cascade
from duologue.services.llm import Message, Request, ToolRequest
from duologue.services.stt import STT
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.session.calls import Call, running

F = TypeVar("F", bound=Frame)


class Watch(Processor):
    """Stands behind the engine and sees what comes out of it, and when (session time in seconds)."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame]] = []
        self.in_order: list[Frame] = []
        """The frames, and the interruptions where they fell among them."""

    @handles(Input, Output)
    async def see(self, frame: Frame) -> None:
        self.frames.append((self.session.now(), frame))
        self.in_order.append(frame)
        await self.push(frame)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        self.in_order.append(signal)


class Story:
    """A call with one cascade of mocks, or with several to switch between."""

    def __init__(self, call: Call, watch: Watch, signals: list[tuple[float, Signal]]) -> None:
        self.session: Session = call.session
        self.errors: list[ErrorRaised] = call.errors
        self._call = call
        self._watch = watch
        self._signals = signals

    # -- the caller ------------------------------------------------------------------------------------------------

    async def says(self, seconds: float = 0.5, *, interrupting: bool = False, ends_turn: bool = True) -> None:
        """The caller speaks for so long, in 20 ms pieces; the turn ends 0.2 s later. What is said, the STT knows."""
        session, started = self.session, self.session.now()
        session.floor.caller_speaking = True
        await session.send(SpeechStarted(at=started))
        if interrupting:
            session.interrupt()
        for number in range(round(seconds / 0.02)):
            await session.send(UserAudio(audio=bytes([1, number % 256]) * 320, at=started + number * 0.02))
            await anyio.sleep(0.02)
        stopped = session.now()
        session.floor.caller_speaking = False
        await session.send(SpeechStopped(at=stopped))
        if ends_turn:
            await anyio.sleep(0.2)
            await session.send(EndOfTurn(at=stopped))

    async def types(self, text: str, *, author: str = "caller", respond: bool = True) -> None:
        await self.session.send(UserText(text=text, author=author, respond=respond))

    async def until(self, at: float) -> None:
        """Session time goes on to `at`."""
        await anyio.sleep(at - self.session.now())

    # -- what came of it -------------------------------------------------------------------------------------------

    def came(self, kind: type[F]) -> list[F]:
        """The frames or signals of a type, in order."""
        return [frame for _, frame in [*self._watch.frames, *self._signals] if isinstance(frame, kind)]

    def times(self, kind: type[Frame]) -> list[float]:
        """When they came, in session seconds, to the millisecond."""
        return [round(at, 3) for at, frame in [*self._watch.frames, *self._signals] if isinstance(frame, kind)]

    @property
    def in_order(self) -> list[Frame]:
        """All that came out of the engine, and the interruptions where they fell."""
        return self._watch.in_order

    @property
    def frames(self) -> list[Frame]:
        """All that came out of the engine, in order."""
        return [frame for _, frame in self._watch.frames]

    @property
    def responses(self) -> list[str]:
        """Each response as "agent: text (status)", in the order of their starts."""
        starts = [frame for frame in self.frames if isinstance(frame, ResponseStarted)]
        lines = []
        for start in starts:
            own = [f for f in self.frames if isinstance(f, Output) and f.response_id == start.response_id]
            text = "".join(frame.text for frame in own if isinstance(frame, BotText))
            status = [frame.status for frame in own if isinstance(frame, ResponseEnded)]
            lines.append(f"{start.agent}: {text.strip()} ({' and '.join(status) or 'goes on'})")
        return lines

    @property
    def log(self) -> list[str]:
        """The conversation, an item a line."""
        return [said(item) for item in self.session.conversation if item.kind != "message" or item.text]

    @property
    def spoken_s(self) -> float:
        """The seconds of audio that came out."""
        return sum(frame.duration_s for frame in self.came(BotAudio))

    def is_over(self) -> bool:
        """Nothing is under way: the caller has the floor, and every call its result."""
        return self.session.floor.owner == "caller" and not self.session.calls.open()


def said(item: Any) -> str:
    """A message or an item of the conversation as a line."""
    if isinstance(item, Message):
        calls = "".join(f" [{call.name}]" for call in item.calls)
        return f"{item.role}: {item.text}{calls}".strip()
    if item.kind == "message":
        cut = " --" if item.status == "interrupted" else ""
        return f"{item.agent or item.author or item.role}: {item.text or item.name}{cut}"
    if item.kind in ("tool_call", "tool_result"):
        return f"{item.kind} {item.call_id}: {item.text or item.data}"
    return f"{item.kind}: {item.text}"


def asked(request: Request) -> list[str]:
    """What a model was asked, a message a line."""
    return [said(message) for message in request.messages]


def asks(name: str, call_id: str = "c1", **arguments: Any) -> ToolRequest:
    """A model asks for a tool."""
    return ToolRequest(call_id=call_id, name=name, arguments=arguments)


def check(out: tuple[Message, ...]) -> None:
    """Every call is directly followed by its results, in its order, and nobody speaks twice in a row."""
    place = 0
    while place < len(out):
        message = out[place]
        assert message.role != "tool", "a result without its call"
        after = place + 1 + len(message.calls)
        assert [(m.role, m.call_id) for m in out[place + 1 : after]] == [("tool", c.call_id) for c in message.calls]
        if after < len(out) and message.role != "system" and not message.calls:
            assert out[after].role != message.role
        place = after


@asynccontextmanager
async def story(
    *rest: Processor,
    llm: MockLLM | None = None,
    stt: STT | None = None,
    tts: MockTTS | None = None,
    engine: Cascade | None = None,
    engines: Mapping[str, Cascade] | None = None,
    before: tuple[Processor, ...] = (),
    ends: bool = True,
    **options: Any,
) -> AsyncIterator[Story]:
    """A call through a cascade of these services (or `engine`, or a `Switch` of `engines`), and `rest` behind it."""
    watch, signals = Watch(), list[tuple[float, Signal]]()
    place: Processor
    if engines is not None:
        place = Switch(engines)
    else:
        place = engine or Cascade(
            stt or MockSTT(["Hello?"]), llm or MockLLM(), tts or MockTTS(seconds_per_sentence=1.0)
        )
    async with running(*before, place, watch, *rest, ends=ends, **options) as call:
        call.session.on(Signal, lambda signal: signals.append((call.session.now(), signal)))
        yield Story(call, watch, signals)
