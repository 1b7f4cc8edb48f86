"""`SwapCall`: a call over three engines, two of them native, over real sockets, for the tests of hand-offs.

Each line of the caller's is a tone of its own level, so that whichever engine hears it knows which one it is, and
whether it has heard all of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np

from duologue.agents.agent import Agent
from duologue.agents.flow import TOOL_NAME
from duologue.agents.tool import Tool
from duologue.frames import (
    EndOfTurn,
    HandoffCompleted,
    HandoffFailed,
    SpeechStarted,
    SpeechStopped,
    Transfer,
)
from duologue.processors import Pipeline, Processor, Switch
from duologue.processors.handoff.handoff import Handoff
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.llm import Message, Request, ToolRequest
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.stt import Transcription
from duologue.session import Outcome, Session
from duologue.session.item import Item
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, CallTool, Got, Speak
from duologue.transports.memory import MemoryTransport

RATE = 16_000
STEP = 1_000
"""Between the levels of two lines."""
PIECE_S = 0.02

NATIVE = ("openai", "gemini")
ENGINES = (*NATIVE, "cascade")


def answer(text: str, results: Sequence[str]) -> list[Act]:
    """The answer of every model in these tests."""
    if results:
        return [Speak(f"The result is {results[-1]}.")]
    match text.split():
        case ["to", name]:
            arguments = {"target": name, "reason": "asked", "summary": f"The caller wants {name}."}
            return [Speak("One moment."), CallTool(TOOL_NAME, arguments)]
        case ["look"]:
            return [Speak("I look."), CallTool("look", {})]
        case ["long"]:
            return [Speak("A very long story. " * 6, seconds=6.0)]
        case _:
            return [Speak(f"You said {text}.")]


def _last(history: Sequence[Message]) -> tuple[str, list[str]]:
    """The caller's latest words, and the results that came after them."""
    text = ""
    results: list[str] = []
    for message in history:
        if message.role == "user" and not message.text.startswith("["):
            text, results = message.text.splitlines()[0], []
        elif "handed over" in message.text or "accepted" in message.text:
            results.append("a new agent")
        elif message.role == "tool" or "has returned" in message.text or "[Result of" in message.text:
            results.append("42")
    return text, results


def model(asked: Asked) -> list[Act]:
    """The scripted providers' model."""
    return answer(*_last(asked.history))


def llm(request: Request) -> list[str | ToolRequest]:
    """The cascade's model: the same."""
    replies: list[str | ToolRequest] = []
    for act in answer(*_last(request.messages)):
        if isinstance(act, Speak):
            replies.append(act.text + " ")
        elif isinstance(act, CallTool):
            replies.append(ToolRequest(call_id="", name=act.name, arguments=act.arguments))
    return replies


class Lines:
    """The caller's lines in a call, each with the level of its tone."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds: list[float] = []

    def add(self, text: str, seconds: float) -> int:
        self.texts.append(text)
        self.seconds.append(seconds)
        return len(self.texts) * STEP

    def understand(self, pcm: bytes, rate: int) -> str:
        """The text of the line that fills most of it. Says so if a part of the line is missing."""
        levels = np.rint(np.frombuffer(pcm, dtype="<i2") / STEP).astype(int)
        counted = Counter(level for level in levels.tolist() if 0 < level <= len(self.texts))
        if not counted:
            return ""
        said = []
        for level in sorted(level for level, count in counted.items() if count > 0.1 * rate):
            missing_s = self.seconds[level - 1] - counted[level] / rate
            text = self.texts[level - 1]
            said.append(text if abs(missing_s) < 0.015 else f"{text} (but for {missing_s:.3f} s)")
        return " ".join(said)


class Ear(MockSTT):
    """Understands the caller's lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self._pcm = bytearray()

    async def begin(self) -> None:
        self._pcm.clear()

    async def feed(self, pcm: bytes) -> str:
        self._pcm += pcm
        return ""

    async def finish(self) -> Transcription:
        return Transcription(text=self._lines.understand(bytes(self._pcm), self.sample_rate))


class SwapCall(BareCall):
    """A call with three engines. The caller's lines are tones."""

    def __init__(
        self,
        openai: ScriptedOpenAI,
        gemini: ScriptedGemini,
        *agents: Agent,
        engine_of_first: str = "",
        ahead: Sequence[Processor] = (),
        may_fail: bool = False,
        **options: Any,
    ) -> None:
        self.lines = Lines()
        self.openai, self.gemini = openai, gemini
        openai.behaviour.transcripts = lambda pcm: self.lines.understand(pcm, 24_000)
        gemini.behaviour.transcripts = lambda pcm: self.lines.understand(pcm, 16_000)
        settings = ConnectionSettings(connect_timeout_s=2.0, retry_for_s=5.0, failover_after_s=1.0)
        self.requests: list[Request] = []
        self.engines: dict[str, Any] = {
            "openai": OpenAIRealtime(
                api_key="test",
                base_url=openai.url,
                options=OpenAIRealtimeOptions(turn_detection=None),
                connection=settings,
            ),
            "gemini": GeminiLive(
                api_key="test",
                base_url=gemini.url,
                ssl_context=gemini.ssl_context,
                options=GeminiLiveOptions(turn_detection=None),
                connection=settings,
            ),
            "cascade": Cascade(Ear(self.lines), MockLLM(self._llm), MockTTS(seconds_per_sentence=0.6)),
        }
        self.transport = MemoryTransport(RATE)
        self.switch = Switch(self.engines, active=engine_of_first or agents[0].engine)
        self.handoff = Handoff(agents, **options)
        self.look_s = 0.5
        self.looked = 0

        async def look() -> int:
            """Look something up."""
            self.looked += 1
            await anyio.sleep(self.look_s)
            return 42

        tools = Tools([Tool(look, cancel_on_interruption=False)])
        pipeline = [self.transport.input(), *ahead, self.switch, self.handoff, tools, self.transport.output()]
        super().__init__(Session(Pipeline(pipeline)), may_fail=may_fail)
        self._level, self._left = 0, 0
        self.microphone_rate = RATE
        self.spoken: list[tuple[float, float]] = []
        """The session times at which each line began and ended."""
        self._microphone: asyncio.Task[None] | None = None

    def _llm(self, request: Request) -> list[str | ToolRequest]:
        self.requests.append(request)
        return llm(request)

    # -- the caller ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the session, and open the microphone when it has started."""
        await super().start()
        self._microphone = asyncio.create_task(self._listen_to_caller())

    async def run(self) -> Outcome:
        """Run the session to its end; the microphone is closed then."""
        try:
            return await super().run()
        finally:
            if self._microphone is not None:
                self._microphone.cancel()

    async def _listen_to_caller(self) -> None:
        """Send 20 ms of audio each 20 ms."""
        while True:
            level = self._level if self._left else 0
            if self._left and self._left == round(self._said_s / PIECE_S):
                began = self.session.now() - PIECE_S
                self.spoken.append((began, began + self._said_s))
            self._left = max(0, self._left - 1)
            pcm = np.full(int(self.microphone_rate * PIECE_S), level, dtype="<i2").tobytes()
            self.transport.input().feed(pcm, self.microphone_rate)
            await anyio.sleep(PIECE_S)

    async def begins(self, text: str, seconds: float = 0.8) -> None:
        """The caller begins to speak; returns when half of it has been said."""
        self._level = self.lines.add(text, seconds)
        self._said_s, self._left = seconds, round(seconds / PIECE_S)
        # A detector is sure only some time after the first sound.
        await anyio.sleep(0.1)
        if self.session.floor.owner == "agent":
            self.session.interrupt()
        self.session.floor.caller_speaking = True
        self.transport.send_frame(SpeechStarted(at=self.session.now() - 0.1))
        await anyio.sleep(seconds / 2 - 0.1)

    async def stops(self) -> None:
        """The caller says the other half, and falls silent."""
        await anyio.sleep(self._said_s / 2 + 0.2)
        self.session.floor.caller_speaking = False
        self.transport.send_frame(SpeechStopped(at=self.session.now() - 0.2))
        await anyio.sleep(0.2)
        self.transport.send_frame(EndOfTurn(at=self.session.now() - 0.4))

    async def says(self, text: str, seconds: float = 0.8) -> None:
        """The caller says a line."""
        await self.begins(text, seconds)
        await self.stops()

    async def hears(self) -> None:
        """The caller listens until the agent has answered and fallen silent, and nothing is owed any more."""
        await self.settles(30.0)

    async def transfers(self, target: str = "", engine: str = "") -> None:
        """The application hands the call over."""
        await self.session.send(Transfer(target=target, engine=engine, reason="asked", summary="So far so good."))

    # -- what is seen ----------------------------------------------------------------------------------------------

    @property
    def completed(self) -> list[HandoffCompleted]:
        """The hand-offs that came to pass."""
        return self.came(HandoffCompleted)

    @property
    def failed(self) -> list[HandoffFailed]:
        """The hand-offs that failed."""
        return self.came(HandoffFailed)

    def line(self, item: Item) -> str:
        """An item with its name or its new agent; none for a message without text."""
        return _line(item) if item.kind != "message" or item.text else ""

    @property
    def said(self) -> list[str]:
        """The messages of both sides, as they were heard."""
        return [_line(item) for item in self.session.conversation if item.kind == "message" and item.text]

    def got(self, engine: str) -> Got:
        """The messages and audio of the latest connection of an engine."""
        server: ScriptedOpenAI | ScriptedGemini = self.openai if engine == "openai" else self.gemini
        return server.got[-1]

    def remembered(self, engine: str) -> list[str]:
        """The words of caller and agent that the engine's model knows, each run of either as one line."""
        if engine == "cascade":
            # Its model gets all anew each time; its later answers reach it with the next request.
            answered = self.said[-1:] if self.said and self.said[-1].startswith("agent") else []
            return runs([*_lines(self.requests[-1].messages), *answered])
        return runs(_lines(self.got(engine).history))


def _lines(history: Iterable[Message]) -> list[str]:
    who = {"user": "caller", "assistant": "agent"}
    return [
        f"{who[message.role]}: {line.strip()}"
        for message in history
        if message.role in who
        for line in message.text.splitlines()
        if line and not line.startswith("[")  # notes
    ]


def runs(lines: Iterable[str]) -> list[str]:
    """Join the lines that one side says in a row."""
    out: list[str] = []
    for line in lines:
        who, _, text = line.removesuffix("...").partition(": ")
        if out and out[-1].startswith(who):
            out[-1] += f" {text}"
        else:
            out.append(f"{who}: {text}")
    return out


def _line(item: Item) -> str:
    if item.kind == "tool_call":
        return f"call {item.name}"
    if item.kind == "tool_result":
        return f"result {item.name}"
    if item.kind == "handoff":
        return f"-> {item.agent} {item.data.get('engine', '')}".rstrip()
    cut = "..." if item.status == "interrupted" else ""
    return f"{item.role}: {item.text.strip()}{cut}"


@asynccontextmanager
async def swap_call(*agents: Agent, refuse: bool = False, **options: Any) -> AsyncIterator[SwapCall]:
    """A call that begins with the first agent. With `refuse`, OpenAI takes no connection."""
    async with ScriptedOpenAI(model) as openai, ScriptedGemini(model) as gemini:
        openai.behaviour.refuse = 10**6 if refuse else 0
        async with SwapCall(openai, gemini, *agents, **options) as call:
            yield call


def agent(name: str, engine: str = "", **more: Any) -> Agent:
    """An agent of this name."""
    return Agent(name=name, role=f"the role of {name}", instructions=f"You are {name}.", engine=engine, **more)
