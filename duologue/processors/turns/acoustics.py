"""`Acoustics`: tells the caller's speech over the agent from other sounds by sound alone; `SoundPolicy`: its limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..._arrays import Samples
from ...audio.features import FRAME_S, HOP_S, EchoSource, periodicity, reduced
from ...audio.vad import LatestAudio
from ...errors import ConfigurationError
from ...frames import BotStoppedSpeaking
from ...session.session import Session
from .echo_path import EchoPath

Sound = Literal["speech", "unclear", "noise", "aside", "echo"]
"""The caller's speech; a sound that may still turn out to be speech, or is none; a voice that is much quieter than the
caller's, such as a television; the agent's own voice."""
KEPT_S = 1.6
"""Seconds of the caller's audio that are kept while they speak, and as long after that."""
PRE_ROLL_S = 0.35
"""The same of a caller who is silent: the window, and the time in which a detector hears that speech has begun."""
WINDOW_S = 0.25
"""Seconds of sound that are judged: the latest."""
LATEST_ECHO_S = 0.6
"""The longest delay of an echo, in seconds: the line there and back, and the far end's buffer."""
_QUIETER_DB = 1.0  # speech that is this much below the caller's level is quieter than usual
_LOUDEST_S = 0.06  # the loudest moments of speech: this much of it
_FRAME_S = 0.02  # of which levels are measured
_LEAST_LEARNED_S = 0.3  # shorter speech says little about the caller's level
_QUIET, _LOUD = 0.2, 0.5  # how far the caller's level follows quieter and louder speech
_ECHO_PERIOD_S = 0.06  # an echo is looked for again after this time
_SOUGHT_S = 0.1  # an echo is likely to be looked for again within this time of the latest look at the sound
_PIECE_S = 0.02  # the usual length of a piece of audio
_LATEST_PIECE_S = 1.5 * _PIECE_S  # a search for an echo does not wait for this much of what the agent has just said
_LATE_S = 0.1  # so much later than `WINDOW_S` at most, frames that were not looked at still are
_FORGOTTEN_S = LATEST_ECHO_S + WINDOW_S + 0.1  # after its speech the agent has no echo left

_RANGES = {
    "voiced_ms": (0, 1_000),
    "periodicity": (0.0, 1.0),
    "unvoiced_ms": (0, 60_000),
    "aside_db": (0.0, 96.0),
    "echo": (0.0, 1.0),
    "soft_db": (0.0, 96.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundPolicy:
    """The conditions under which a sound counts as the caller's speech. ConfigurationError for a value out of range."""

    voiced_ms: int = 30
    """Milliseconds of periodic sound, within 1.5 times as many. Coughs, doors, breaths and keys have fewer."""
    periodicity: float = 0.6
    """The normalised autocorrelation, from 0 to 1, of a frame of periodic sound."""
    unvoiced_ms: int = 1500
    """Milliseconds after which other sound that the detector takes for speech counts as well: a whisper."""
    aside_db: float = 15.0
    """Decibels below the caller's own level until then, below which a voice is not the caller's. 0 turns this off."""
    echo: float = 0.4
    """The likeness, from 0 to 1, to what the agent has just said above which a voice is its echo. 0 turns this off.

    Once the delay and the level of the echo are known, half of it is enough at that delay and about that level.
    """
    soft_db: float = 6.5
    """Decibels below the loudest moments of the caller's earlier speech, below which speech is soft. 0 turns this off.

    Backchannels are softer than most speech with which people interrupt.
    """

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: it lies between {low:g} and {high:g}")


class Acoustics:
    """Listens to both sides of a call, and judges the latest sound of the caller when it is asked.

    Between the questions it only keeps references to the latest audio. All times are session times in seconds.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        """The level of the caller's speech until now, in dB below full scale; None before they have spoken."""
        self._loudest: float | None = None  # the same of its loudest moments
        self._echo_path = EchoPath()
        self._mic = LatestAudio()
        self._agent = LatestAudio(WINDOW_S + LATEST_ECHO_S)
        self._reference: EchoSource | None = None  # what the agent has said, made ready at a rate
        self._reference_hz = 0.0
        self._reference_end_s = -math.inf
        self._sought_s = -math.inf  # when the caller's sound was looked at for the last time
        self._forgetting: asyncio.TimerHandle | None = None
        self._analysed_s = -math.inf
        self._history = 0  # one bit for each recent frame, 1 if periodic; the lowest bit is the latest
        self._voiced_s = self._hinted_s = -math.inf  # when enough of them were, and half as many, for the last time
        self._echo_s = -math.inf  # when the sound was an echo for the last time
        self._stops: tuple[Callable[[], None], ...] = ()

    def listen(self, session: Session) -> None:
        """Listen to a call until `close`."""
        audio = session.audio
        self._mic = audio.ear
        self._mic.seconds, self._mic.more_s = PRE_ROLL_S, KEPT_S
        self._stops = audio.played.add(self._played), session.on(BotStoppedSpeaking, self._agent_stopped)

    def _played(self, pcm: bytes, sample_rate: int, at: float) -> None:
        if self._mic.rate:  # else there is no echo of it
            self._agent.add(pcm, sample_rate, at)
            heard_s = self._mic.end_s
            if heard_s - self._sought_s < _SOUGHT_S and heard_s - self._echo_s > _ECHO_PERIOD_S - 1.5 * _PIECE_S:
                # Not now: an interruption may be on its way, and itself tells of the audio that was played until then.
                asyncio.get_running_loop().call_soon(self._prepare_early)

    def _prepare_early(self) -> None:
        if self._reference_hz and self._sought_s > -math.inf and self._reference_end_s < self._agent.end_s:
            self._prepare(self._reference_hz)

    def _agent_stopped(self, signal: BotStoppedSpeaking) -> None:
        self._sought_s, self._reference = -math.inf, None
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._agent.rate:
            self._forgetting = asyncio.get_running_loop().call_later(_FORGOTTEN_S, self._forget, self._agent.end_s)

    def _forget(self, end_s: float) -> None:
        """Forget what the agent has said once it can have no echo."""
        self._forgetting = None
        if self._agent.end_s == end_s:
            self._agent.clear()
            self._reference = None

    def close(self) -> None:
        """Stop listening."""
        for stop in self._stops:
            stop()
        if self._forgetting is not None:
            self._forgetting.cancel()

    def judge(self, policy: SoundPolicy, spoken_s: float) -> Sound:
        """Return what the caller's latest sound is. The detector has heard speech for `spoken_s` seconds."""
        now = self._sought_s = self._mic.end_s
        if not self._mic.rate:
            return "speech"  # of a detector that gives no audio
        heard, rate = reduced(*self._mic.last(WINDOW_S))
        if policy.aside_db and self.level is not None and levels(heard, rate)[0] < self.level - policy.aside_db:
            return "aside"
        if policy.voiced_ms and spoken_s < policy.unvoiced_ms / 1000 and self._voiced_s < now - WINDOW_S:
            self._analyse(policy, now)
            if self._voiced_s < now - WINDOW_S:
                return "unclear"
        return "echo" if policy.echo and self._is_echo(policy, now, heard, rate) else "speech"

    def judge_tail(self, policy: SoundPolicy) -> Sound:
        """Return what the latest sound is after the agent has finished: its echo, or anything else."""
        now = self._sought_s = self._mic.end_s
        if not policy.echo or now - self._agent.end_s > LATEST_ECHO_S + WINDOW_S:
            return "speech"
        return "echo" if self._is_echo(policy, now, *reduced(*self._mic.last(WINDOW_S))) else "speech"

    def _analyse(self, policy: SoundPolicy, now: float) -> None:
        """Look for a voice in the frames since the latest analysis."""
        since, history = now - self._analysed_s, self._history
        if since > WINDOW_S + _LATE_S:
            since, history = WINDOW_S, 0
        self._analysed_s = now
        samples, rate = reduced(*self._mic.last(FRAME_S + since - HOP_S))
        frames = periodicity(samples, rate)
        enough = max(1, round(policy.voiced_ms / 1000 / HOP_S))
        window = (1 << (enough + enough // 2)) - 1
        for place, found in enumerate(frames.tolist(), 1):
            history = (history << 1 | (found >= policy.periodicity)) & window
            if 2 * history.bit_count() > enough:
                self._hinted_s = now - HOP_S * (len(frames) - place)
                if history.bit_count() >= enough:
                    self._voiced_s = self._hinted_s
        self._history = history

    def hints(self, since_s: float) -> bool:
        """Return True if there was half as much voice as counts as speech, since a time: words may tell."""
        return self._hinted_s >= since_s

    def _is_echo(self, policy: SoundPolicy, now: float, heard: Samples, rate: float) -> bool:
        since_s = now - self._agent.end_s
        if since_s > LATEST_ECHO_S + WINDOW_S:
            return False
        if now - self._echo_s < _ECHO_PERIOD_S - 1e-6:
            return True
        reference = self._reference
        late = self._agent.end_s - self._reference_end_s > _LATEST_PIECE_S
        if reference is None or late or rate != self._reference_hz:
            reference = self._prepare(rate)
        # The agent's latest sound is known a moment later. Nobody waits until it is made ready.
        since_s = now - self._reference_end_s
        silent_s = max(0.0, min(since_s, WINDOW_S))
        silence = round(silent_s * rate)
        alike, place = reference.likeness(heard, silence)
        if alike < policy.echo / 2:
            return False
        played = reference.samples
        room_s = max(0, len(played) + silence - len(heard) - place) / rate
        delay_s = since_s - silent_s + room_s
        import numpy as np

        loss_db = levels(np.pad(played, (0, silence)), rate)[0] - levels(heard, rate)[0]
        is_echo = self._echo_path.explains(alike, delay_s, loss_db, policy.echo)
        if is_echo:
            self._echo_s = now
        return is_echo

    def _prepare(self, rate: float) -> EchoSource:
        """Make what the agent has said ready, at the rate of the caller's reduced sound."""
        import numpy as np

        played, played_rate = reduced(*self._agent.last(WINDOW_S + LATEST_ECHO_S))
        if played_rate != rate:
            places = np.arange(int(len(played) * rate / played_rate)) * (played_rate / rate)
            played = np.interp(places, np.arange(len(played)), played).astype(np.float32)
        most, window = round((WINDOW_S + LATEST_ECHO_S) * rate), round(WINDOW_S * rate)
        if len(played) < most:
            played = np.concatenate([np.zeros(most - len(played), np.float32), played])
        self._reference, self._reference_hz = EchoSource(played, window, window), rate
        self._reference_end_s = self._agent.end_s
        return self._reference

    def learn(self, start_s: float, end_s: float) -> None:
        """Learn the caller's level from speech that was not said over the agent."""
        seconds = min(end_s - start_s, KEPT_S)
        if seconds < _LEAST_LEARNED_S:
            return
        level, loudest = self._levels(seconds, end_s)
        self.level, self._loudest = _followed(self.level, level), _followed(self._loudest, loudest)

    def is_soft(self, policy: SoundPolicy, start_s: float, end_s: float) -> bool:
        """Return True if no moment of the speech is as loud as the caller's earlier speech, as `soft_db` says."""
        if self._loudest is None or not policy.soft_db:
            return False
        return self._levels(end_s - start_s, end_s)[1] < self._loudest - policy.soft_db

    def is_quieter(self, start_s: float, end_s: float) -> bool:
        """Return True if the speech, as a whole, is quieter than the caller's earlier speech."""
        return self.level is not None and self._levels(end_s - start_s, end_s)[0] < self.level - _QUIETER_DB

    def _levels(self, seconds: float, end_s: float) -> tuple[float, float]:
        return levels(*reduced(*self._mic.last(seconds, before_s=max(0.0, self._mic.end_s - end_s))))


def levels(samples: Samples, rate: float) -> tuple[float, float]:
    """Return the level of the louder half of a sound, and that of its loudest moments, in dB below full scale."""
    import numpy as np

    size = round(rate * _FRAME_S)
    count = len(samples) // size if size else 0
    if not count:
        return -96.0, -96.0
    frames = samples[-count * size :].reshape(count, size)
    powers = sorted((np.matmul(frames[:, None, :], frames[:, :, None]).ravel() / size).tolist())
    half, loudest = powers[count // 2 :], powers[-round(_LOUDEST_S / _FRAME_S) :]
    return _decibels(sum(half) / len(half)), _decibels(sum(loudest) / len(loudest))


def _decibels(power: float) -> float:
    return max(-96.0, 10 * math.log10(power / 32768**2)) if power else -96.0


def _followed(known: float | None, latest: float) -> float:
    """Return a level that follows the latest one."""
    return latest if known is None else known + (_LOUD if latest > known else _QUIET) * (latest - known)
