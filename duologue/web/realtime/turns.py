"""`RealtimeTurns`: turn-taking in a call of an OpenAI Realtime client, which may commit turns itself."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

from ...audio.vad import Detector
from ...errors import ServiceError
from ...frames import EndOfTurn, Input, Respond, SpeechStarted, SpeechStopped, UserAudio
from ...processors.pipeline import Pipeline
from ...processors.processor import Processor, handles
from ...processors.turns.endpointing import Endpointing
from ...processors.turns.policy import EndpointingPolicy
from ...processors.turns.vad import Vad
from .caller import SILENCE_MS, CallerTurns

MAX_BUFFER_S = 300.0
"""Seconds of audio that wait for the client to commit them. Beyond that the oldest is dropped, and reported."""
SEMANTIC_SILENCE_MS = {"low": 1200.0, "medium": 600.0, "high": 400.0, "auto": 600.0}
"""Milliseconds of silence that end a turn, by the eagerness of "semantic_vad"."""


class BufferCommitted(Input, frozen=True, kw_only=True):
    """The client commits the audio up to this frame as a turn of the caller."""


class BufferCleared(Input, frozen=True, kw_only=True):
    """The client discards the audio that it has not committed."""


class AnswerWanted(Input, frozen=True, kw_only=True):
    """The client asks for a response, with `instructions` and a `tool_choice` for this one: see `Respond`."""

    instructions: str = ""
    tool_choice: str = ""


class RealtimeTurns(Pipeline):
    """Finds the caller's turns and announces them to the client. Without turn detection the client commits them.

    Replaces `Vad`, `Endpointing` and `Interruption`. The client's `turn_detection` sets the silence that ends a turn,
    whether the turn is answered unasked, and whether speech interrupts the agent.
    """

    def __init__(self, caller: CallerTurns, detector: Detector | None = None) -> None:
        self._caller = caller
        self._vad = Vad(detector)
        self._endpointing = Endpointing(silence_ms=SILENCE_MS)
        self.gate = _TurnGate(caller)
        super().__init__([_UncommittedAudio(caller, self.gate), self._vad, self._endpointing, self.gate])

    def configure(self, detection: dict[str, Any] | None) -> None:
        """Apply the client's `turn_detection`."""
        if detection is None:
            return
        if detection["type"] == "server_vad":
            silence_ms = max(20.0, detection["silence_duration_ms"])
            self._vad.threshold = min(1.0, max(0.01, detection["threshold"]))
        else:
            silence_ms = SEMANTIC_SILENCE_MS.get(detection["eagerness"], SEMANTIC_SILENCE_MS["auto"])
        self._caller.silence_ms = silence_ms
        silence = min(60_000, round(silence_ms))
        self._endpointing.policy = EndpointingPolicy(by_words=False, silence_ms=silence)


class _UncommittedAudio(Processor):
    """Keeps the audio that waits for the client to commit it."""

    def __init__(self, caller: CallerTurns, gate: _TurnGate) -> None:
        self._caller = caller
        self._gate = gate
        self._kept: deque[UserAudio] = deque()
        self._kept_s = 0.0

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Push the audio on; without turn detection keep it."""
        self._caller.passed(frame)
        if self._caller.detection is not None:
            await self.push(frame)
            return
        self._kept.append(frame)
        self._kept_s += frame.duration_s
        while self._kept_s > MAX_BUFFER_S:
            self._kept_s -= self._kept.popleft().duration_s
            self.session.report(ServiceError(f"more than {MAX_BUFFER_S:.0f} s of audio were not committed"), self.name)

    @handles(BufferCommitted)
    async def committed(self, frame: BufferCommitted) -> None:
        """Make the kept audio a turn."""
        await self._gate.take(self._take())

    @handles(BufferCleared)
    async def cleared(self, frame: BufferCleared) -> None:
        """Discard the kept audio."""
        self._take()

    def _take(self) -> list[UserAudio]:
        kept, self._kept_s = list(self._kept), 0.0
        self._kept.clear()
        return kept


class _TurnGate(Processor):
    """Announces turns to the client, and pushes their ends on when they are to be answered."""

    def __init__(self, caller: CallerTurns) -> None:
        self._caller = caller
        self._open = False
        self._held: EndOfTurn | None = None  # the end of a turn that is answered when the client asks for it

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        """Begin a turn, or go on with it."""
        if self._caller.detection is not None:
            self._open = True
            self._caller.speech_started(self.session, frame.at)
            await self.push(frame)

    @handles(SpeechStopped)
    async def stopped(self, frame: SpeechStopped) -> None:
        """Push on the end of speech whose start was pushed on."""
        if self._open:
            await self.push(frame)

    @handles(EndOfTurn)
    async def ended(self, frame: EndOfTurn) -> None:
        """Push the end on if the turn is answered unasked, else keep it."""
        if not self._open and self._caller.detection is None:
            return
        self._open = False
        if self._caller.turn_ended(frame.at):
            await self._end(frame)
        else:
            self._held = frame

    @handles(AnswerWanted)
    async def answer(self, frame: AnswerWanted) -> None:
        """Let the engine answer the turn that waits, or else respond to the log."""
        settings = {"instructions": frame.instructions, "tool_choice": frame.tool_choice}
        if self._held is not None:
            await self._end(replace(self._held, **settings))
        else:
            await self.push(Respond(**settings))

    async def take(self, audio: list[UserAudio]) -> None:
        """Push the audio of a turn that the client has committed."""
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
        self._caller.under_way += 1
        await self.push(frame)
