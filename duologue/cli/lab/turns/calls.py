"""`TurnCall`: a call with the ear under test, a scripted recogniser, and an agent whose lines the bench chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import numpy as np
from numpy.typing import NDArray

from ....agents.agent import Agent
from ....frames import EndOfTurn, Interrupted, UserText
from ....processors.pipeline import Pipeline
from ....processors.processor import Processor, handles
from ....services.cascade import Cascade
from ....services.tts import TTS, SpeechChunk
from ....session.session import Session
from ....testing.call import BareCall
from ....testing.mocks import MockLLM
from ....transports.memory import MemoryTransport
from .line import STEP_S, Line
from .recogniser import Manner, ScriptedSTT
from .rooms import Room
from .settings import EarSettings
from .voices import RATE, Speaker, SpokenWord, agent_voice, speech_of

AGENT_DBFS = -20.0
SENTENCE_GAP_S = 0.12
"""Silence after each sentence of the agent."""
STOPPED_S = 0.3
"""A longer silence in the agent's speech is not a pause between words: the agent has stopped."""
FIRST_TOKEN_S, FIRST_AUDIO_S = 0.15, 0.08


class AgentVoice(TTS):
    """Speaks with espeak-ng from the bench's cache, five times faster than real time."""

    sample_rate = RATE

    def __init__(self, voice: Speaker) -> None:
        super().__init__()
        self._voice = voice
        self.spoken: dict[str, bytes] = {}
        """The audio of each sentence that was begun, by its text, in their order. Callers may clear it."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of a sentence."""
        pcm = self.pcm(text)
        self.spoken[text.strip()] = pcm
        await anyio.sleep(FIRST_AUDIO_S)
        size = 2 * RATE // 10
        for place in range(0, len(pcm), size):
            yield SpeechChunk(pcm[place : place + size])
            await anyio.sleep(0.02)

    def pcm(self, text: str) -> bytes:
        """Return the speech of a sentence, and the silence after it."""
        samples = speech_of(text, self._voice).samples * (10 ** (AGENT_DBFS / 20) * 32768)
        pcm: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        return pcm + bytes(2 * int(SENTENCE_GAP_S * RATE))


class Ends(Processor):
    """Keeps the times of the `EndOfTurn` frames and of the interruptions."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.interrupted: list[float] = []

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Note the time."""
        self.ends.append(self.session.now())
        await self.push(frame)

    @handles(Interrupted)
    def interrupts(self, signal: Interrupted) -> None:
        """Note the time."""
        self.interrupted.append(self.session.now())


class TurnCall:
    """One call. `reply()` gives the agent's next line, whenever the model is asked. Use it as a context manager."""

    def __init__(
        self,
        settings: EarSettings,
        room: Room,
        manner: Manner,
        language: str,
        reply: Callable[[], str],
        *,
        seed: int,
        pool: Sequence[str] = ("okay",),
        echo_db: float | None = None,
    ) -> None:
        self.transport = MemoryTransport(room.sample_rate)
        self.stt = ScriptedSTT(manner, seed, pool)
        self.voice = AgentVoice(agent_voice(language))
        self.llm = MockLLM(lambda request: reply(), first_token_s=FIRST_TOKEN_S)
        self.ends = Ends()
        ear = settings.ear()
        cascade = Cascade(self.stt, self.llm, self.voice)
        pipeline = Pipeline([self.transport.input(), *ear, self.ends, cascade, self.transport.output()])
        self.session = Session(pipeline, agent=Agent(name="agent", language=language))
        self._call = BareCall(self.session)
        self._room, self._echo_db = room, echo_db

    async def __aenter__(self) -> TurnCall:
        self.line = Line(self.transport, self._room, self._echo_db)
        await self._call.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.line.close()
        await self._call.__aexit__(*error)  # type: ignore[arg-type]

    def now(self) -> float:
        """Return the session time in seconds."""
        return self.session.now()

    async def ask(self) -> None:
        """Let the agent speak, as if the caller had typed."""
        await self.session.send(UserText(text="(go on)"))

    async def say(self, pcm: bytes, words: Sequence[SpokenWord]) -> float:
        """Let the caller say something. Returns the time at which it begins."""
        start = await self.line.say(pcm)
        self.stt.expect(words, start)
        return start

    async def until(self, at: float) -> None:
        """Wait until a session time."""
        await anyio.sleep(max(0.0, at - self.now()))

    async def waits(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait for a condition, for at most `limit_s` seconds. Returns True if it came to hold."""
        end = self.now() + limit_s
        while not condition():
            if self.now() >= end:
                return False
            await anyio.sleep(0.02)
        return True

    @property
    def said(self) -> int:
        """The number of messages of which the caller has heard at least a part."""
        return sum(item.kind == "message" and item.role == "agent" for item in self.session.conversation)

    @property
    def agent_busy(self) -> bool:
        """True while the agent speaks or works on an answer."""
        floor = self.session.floor
        return floor.agent_speaking or floor.owner == "agent"

    async def quiet(self, limit_s: float = 20.0) -> None:
        """Wait until the agent is neither speaking nor working."""
        await self.waits(lambda: not self.agent_busy, limit_s)

    def audible(self, start_s: float, end_s: float) -> NDArray[np.bool_]:
        """Return True for each 10 ms in which the caller heard the agent."""
        return self.line.audible(start_s, end_s)


def silences(loud: NDArray[np.bool_]) -> list[float]:
    """Return the lengths in seconds of the silences between the first and the last sound."""
    places = np.flatnonzero(loud)
    return [float(step - 1) * STEP_S for step in np.diff(places) if step > 1]
