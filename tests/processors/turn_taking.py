"""A call as a script, for the tests of turn-taking: who speaks, for how long, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np

from duologue.audio.vad import EnergyVad
from duologue.audio.wav import read_wav
from duologue.frames import (
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    End,
    EndOfTurn,
    ErrorRaised,
    Input,
    Interrupted,
    SessionStarted,
    Signal,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserTranscript,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session

RATE = 16_000
UTTERANCE_2 = read_wav(Path(__file__).parents[1] / "data" / "utterance_2.wav").pcm
UTTERANCE_4 = read_wav(Path(__file__).parents[1] / "data" / "utterance_4.wav").pcm
SPEECH_S = {UTTERANCE_2: (1600 / RATE, 44429 / RATE), UTTERANCE_4: (1600 / RATE, 58991 / RATE)}


def noise(seconds: float, dbfs: float, rate: int = RATE, seed: int = 1) -> bytes:
    """White noise at a level."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 32768 * 10 ** (dbfs / 20)
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()


def loud(seconds: float, rate: int = RATE) -> bytes:
    """What `level_vad` calls speech: a square wave at -18 dBFS."""
    return (np.where(np.arange(round(seconds * rate)) % 100 < 50, 4000, -4000)).astype("<i2").tobytes()


def hush(seconds: float, rate: int = RATE) -> bytes:
    """What `level_vad` calls silence: no digital zero, so that samples can be told apart."""
    return (np.arange(round(seconds * rate)) % 20 - 10).astype("<i2").tobytes()


def level_vad(frame_ms: int = 20) -> EnergyVad:
    """A detector without memory or doubt."""
    return EnergyVad(threshold_dbfs=-40.0, frame_ms=frame_ms)


class Engine(Processor):
    """Stands where the engine does. Writes down what reaches it."""

    def __init__(self) -> None:
        self.frames: list[Input] = []

    @handles(Input)
    async def take(self, frame: Input) -> None:
        self.frames.append(frame)


class Top(Processor):
    """Stands where the transport does. Writes down what comes up to it."""

    def __init__(self) -> None:
        self.frames: list[Input] = []

    @handles(Input, upstream=True)
    async def take(self, frame: Input) -> None:
        self.frames.append(frame)


class Call:
    """A call that runs. The caller's audio comes as it would from a microphone: `piece_s` late, in pieces so long."""

    def __init__(self, processors: Iterable[Processor], piece_s: float = 0.02) -> None:
        self.top, self.engine = Top(), Engine()
        self.session = Session(Pipeline([self.top, *processors, self.engine]))
        self.piece_s = piece_s
        self.sent = b""
        self.signals: list[tuple[float, Signal]] = []
        self.held = False
        """The agent's voice is on hold."""
        self._unheard = 0
        self.session.floor.on_hold(self._hold, self._resume)
        self.session.on_fence(self._flush)
        for kind in (Interrupted, BotPaused, BotResumed, ErrorRaised):
            self.session.on(kind, lambda signal: self.signals.append((round(self.session.now(), 6), signal)))

    # -- the caller ------------------------------------------------------------------------------------------------

    async def hear(self, pcm: bytes, rate: int = RATE) -> None:
        """The microphone picks this up, in real time."""
        size = 2 * round(self.piece_s * rate)
        for start in range(0, len(pcm), size):
            piece, at = pcm[start : start + size], self.session.now()
            await anyio.sleep(len(piece) / (2 * rate))
            self.sent += piece
            await self.session.send(UserAudio(audio=piece, sample_rate=rate, at=at))

    async def speak(self, seconds: float) -> None:
        """The caller speaks."""
        await self.hear(loud(seconds))

    async def be_quiet(self, seconds: float) -> None:
        """The caller's microphone picks up silence."""
        await self.hear(hush(seconds))

    async def transcribe(self, text: str, *, final: bool = False, start_s: float = 0.0, end_s: float = 0.0) -> None:
        """The engine's speech-to-text has understood something."""
        await self.engine.push_up(UserTranscript(text=text, final=final, start_s=start_s, end_s=end_s))

    # -- the agent -------------------------------------------------------------------------------------------------

    def think(self, *, protected: bool = False) -> int:
        """The agent takes a turn."""
        return self.session.floor.begin(protected=protected)

    def utter(self, turn: int | None = None, *, protected: bool = False) -> int:
        """The agent's voice comes; the caller begins to hear it, unless it is on hold."""
        turn = self.think(protected=protected) if turn is None else turn
        self.session.ledger.open(f"r{turn}", turn)
        self.session.floor.agent_speaking = True
        if self.held:
            self._unheard = turn
        else:
            self.session.broadcast(BotStartedSpeaking(turn=turn, at=self.session.now()))
        return turn

    def finish(self, turn: int) -> None:
        """The agent has said all of it."""
        self.session.floor.agent_speaking = False
        self.session.floor.finish(turn)
        self.session.ledger.finish(f"r{turn}")

    # What a playout does.

    def _hold(self, owners: tuple[str, ...]) -> None:
        self.held = True
        self.session.broadcast(BotPaused(turn=self.session.floor.turn, owners=owners))

    def _resume(self, owners: tuple[str, ...]) -> None:
        self.held = False
        self.session.broadcast(BotResumed(turn=self.session.floor.turn, owners=owners))
        if self._unheard:
            self.session.broadcast(BotStartedSpeaking(turn=self._unheard, at=self.session.now()))
            self._unheard = 0

    def _flush(self) -> None:
        self.held = self.session.floor.agent_speaking = False
        self._unheard = 0

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def marks(self) -> list[tuple[str, float]]:
        """Speech boundaries and ends of turns that reached the engine, with their times."""
        return marks(self.engine.frames)

    @property
    def events(self) -> list[tuple[float, str]]:
        """Interruptions, holds and resumptions, with the times when they came."""
        return [(at, type(signal).__name__) for at, signal in self.signals]

    @property
    def received(self) -> bytes:
        """The audio that reached the engine."""
        return b"".join(frame.audio for frame in self.engine.frames if isinstance(frame, UserAudio))

    def places(self) -> list[tuple[str, float]]:
        """Where in the engine's audio, in seconds from its start, the marks stand."""
        found, audio_s = [], 0.0
        for frame in self.engine.frames:
            if isinstance(frame, UserAudio):
                audio_s += frame.duration_s
            else:
                found.append((_label(frame), round(audio_s, 6)))
        return found


def marks(frames: Iterable[Input]) -> list[tuple[str, float]]:
    """Speech boundaries and ends of turns, with their times."""
    return [
        (_label(frame), round(frame.at, 6))
        for frame in frames
        if isinstance(frame, SpeechStarted | SpeechStopped | EndOfTurn)
    ]


def _label(frame: Input) -> str:
    return frame.by if isinstance(frame, EndOfTurn) else type(frame).__name__.removeprefix("Speech").lower()


@asynccontextmanager
async def call(*processors: Processor, piece_s: float = 0.02, ends: bool = False) -> AsyncIterator[Call]:
    """A call through these processors. It is cancelled at the end of the block, or ended in order if `ends`."""
    made = Call(processors, piece_s)
    started = anyio.Event()
    made.session.on(SessionStarted, lambda _: started.set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.session.run)
        await started.wait()
        yield made
        if ends:
            await made.session.send(End())
        else:
            made.session.cancel()
