"""`CountedCall`: a call to a scripted provider, whose transcript of a turn names the samples that it heard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import pytest

from duologue.frames import (
    ConnectionChanged,
    EndOfTurn,
    ResponseEnded,
    SpeechStarted,
    SpeechStopped,
)
from duologue.processors import Pipeline, Processor
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.native.asks import CONTINUE
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions, ServerVad
from duologue.services.remote.connection import ConnectionSettings
from duologue.session import Session
from duologue.session.item import Item
from duologue.testing import BareCall, Probe
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
"""Silence that ends the caller's turn."""
SURE_S = 0.1
"""Seconds from the start of speech until a detector before the engine is sure of it."""


def said(pcm: bytes) -> str:
    """The transcript of a turn: the samples of it that are speech."""
    return " ".join(f"{run.first}-{run.end}" for run in speech(pcm))


def agrees(asked: Asked) -> Sequence[Act]:
    """A model that repeats the caller's words, and goes on where it was broken off."""
    if CONTINUE in asked.instructions or CONTINUE in asked.said:
        return [Speak("And so on.", seconds=0.2)]
    said = [message.text for message in asked.history if message.role == "user" and message.text[:1] != "["]
    return [Speak(f"You said {said[-1] if said else ''}.", seconds=0.4)]


@dataclass(frozen=True)
class Provider:
    """The facts of a provider that a test needs."""

    name: str
    rate: int
    voices: tuple[str, str]
    goes_away: bool
    """True if it announces that it will close the connection."""

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


class CountedCall(BareCall):
    """A call to a scripted provider, over this engine or over `others`, one of which it is. It is cancelled at its end.

    The caller's audio is counted at the provider's rate, so that nothing is resampled. With `ears`, a detector before
    the engine says where speech begins and that a turn is over.
    """

    probe: Probe

    def __init__(
        self,
        provider: Provider,
        server: Server,
        engine: Engine,
        *others: Processor,
        ears: bool = False,
        may_fail: bool = False,
        **options: Any,
    ) -> None:
        self.provider, self.server, self.engine, self.ears = provider, server, engine, ears
        self.piece_s = PIECE_S
        self.sent = 0
        """Samples of the caller's audio."""
        self.turns: list[Run] = []
        """The samples that are speech, turn by turn."""
        self.transport = MemoryTransport(provider.rate)
        processors = [self.transport.input(), *(others or (engine,)), Probe()]
        super().__init__(Session(Pipeline(processors), **options), ends=False, may_fail=may_fail)

    # -- what the caller does --------------------------------------------------------------------------------------

    async def waits(self, seconds: float) -> None:
        """The caller is silent: nothing but the noise of the line."""
        await self._send(seconds, loud=False)

    async def says(self, seconds: float = 0.6) -> Run:
        """The caller speaks, and is silent until the turn is over. Returns the samples that were speech."""
        await self.begins(seconds)
        return await self.stops()

    async def begins(self, seconds: float) -> None:
        """The caller speaks for some seconds, and has not finished."""
        first, began = self.sent, self.session.now()
        self.turns.append(Run(first, first))
        if self.ears:
            await self._send(SURE_S, loud=True)
            self.session.floor.caller_speaking = True
            self.transport.send_frame(SpeechStarted(at=began))
            seconds -= SURE_S
        await self.goes_on(seconds)

    async def goes_on(self, seconds: float) -> None:
        """The caller, who has begun, speaks for some more seconds."""
        await self._send(seconds, loud=True)
        self.turns[-1] = Run(self.turns[-1].first, self.sent)

    async def stops(self) -> Run:
        """The caller falls silent, and the turn is over. Returns its samples."""
        stopped = self.session.now()
        await self._send(SILENCE_MS / 1000, loud=False)
        if self.ears:
            self.session.floor.caller_speaking = False
            self.transport.send_frame(SpeechStopped(at=stopped))
            self.transport.send_frame(EndOfTurn(at=stopped))
        return self.turns[-1]

    async def hears(self, answers: int, within_s: float = 30.0) -> None:
        """The caller is silent until the agent has given this many answers since the call began."""
        until = self.session.now() + within_s
        while len(self.answered) < answers:
            assert self.session.now() < until, f"{len(self.answered)} answers after {within_s} s: {self.log}"
            await self.waits(0.1)

    async def _send(self, seconds: float, *, loud: bool) -> None:
        left = round(seconds * self.provider.rate)
        while left > 0:
            size = min(left, round(self.piece_s * self.provider.rate))
            await anyio.sleep(size / self.provider.rate)
            self.transport.send(counted(self.sent, self.sent + size, loud=loud))
            self.sent, left = self.sent + size, left - size

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def heard(self) -> list[list[Run]]:
        """The samples that each connection brought to the provider."""
        return [runs(bytes(got.audio)) for got in self.server.got]

    @property
    def answered(self) -> list[str]:
        """The turns that the agent answered, in order, without answers that were interrupted."""
        over = {frame.response_id for frame in self.came(ResponseEnded) if frame.status != "interrupted"}
        texts = [item.text for item in self.session.conversation if item.role == "agent" and item.id in over]
        return [text.removeprefix("You said ").removesuffix(".") for text in texts if text != "And so on."]

    @property
    def understood(self) -> list[str]:
        """The caller's words in the log."""
        return [item.text for item in self.session.conversation if item.role == "caller"]

    @property
    def changes(self) -> list[tuple[float, ConnectionChanged]]:
        """The changes of the connection, each with its time."""
        return [(at, signal) for at, signal in self.signals if isinstance(signal, ConnectionChanged)]

    def line(self, item: Item) -> str:
        """Only messages have lines."""
        return super().line(item) if item.kind == "message" else ""


@asynccontextmanager
async def calling(
    provider: Provider,
    model: Model | Sequence[Sequence[Act]] = agrees,
    /,
    *,
    manual: bool = False,
    ears: bool | None = None,
    behaviour: dict[str, Any] | None = None,
    connection: ConnectionSettings | None = None,
    may_fail: bool = False,
    **settings: Any,
) -> AsyncIterator[CountedCall]:
    """A call over an engine of the provider's.

    By default it has `ears` where the framework finds the turns (`manual`).
    """
    async with provider.server(model, **behaviour or {}) as server:
        engine = provider.engine(server, manual=manual, connection=connection, **settings)
        ears = manual if ears is None else ears
        async with CountedCall(provider, server, engine, ears=ears, may_fail=may_fail) as call:
            yield call
