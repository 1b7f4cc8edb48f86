"""`EarsCall`: a call whose caller is audio, for the tests of turn-taking."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anyio
import numpy as np

from duologue.audio.vad import EnergyVad
from duologue.audio.wav import read_wav
from duologue.frames import (
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    EndOfTurn,
    ErrorRaised,
    Input,
    Interrupted,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserTranscript,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.testing import BareCall

RATE = 16_000
UTTERANCE_2 = read_wav(Path(__file__).parents[2] / "data" / "utterance_2.wav").pcm
UTTERANCE_4 = read_wav(Path(__file__).parents[2] / "data" / "utterance_4.wav").pcm
SPEECH_S = {UTTERANCE_2: (1600 / RATE, 44429 / RATE), UTTERANCE_4: (1600 / RATE, 58991 / RATE)}


def noise(seconds: float, dbfs: float, rate: int = RATE, seed: int = 1) -> bytes:
    """White noise at a level."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 32768 * 10 ** (dbfs / 20)
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()


def loud(seconds: float, rate: int = RATE) -> bytes:
    """Audio that `level_vad` takes for speech: a square wave at -18 dBFS."""
    return (np.where(np.arange(round(seconds * rate)) % 100 < 50, 4000, -4000)).astype("<i2").tobytes()


def hush(seconds: float, rate: int = RATE) -> bytes:
    """Audio that `level_vad` takes for silence, and in which each sample is different."""
    return (np.arange(round(seconds * rate)) % 20 - 10).astype("<i2").tobytes()


def level_vad(frame_ms: int = 20) -> EnergyVad:
    """A detector without memory or doubt."""
    return EnergyVad(threshold_dbfs=-40.0, frame_ms=frame_ms)


class Engine(Processor):
    """Stands in the place of the engine, and keeps the frames that reach it."""

    def __init__(self) -> None:
        self.frames: list[Input] = []

    @handles(Input)
    async def take(self, frame: Input) -> None:
        self.frames.append(frame)


class Top(Processor):
    """Stands in the place of the transport, and keeps the frames that come up to it."""

    def __init__(self) -> None:
        self.frames: list[Input] = []

    @handles(Input, upstream=True)
    async def take(self, frame: Input) -> None:
        self.frames.append(frame)


_EVENTS = (Interrupted, BotPaused, BotResumed, ErrorRaised)


class EarsCall(BareCall):
    """A call through these processors, whose caller is audio. It is cancelled at its end, unless it `ends`.

    The audio comes as from a microphone: in pieces of `piece_s` seconds, each when its last sample has been spoken.
    """

    def __init__(
        self, *processors: Processor, piece_s: float = 0.02, ends: bool = False, may_fail: bool = False
    ) -> None:
        self.top, self.engine = Top(), Engine()
        super().__init__(Session(Pipeline([self.top, *processors, self.engine])), ends=ends, may_fail=may_fail)
        self.piece_s = piece_s
        self.sent = b""
        self.held = False
        """The agent's voice is on hold."""
        self._unheard = 0
        self.session.floor.on_hold(self._hold, self._resume)
        self.session.on_fence(self._flush)

    # -- the caller ------------------------------------------------------------------------------------------------

    async def sounds(self, pcm: bytes, rate: int = RATE) -> None:
        """The caller's microphone picks up some audio, in real time."""
        size = 2 * round(self.piece_s * rate)
        for start in range(0, len(pcm), size):
            piece, at = pcm[start : start + size], self.session.now()
            await anyio.sleep(len(piece) / (2 * rate))
            self.sent += piece
            await self.session.send(UserAudio(audio=piece, sample_rate=rate, at=at))

    async def says(self, seconds: float) -> None:
        """The caller speaks."""
        await self.sounds(loud(seconds))

    async def waits(self, seconds: float) -> None:
        """The caller is silent; the microphone stays open."""
        await self.sounds(hush(seconds))

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

    # The work of a playout.

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
        return [(round(at, 6), type(signal).__name__) for at, signal in self.signals if isinstance(signal, _EVENTS)]

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
