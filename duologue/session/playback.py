"""`SpeechControls`: the volume of the agent's speech, its pauses, its end before its time, and its replay."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..errors import ConfigurationError, IllegalState
from ..frames import BotAudio, BotStartedSpeaking
from ..processors.kernel.node import Node
from .boundary import enters
from .floor import Hold
from .interrupting import CutIn, interrupt, may_interrupt

MAX_PAUSE_S = 600.0
"""Seconds after which a pause ends by itself."""
MAX_REPLAY_S = 600.0
"""The most seconds of an answer that can be kept."""
OWNER = "playback"
"""The owner of the hold of a pause."""


class PlayedSession(CutIn, Protocol):
    """The part of a session that its playback uses."""

    @property
    def pipeline(self) -> Node: ...


class SpeechControls:
    """Controls the agent's speech at the caller's end, on every transport that paces the speech.

    A transport whose client paces the speech itself (the OpenAI Realtime API) takes the volume and `stop`; the rest is
    the client's.
    """

    __slots__ = ("_hold", "_kept", "_session", "_volume")

    def __init__(self, session: PlayedSession) -> None:
        self._session = session
        self._volume = 1.0
        self._hold: Hold | None = None
        self._kept: _LastAnswer | None = None

    @property
    def volume(self) -> float:
        """The factor of the agent's samples, from 0 to 1. A change becomes audible within 20 ms, without a click.

        Audio that was written ahead, about 80 ms, keeps its volume. What is heard of a text does not depend on it.
        Setting it raises ConfigurationError for another number.
        """
        return self._volume

    @volume.setter
    def volume(self, volume: float) -> None:
        number = isinstance(volume, int | float) and not isinstance(volume, bool)
        if not (number and 0 <= volume <= 1):  # not true of NaN
            raise ConfigurationError(f"volume is {volume!r}: it lies between 0 and 1")
        self._volume = float(volume)

    @property
    def paused(self) -> bool:
        """True while a pause lasts."""
        return self._hold is not None and self._hold.out

    def pause(self) -> bool:
        """Put the agent's speech on hold, without loss. Returns False if the agent does not have the floor.

        The pause ends by `resume`, by an interruption, by the end of the call, or after `MAX_PAUSE_S`.
        """
        if self._session.floor.owner != "agent" or self.paused:
            return False
        self._hold = self._session.floor.hold(OWNER, patience_s=MAX_PAUSE_S)
        return True

    def resume(self) -> bool:
        """Go on at the sample where the speech was paused. Returns False if it is not paused."""
        if self._hold is None or not self._hold.out:
            return False
        self._hold.release()
        return True

    def stop(self) -> bool:
        """End the answer in progress: it becomes what was heard of it. Returns False if nothing can be stopped.

        Protected speech is not stopped. `Session.interrupt` stops it, too.
        """
        if not may_interrupt(self._session):
            return False
        interrupt(self._session, "stopped")
        return True

    # -- replay ----------------------------------------------------------------------------------------------------

    @property
    def replay_s(self) -> float:
        """The seconds of the last answer that are kept for `replay`, 0 for none; of a longer one its end.

        A second takes 48 kB at 24 kHz. Setting it raises ConfigurationError for a number that is not in 0 to 600.
        """
        return self._kept.limit_s if self._kept is not None else 0.0

    @replay_s.setter
    def replay_s(self, replay_s: float) -> None:
        number = isinstance(replay_s, int | float) and not isinstance(replay_s, bool)
        if not (number and math.isfinite(replay_s) and 0 <= replay_s <= MAX_REPLAY_S):
            raise ConfigurationError(f"replay_s is {replay_s!r}: it lies between 0 and {MAX_REPLAY_S:g}")
        if self._kept is not None:
            self._kept.close()
        self._kept = _LastAnswer(self._session, float(replay_s)) if replay_s else None

    def replay(self) -> bool:
        """Play once more what the caller heard of the last answer. Returns False if they have heard none.

        It is not counted as heard once more, and the caller can interrupt it. Raises IllegalState if `replay_s` is 0,
        and while one of the two sides has the word.
        """
        session, kept = self._session, self._kept
        session.host.require_running("replay an answer")
        if kept is None:
            raise IllegalState("nothing is kept for a replay: set replay_s")
        if session.floor.owner == "agent" or session.floor.caller_speaking:
            raise IllegalState("an answer is replayed once both sides are silent")
        pieces = kept.take_all()
        if not pieces:
            return False
        turn = kept.replayed = session.floor.begin()
        session.host.start_task(session.pipeline, self._play(turn, pieces))
        return True

    async def _play(self, turn: int, pieces: list[tuple[bytes, int]]) -> None:
        floor = self._session.floor
        with floor.scope(turn):
            for pcm, rate in pieces:
                await self._session.host.send(BotAudio(audio=pcm, sample_rate=rate, turn=turn))
        floor.finish(turn)


enters(SpeechControls, "pause", "replay", "resume", "stop")


class _LastAnswer:
    """The audio of the answer that the caller has heard last."""

    def __init__(self, session: PlayedSession, limit_s: float) -> None:
        self.limit_s = limit_s
        self.replayed = -1
        """The turn of the latest replay, which is not kept itself."""
        self._turn = self._heard = -1
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._seconds = 0.0
        stops = session.host.session.audio.played.add(self._hear), session.host.bus.on(BotStartedSpeaking, self._begin)
        self._stops: tuple[Callable[[], None], ...] = stops

    def close(self) -> None:
        """Keep nothing any more."""
        for stop in self._stops:
            stop()

    def take_all(self) -> list[tuple[bytes, int]]:
        """Return the pieces, in order, joined to about a tenth of a second."""
        joined: list[tuple[bytes, int]] = []
        for pcm, rate in self._pieces:
            if joined and joined[-1][1] == rate and len(joined[-1][0]) < rate // 5:
                joined[-1] = joined[-1][0] + pcm, rate
            else:
                joined.append((pcm, rate))
        return joined

    def _begin(self, signal: BotStartedSpeaking) -> None:
        self._heard = signal.turn
        if signal.turn not in (self._turn, self.replayed):
            self._turn = signal.turn
            self._pieces.clear()
            self._seconds = 0.0

    def _hear(self, pcm: bytes, rate: int, at: float) -> None:
        if self._heard == self.replayed:
            return
        self._pieces.append((pcm, rate))
        self._seconds += len(pcm) / (2 * rate)
        while self._seconds > self.limit_s and len(self._pieces) > 1:
            dropped, its_rate = self._pieces.popleft()
            self._seconds -= len(dropped) / (2 * its_rate)
