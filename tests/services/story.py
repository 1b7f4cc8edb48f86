"""`Story`: a call with mock services, for the tests of services and of whatever stands behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from duologue import Handoff, Processor, Switch, Tools
from duologue.frames import (
    BotAudio,
    BotText,
    EndOfTurn,
    Frame,
    Output,
    ResponseEnded,
    ResponseStarted,
    Signal,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
)
from duologue.services.cascade import Cascade
from duologue.services.llm import Message, Request, ToolRequest
from duologue.services.stt import STT
from duologue.services.tts import TTS
from duologue.session.item import Item
from duologue.testing import BareCall, Probe
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


class Story(BareCall):
    """A call with a cascade of mock services, or with several to switch between. The caller's audio has no words."""

    probe: Probe

    # -- the caller ------------------------------------------------------------------------------------------------

    async def says(self, seconds: float = 0.5, *, interrupting: bool = False, ends_turn: bool = True) -> None:
        """The caller speaks for `seconds`, in pieces of 20 ms; the turn ends 0.2 s later. The STT knows the words."""
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

    # -- what came of it -------------------------------------------------------------------------------------------

    def times(self, kind: type[Frame]) -> list[float]:
        """Their session times in seconds, to the millisecond."""
        return [round(at, 3) for at in super().times(kind)]

    @property
    def in_order(self) -> list[Frame]:
        """The frames that left the engine, and the interruptions, in the order in which they came."""
        return [frame for _, frame in self.probe.frames]

    @property
    def frames(self) -> list[Frame]:
        """The frames that left the engine, in order."""
        return [frame for frame in self.in_order if not isinstance(frame, Signal)]

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

    def line(self, item: Item) -> str:
        """An item with its agent and its call id; none for a message without text."""
        return said(item) if item.kind != "message" or item.text else ""

    @property
    def spoken_s(self) -> float:
        """The seconds of audio that came out."""
        return sum(frame.duration_s for frame in self.came(BotAudio))

    def is_quiet(self) -> bool:
        """Returns True if nothing is under way: the caller has the floor, and every tool call its result."""
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
    """The messages of a request to a model, one a line."""
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


def story(
    *rest: Processor,
    llm: MockLLM | None = None,
    stt: STT | None = None,
    tts: TTS | None = None,
    engine: Cascade | None = None,
    engines: Mapping[str, Cascade] | None = None,
    before: tuple[Processor, ...] = (),
    ends: bool = True,
    **options: Any,
) -> Story:
    """A call through a cascade of these services (or `engine`, or a `Switch` of `engines`), and `rest` behind it."""
    place: Processor
    if engines is not None:
        place = Switch(engines)
    else:
        place = engine or Cascade(
            stt or MockSTT(["Hello?"]), llm or MockLLM(), tts or MockTTS(seconds_per_sentence=1.0)
        )
    if any(isinstance(processor, Handoff) for processor in rest) and not isinstance(rest[-1], Tools):
        rest = (*rest, Tools())
    return Story.through(*before, place, Probe(), *rest, ends=ends, **options)
