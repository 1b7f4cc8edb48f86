"""`RoomCall`: a call whose agent is heard in the caller's room, for the tests of interruptions."""

from __future__ import annotations

import asyncio

import numpy as np

from duologue.frames import (
    BotPaused,
    BotResumed,
    Dismissed,
    EndOfTurn,
    Interrupted,
    SpeechStarted,
    UserTranscript,
)
from duologue.processors import Pipeline
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.session import Session
from duologue.transports import MemoryTransport
from tests.processors.turns.calls import Engine, noise
from tests.processors.turns.sounds import mix
from tests.transports.calls import RATE, AgentCall

PIECE = RATE // 50
FADE = RATE * 5 // 1000
HUSH_DBFS = -66.0
_EVENTS = (Interrupted, BotPaused, BotResumed, Dismissed)


class RoomCall(AgentCall):
    """A call with the ears of the default pipeline. The microphone picks up the agent `echo_db` below its level."""

    def __init__(self, policy: InterruptionPolicy | None = None, *, echo_db: float | None = None) -> None:
        self.transport = MemoryTransport(RATE)
        self.interruption, self.engine = Interruption(policy), Engine()
        ears = Vad(), Endpointing(), self.interruption, self.engine
        pipeline = Pipeline([self.transport.input(), *ears, self.transport.output()])
        super().__init__(Session(pipeline), self.transport)
        self._echo_db = echo_db
        self._seed = 0
        self.heard_at: dict[str, float] = {}

    async def hears(self, pcm: bytes) -> None:
        """The microphone picks up a sound, in real time, beside the noise of the room and the agent's echo."""
        self._seed += 1
        pcm = mix(pcm, noise(len(pcm) / 2 / RATE, HUSH_DBFS, seed=self._seed))
        for start in range(0, len(pcm), 2 * PIECE):
            await asyncio.sleep(0.02)
            piece = pcm[start : start + 2 * PIECE]
            self.transport.send(piece if self._echo_db is None else mix(piece, self._echo(len(piece) // 2)))

    async def waits(self, seconds: float) -> None:
        """Nobody speaks in the room."""
        await self.hears(bytes(2 * round(seconds * RATE)))

    def _echo(self, count: int) -> bytes:
        """What the agent said 180 ms ago, as the far end played it."""
        end = round((self.session.now() - 0.18) * RATE)
        out = np.zeros(count, np.float64)
        for at, pcm in reversed(self.far_end.heard):
            start = round(at * RATE) - (end - count)
            if start + len(pcm) // 2 <= 0:
                break
            if start < count:
                samples = np.frombuffer(pcm, "<i2")[max(0, -start) : count - start]
                out[max(0, start) : max(0, start) + len(samples)] = samples
        return np.rint(out * 10 ** (-(self._echo_db or 0.0) / 20)).astype("<i2").tobytes()

    async def recognises(self, text: str, *, final: bool = False, start_s: float = 0.0, end_s: float = 0.0) -> None:
        """The recogniser has understood something."""
        await self.engine.push_up(UserTranscript(text=text, final=final, start_s=start_s, end_s=end_s))

    @property
    def events(self) -> list[str]:
        """Interruptions, holds, resumptions, and the causes of dismissals, in order."""
        return [
            s.cause if isinstance(s, Dismissed) else type(s).__name__ for _, s in self.signals if isinstance(s, _EVENTS)
        ]

    def at(self, kind: type[Interrupted | BotPaused | BotResumed]) -> list[float]:
        """The session times at which such signals came."""
        return [at for at, signal in self.signals if isinstance(signal, kind)]

    @property
    def turns(self) -> int:
        """The number of the caller's turns that the engine knows of."""
        assert self._count(SpeechStarted) >= self._count(EndOfTurn)
        return self._count(SpeechStarted)

    def _count(self, kind: type) -> int:
        return sum(isinstance(frame, kind) for frame in self.engine.frames)

    @property
    def played(self) -> np.ndarray:
        """The samples of the agent that were heard."""
        return np.frombuffer(self.far_end.pcm, "<i2").astype(int)
