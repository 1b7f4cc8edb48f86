"""`AgentCall`: a call whose agent is the test, and audio in which each sample can be recognised."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from duologue.frames import (
    BotAudio,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    Interrupted,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    Signal,
)
from duologue.processors import Pipeline, Processor
from duologue.session import Session
from duologue.testing import BareCall
from duologue.transports import MemoryTransport, PlayoutSettings

RATE = 16_000
SPEAKING = (BotStartedSpeaking, BotStoppedSpeaking, BotPaused, BotResumed, Interrupted)
"""The signals that say whether the agent's voice is heard."""


def ramp(first: int, count: int) -> bytes:
    """`count` samples, each with a number of its own (up to 65536), none of them zero."""
    return ((np.arange(first, first + count) % 65_535) + 1).astype("<u2").tobytes()


def numbers(pcm: bytes) -> list[int]:
    """The numbers of a ramp's samples, silence left out."""
    samples = np.frombuffer(pcm, "<u2")
    found: list[int] = (samples[samples > 0].astype(int) - 1).tolist()
    return found


class FarEnd:
    """The chunks that leave a `MemoryTransport`, with the times at which they are sent and heard, and signals."""

    def __init__(self, transport: MemoryTransport, session: Session) -> None:
        self.session = session
        self.sent: list[tuple[float, bytes]] = []
        self.heard: list[tuple[float, bytes]] = []
        self.signals: list[tuple[float, Signal]] = []
        transport.on_audio(self._audio)
        transport.on_clear(self._clear)

    def _audio(self, pcm: bytes, at: float) -> None:
        self.sent.append((self.session.now(), pcm))
        self.heard.append((at, pcm))

    def _clear(self, at: float) -> None:
        kept = []
        for start, pcm in self.heard:
            part = pcm[: 2 * max(0, round((at - start) * RATE))]
            if part:
                kept.append((start, part))
        self.heard[:] = kept

    def watch(self, *signals: type[Signal]) -> None:
        for signal in signals:
            self.session.on(signal, lambda s: self.signals.append((self.session.now(), s)))

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, pcm in self.heard)

    @property
    def sent_times(self) -> list[float]:
        """The session times at which the chunks were sent, to the microsecond."""
        return [round(at, 6) for at, _ in self.sent]

    def stops(self) -> list[tuple[int, float]]:
        return [(s.turn, s.at) for _, s in self.signals if isinstance(s, BotStoppedSpeaking)]

    def names(self) -> list[str]:
        return [type(signal).__name__ for _, signal in self.signals]


class Agent:
    """Sends responses into the pipeline, as an engine does."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._count = 0

    def turn(self) -> int:
        turn = self.session.floor.begin()
        self.session.floor.finish(turn)
        return turn

    async def begin(self, text: str = "", turn: int | None = None) -> ResponseStarted:
        self._count += 1
        frame = ResponseStarted(turn=self.turn() if turn is None else turn, response_id=f"r{self._count}")
        self.session.ledger.open(frame.response_id, frame.turn)
        await self.session.send(frame)
        self.session.ledger.add_text(frame.response_id, text)
        return frame

    async def audio(self, response: ResponseStarted, pcm: bytes, sample_rate: int = RATE, channels: int = 1) -> None:
        turn, response_id = response.turn, response.response_id
        await self.session.send(
            BotAudio(turn=turn, response_id=response_id, audio=pcm, sample_rate=sample_rate, channels=channels)
        )

    async def end(self, response: ResponseStarted, status: ResponseStatus = "completed") -> None:
        turn, response_id = response.turn, response.response_id
        await self.session.send(ResponseEnded(turn=turn, response_id=response_id, status=status))

    async def say(self, pcm: bytes, text: str = "", sample_rate: int = RATE) -> ResponseStarted:
        response = await self.begin(text)
        await self.audio(response, pcm, sample_rate)
        await self.end(response)
        return response


class AgentCall(BareCall):
    """A call over a `MemoryTransport`, in which the test speaks for the agent. It is cancelled at its end."""

    def __init__(
        self, session: Session, transport: MemoryTransport, *, ends: bool = False, may_fail: bool = False
    ) -> None:
        super().__init__(session, ends=ends, may_fail=may_fail)
        self.transport = transport
        self.far_end = FarEnd(transport, session)
        self.agent = Agent(session)

    @classmethod
    def through(
        cls,
        *processors: Processor,
        ends: bool = False,
        may_fail: bool = False,
        settings: PlayoutSettings | None = None,
        **options: Any,
    ) -> Self:
        """A call through these processors, between both ends of the transport."""
        transport = MemoryTransport(RATE, settings)
        pipeline = Pipeline([transport.input(), *processors, transport.output()])
        return cls(Session(pipeline, **options), transport, ends=ends, may_fail=may_fail)


calling = AgentCall.through
