"""The caller's turns in a call by OpenAI's Realtime API: found by us, or told by the client."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ...audio.vad import Detector
from ...errors import ServiceError
from ...frames import EndOfTurn, Input, Respond, SpeechStarted, SpeechStopped, UserAudio
from ...processors.pipeline import Pipeline
from ...processors.processor import Processor, handles
from ...processors.turns.endpointing import Endpointing
from ...processors.turns.vad import Vad

if TYPE_CHECKING:
    from .transport import RealtimeTransport

MAX_BUFFER_S = 300.0
"""Audio that waits for the client to commit it. Beyond that the oldest is dropped, and reported."""
SEMANTIC_SILENCE_MS = {"low": 1200.0, "medium": 600.0, "high": 400.0, "auto": 600.0}
"""How long a silence ends the turn where the client asks for "semantic_vad" of an eagerness."""


class BufferCommitted(Input, frozen=True, kw_only=True):
    """The client says that the audio up to here is the caller's turn."""


class BufferCleared(Input, frozen=True, kw_only=True):
    """The client takes back the audio that it has not committed."""


class AnswerWanted(Input, frozen=True, kw_only=True):
    """The client asks for a response, with `instructions` for this one."""

    instructions: str = ""


class RealtimeTurns(Pipeline):
    """Finds the caller's turns and tells the client of them; without turn detection it takes the client's word.

    Stands in the place of `Vad`, `Endpointing` and `Interruption`: the client's `turn_detection` says how
    long a silence ends a turn, whether the turn is answered by itself, and whether speech interrupts the agent.
    """

    def __init__(self, transport: RealtimeTransport, detector: Detector | None = None) -> None:
        self._vad = Vad(detector)
        self._endpointing = _Endpointing(silence_ms=500)
        self.gate = _Gate(transport)
        self.ear = _Ear(transport, self.gate)
        self.silence_ms = 500.0
        """How long a silence ends a turn."""
        super().__init__([self.ear, self._vad, self._endpointing, self.gate])

    def configure(self, detection: dict[str, Any] | None) -> None:
        """The client's `turn_detection` from now on."""
        if detection is None:
            return
        if detection["type"] == "server_vad":
            self.silence_ms = max(20.0, detection["silence_duration_ms"])
            self._vad.threshold = min(1.0, max(0.01, detection["threshold"]))
        else:
            self.silence_ms = SEMANTIC_SILENCE_MS.get(detection["eagerness"], SEMANTIC_SILENCE_MS["auto"])
        self._endpointing.wait_for(self.silence_ms)


class _Endpointing(Endpointing):
    """Endpointing whose silence may change."""

    def wait_for(self, silence_ms: float) -> None:
        """So much silence ends the turns that are not about to end already."""
        self._silence_s = silence_ms / 1000


class _Ear(Processor):
    """Knows where in the client's audio everything is, and keeps the audio that waits to be committed."""

    def __init__(self, transport: RealtimeTransport, gate: _Gate) -> None:
        self._transport = transport
        self._gate = gate
        self._kept: deque[UserAudio] = deque()
        self._kept_s = 0.0
        self._passed_ms = 0.0
        self._offset_ms = 0.0  # session time minus place in the client's audio

    def place_ms(self, at: float) -> float:
        """Where in the client's audio a session time lies."""
        return max(0.0, at * 1000 - self._offset_ms)

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass it on, or keep it."""
        self._offset_ms = frame.at * 1000 - self._passed_ms
        self._passed_ms += frame.duration_s * 1000
        if self._transport.wire.turn_detection is not None:
            await self.push(frame)
            return
        self._kept.append(frame)
        self._kept_s += frame.duration_s
        while self._kept_s > MAX_BUFFER_S:
            self._kept_s -= self._kept.popleft().duration_s
            self.session.report(ServiceError(f"more than {MAX_BUFFER_S:.0f} s of audio were not committed"), self.name)

    @handles(BufferCommitted)
    async def committed(self, frame: BufferCommitted) -> None:
        """Give away what was kept, as a turn."""
        await self._gate.take(self._take())

    @handles(BufferCleared)
    async def cleared(self, frame: BufferCleared) -> None:
        """Forget it."""
        self._take()

    def _take(self) -> list[UserAudio]:
        kept, self._kept_s = list(self._kept), 0.0
        self._kept.clear()
        return kept


class _Gate(Processor):
    """Tells the client of turns, and lets their ends pass when they are to be answered."""

    def __init__(self, transport: RealtimeTransport) -> None:
        self._transport = transport
        self._open = False
        self._held: EndOfTurn | None = None  # of a turn that is answered when the client asks for it

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        """A turn begins or goes on."""
        if self._transport.wire.turn_detection is not None:
            self._open = True
            self._transport.speech_started(frame.at)
            await self.push(frame)

    @handles(SpeechStopped)
    async def stopped(self, frame: SpeechStopped) -> None:
        """Of a turn that has passed here."""
        if self._open:
            await self.push(frame)

    @handles(EndOfTurn)
    async def ended(self, frame: EndOfTurn) -> None:
        """Let it pass if the turn is to be answered."""
        if not self._open and self._transport.wire.turn_detection is None:
            return
        self._open = False
        if self._transport.turn_ended(frame.at):
            await self._end(frame)
        else:
            self._held = frame

    @handles(AnswerWanted)
    async def answer(self, frame: AnswerWanted) -> None:
        """Answer the turn that waits for it, or whatever there is to be said."""
        if self._held is not None:
            await self._end(self._held)
        else:
            await self.push(Respond(instructions=frame.instructions))

    async def take(self, audio: list[UserAudio]) -> None:
        """A turn that the client has committed."""
        if not audio:
            return
        end = audio[-1].at + audio[-1].duration_s
        await self.push(SpeechStarted(at=audio[0].at))
        for piece in audio:
            await self.push(piece)
        await self.push(SpeechStopped(at=end))
        self._held = EndOfTurn(at=end, by="client")

    async def _end(self, frame: EndOfTurn) -> None:
        self._held = None
        self._transport.turns_under_way += 1
        await self.push(frame)
