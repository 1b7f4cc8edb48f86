"""A call to a scripted provider, as a script: the caller's audio is counted, and the provider says what it heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import pytest

from duologue.frames import (
    ConnectionChanged,
    EndOfTurn,
    ErrorRaised,
    Frame,
    Output,
    ResponseEnded,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.native.asks import CONTINUE
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions, ServerVad
from duologue.services.remote.connection import ConnectionSettings
from duologue.session import Outcome, Session
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, Speak
from duologue.transports.memory import MemoryTransport
from tests.services.native.counted import Run, counted, runs, speech

Server: TypeAlias = ScriptedOpenAI | ScriptedGemini
Engine: TypeAlias = OpenAIRealtime | GeminiLive
Model: TypeAlias = Callable[[Asked], Sequence[Act]]

PIECE_S = 0.1
SILENCE_MS = 200
"""So much of it ends the caller's turn."""
SURE_S = 0.1
"""A detector before the engine is sure so long after speech has begun."""


def said(pcm: bytes) -> str:
    """What a turn of the caller's is understood as: which samples of it are speech."""
    return " ".join(f"{run.first}-{run.end}" for run in speech(pcm))


def agrees(asked: Asked) -> Sequence[Act]:
    """A model that repeats what it was told, and goes on where it was broken off."""
    if CONTINUE in asked.instructions or CONTINUE in asked.said:
        return [Speak("And so on.", seconds=0.2)]
    said = [message.text for message in asked.history if message.role == "user" and message.text[:1] != "["]
    return [Speak(f"You said {said[-1] if said else ''}.", seconds=0.4)]


@dataclass(frozen=True)
class Provider:
    """What a story has to know of a provider."""

    name: str
    rate: int
    voices: tuple[str, str]
    goes_away: bool
    """Whether it tells that it will close the connection."""

    def server(self, model: Model | Sequence[Sequence[Act]] = agrees, **behaviour: Any) -> Server:
        behaviour = {"transcripts": said} | behaviour
        if self.name == "openai":
            return ScriptedOpenAI(model, **behaviour)
        return ScriptedGemini(model, **behaviour)

    def engine(self, server: Server, *, manual: bool = False, **settings: Any) -> Engine:
        """An engine whose turns the provider finds, or the framework if they are `manual`."""
        options: Any
        if isinstance(server, ScriptedOpenAI):
            detection = None if manual else ServerVad(silence_duration_ms=SILENCE_MS, prefix_padding_ms=0)
            options = OpenAIRealtimeOptions(turn_detection=detection)
            return OpenAIRealtime(**{"api_key": "test", "base_url": server.url, "options": options} | settings)
        options = (
            GeminiLiveOptions(turn_detection=None) if manual else GeminiLiveOptions(silence_duration_ms=SILENCE_MS)
        )
        mine = {"api_key": "test", "base_url": server.url, "ssl_context": server.ssl_context, "options": options}
        return GeminiLive(**mine | settings)


OPENAI = Provider("openai", 24_000, ("marin", "cedar"), False)
GEMINI = Provider("gemini", 16_000, ("Puck", "Kore"), True)
PROVIDERS = [pytest.param(provider, id=provider.name) for provider in (OPENAI, GEMINI)]
MODES = [pytest.param(False, id="server-turns"), pytest.param(True, id="manual-turns")]


class Behind(Processor):
    """Stands behind the engine: what the agent says."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame]] = []

    @handles(Output)
    async def see(self, frame: Output) -> None:
        self.frames.append((self.session.now(), frame))
        await self.push(frame)

    @property
    def ended(self) -> list[ResponseEnded]:
        return [frame for _, frame in self.frames if isinstance(frame, ResponseEnded)]


class Line:
    """The caller's end. What he says is counted at the provider's rate, so that nothing is resampled.

    With `ears` somebody before the engine detects his speech, and tells where it began and that a turn is over.
    """

    def __init__(
        self, provider: Provider, server: Server, engine: Engine, *others: Processor, ears: bool, **options: Any
    ) -> None:
        self.provider, self.server, self.engine, self.ears = provider, server, engine, ears
        self.piece_s = PIECE_S
        self.sent = 0
        """Samples so far."""
        self.turns: list[Run] = []
        """What of them was speech."""
        self.errors: list[ErrorRaised] = []
        self.changes: list[tuple[float, ConnectionChanged]] = []
        self.outcome: Outcome | None = None
        self.behind = Behind()
        self.transport = MemoryTransport(provider.rate)
        processors = [self.transport.input(), *(others or (engine,)), self.behind]
        self.session = session = Session(Pipeline(processors), **options)
        session.on(ErrorRaised, self.errors.append)
        session.on(ConnectionChanged, lambda change: self.changes.append((session.now(), change)))

    # -- what the caller does --------------------------------------------------------------------------------------

    async def silence(self, seconds: float) -> None:
        """Nothing but the noise of the line."""
        await self._send(seconds, loud=False)

    async def speaks(self, seconds: float = 0.6) -> Run:
        """The caller speaks, and is then silent until his turn is over. Which samples were speech."""
        await self.begins_to_speak(seconds)
        return await self.stops_speaking()

    async def begins_to_speak(self, seconds: float) -> None:
        """The caller speaks for so long, and has not finished."""
        first, began = self.sent, self.session.now()
        self.turns.append(Run(first, first))
        if self.ears:
            await self._send(SURE_S, loud=True)
            self.session.floor.caller_speaking = True
            self.transport.send_frame(SpeechStarted(at=began))
            seconds -= SURE_S
        await self.goes_on_to_speak(seconds)

    async def goes_on_to_speak(self, seconds: float) -> None:
        """And for so much longer."""
        await self._send(seconds, loud=True)
        self.turns[-1] = Run(self.turns[-1].first, self.sent)

    async def stops_speaking(self) -> Run:
        """The caller falls silent, and his turn is over."""
        stopped = self.session.now()
        await self._send(SILENCE_MS / 1000, loud=False)
        if self.ears:
            self.session.floor.caller_speaking = False
            self.transport.send_frame(SpeechStopped(at=stopped))
            self.transport.send_frame(EndOfTurn(at=stopped))
        return self.turns[-1]

    async def _send(self, seconds: float, *, loud: bool) -> None:
        left = round(seconds * self.provider.rate)
        while left > 0:
            size = min(left, round(self.piece_s * self.provider.rate))
            await anyio.sleep(size / self.provider.rate)
            self.transport.send(counted(self.sent, self.sent + size, loud=loud))
            self.sent, left = self.sent + size, left - size

    async def until_answered(self, answers: int, within_s: float = 30.0) -> None:
        """The caller is silent until the agent has answered so often."""
        until = self.session.now() + within_s
        while len(self.answered) < answers:
            assert self.session.now() < until, f"{len(self.answered)} answers after {within_s} s: {self.log}"
            await self.silence(0.1)

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def heard(self) -> list[list[Run]]:
        """What each connection brought to the provider."""
        return [runs(bytes(got.audio)) for got in self.server.got]

    @property
    def answered(self) -> list[str]:
        """What the agent's answers are to, in order: those that nobody has interrupted."""
        over = {frame.response_id for frame in self.behind.ended if frame.status != "interrupted"}
        texts = [item.text for item in self.session.conversation if item.role == "agent" and item.id in over]
        return [text.removeprefix("You said ").removesuffix(".") for text in texts if text != "And so on."]

    @property
    def understood(self) -> list[str]:
        """What the log says that the caller said."""
        return [item.text for item in self.session.conversation if item.role == "caller"]

    @property
    def log(self) -> list[str]:
        return [f"{item.role}: {item.text}" for item in self.session.conversation if item.kind == "message"]

    @property
    def states(self) -> list[str]:
        """Of the connection, in order."""
        return [change.state for _, change in self.changes]


@asynccontextmanager
async def calling(
    provider: Provider,
    model: Model | Sequence[Sequence[Act]] = agrees,
    *,
    manual: bool = False,
    ears: bool | None = None,
    behaviour: dict[str, Any] | None = None,
    connection: ConnectionSettings | None = None,
    **settings: Any,
) -> AsyncIterator[Line]:
    """A call with an engine of the provider's. It ends with the block, and leaves nothing behind.

    Unless told otherwise there are `ears` where nobody else says when the caller speaks.
    """
    async with provider.server(model, **behaviour or {}) as server:
        engine = provider.engine(server, manual=manual, connection=connection, **settings)
        async with on_line(provider, server, engine, ears=ears if ears is not None else manual) as line:
            yield line


@asynccontextmanager
async def on_line(
    provider: Provider, server: Server, engine: Engine, *others: Processor, ears: bool = False, **options: Any
) -> AsyncIterator[Line]:
    """A call with this engine, or with `others`, of which it is one. It is cancelled at the end of the block."""
    line = Line(provider, server, engine, *others, ears=ears, **options)
    started = asyncio.Event()
    line.session.on(SessionStarted, lambda _: started.set())
    running = asyncio.create_task(line.session.run())
    waits = asyncio.create_task(started.wait())
    try:
        await asyncio.wait([waits, running], return_when=asyncio.FIRST_COMPLETED)
        yield line
    finally:
        waits.cancel()
        line.session.cancel()
        line.outcome = await running
