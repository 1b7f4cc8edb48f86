"""`CallerLevel`: how loud the caller is, and which sounds are too quiet to be theirs while the agent speaks."""

from __future__ import annotations

from collections import deque

from ..errors import ConfigurationError

EXPECTED_DBFS = -26.0
"""The level of a caller who has not spoken yet: the nominal level of active speech of ITU-T P.56, -26 dBov."""
ECHO_TAIL_S = 0.3
"""Seconds after the agent's speech in which its echo may still arrive."""
_LEARNING_S = 3.0  # of speech: the time constant of the caller's level
_TRUST_S = 0.3  # of speech: the weight of the expected level
_RECENT_S = 0.4  # long enough to level out the loud parts of words in an echo


class CallerLevel:
    """Learns the level of the caller's speech while the agent is silent.

    While the agent speaks, and `ECHO_TAIL_S` after that, sound counts as the caller's only if the mean of its last
    0.4 s lies at most `below_db` below that level: the agent's own echo, a television and people further away are
    quieter. Until the caller has spoken, their level is taken to be `EXPECTED_DBFS`. All powers are mean squares of
    samples from -1 to 1, of audio frames that last `frame_s` seconds. Raises ConfigurationError for a `below_db`
    outside 0 to 60 dB.
    """

    def __init__(self, frame_s: float, below_db: float) -> None:
        if not 0 <= below_db <= 60:
            raise ConfigurationError(f"below_caller_db is {below_db!r}: it lies between 0 and 60")
        self._share = 10 ** (-below_db / 10)
        self._recent: deque[float] = deque(maxlen=max(1, round(_RECENT_S / frame_s)))
        self._tail = round(ECHO_TAIL_S / frame_s)
        self._longest, self._trusted = _LEARNING_S / frame_s, _TRUST_S / frame_s
        self._frames = self._trusted  # the weight of the level, in audio frames
        self.reset()

    @property
    def power(self) -> float:
        """The level of the caller's speech, as a power."""
        return self._power

    def agent_speaks(self, speaking: bool) -> None:
        """Take the news that the caller begins or ceases to hear the agent."""
        self._left = -1 if speaking else self._tail
        if speaking:
            self._recent.clear()

    def is_near(self, power: float) -> bool:
        """Take the power of the next audio frame. Returns False if the sound is too quiet to be the caller's."""
        self._recent.append(power)
        if not self._left:
            return True
        if self._left > 0:
            self._left -= 1
        return sum(self._recent) >= self._power * self._share * len(self._recent)

    def learn(self, power: float) -> None:
        """Take the power of an audio frame of speech. While the agent speaks it teaches nothing: it may be an echo."""
        if not self._left:
            self._frames = min(self._frames + 1, self._longest)
            self._power += (power - self._power) / self._frames

    def reset(self) -> None:
        """Forget the caller. The agent counts as silent."""
        self._power, self._frames = 10 ** (EXPECTED_DBFS / 10), self._trusted
        self._left = 0  # audio frames of the agent's speech that are left: -1 while it speaks, 0 if it is silent
        self._recent.clear()
