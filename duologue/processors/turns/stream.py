"""`AudioFollower`: a processor that follows the time of the caller's audio, and knows when no more comes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable

import msgspec

from ...frames import UserAudio
from ..processor import Processor

STALL_S = 0.5
"""Seconds without audio that count as silence: the caller is muted, or the network failed."""
_ROUNDING_S = 1e-6


class StreamTime:
    """The session time of a stream of audio: each piece's `at`, but not before the end of the previous piece."""

    __slots__ = ("end_s",)

    def __init__(self) -> None:
        self.end_s = -math.inf  # times before the start of the session are negative
        """The session time at which the latest piece ends."""

    def start_of(self, frame: UserAudio) -> float:
        """Return the session time at which the next piece starts."""
        start = frame.at if frame.at > self.end_s else self.end_s
        self.end_s = start + len(frame.audio) / (2 * frame.channels * frame.sample_rate)
        return start

    def take(self, frame: UserAudio, due_at: float) -> bool:
        """Return True if the next piece ends before a session time; if it does not, it is not taken yet."""
        start = frame.at if frame.at > self.end_s else self.end_s
        end = start + len(frame.audio) / (2 * frame.channels * frame.sample_rate)
        if due_at <= end:
            return False
        self.end_s = end
        return True


def split(frame: UserAudio, samples: int) -> tuple[UserAudio, UserAudio]:
    """Cut a piece of audio in two. The first part has `samples` samples."""
    cut = 2 * frame.channels * samples
    at = frame.at + samples / frame.sample_rate
    replace = msgspec.structs.replace
    return replace(frame, audio=frame.audio[:cut]), replace(frame, audio=frame.audio[cut:], at=at)


class AudioFollower(Processor):
    """Subclasses set `_arrived_at` for each piece, and call `_attend` when it matters that more audio comes."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._time = StreamTime()
        self._timer: asyncio.TimerHandle | None = None
        self._arrived_at: float | None = None  # loop time of the latest piece; None while one is being passed on

    async def open(self) -> None:
        """Take the clock."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    async def _arrives(self, passed: Awaitable[None]) -> None:
        await passed
        self._arrived_at = self._loop.time()

    def _attend(self, after_s: float = 0.0) -> None:
        """Ask `_left_s` from now on, or after some seconds, until it is None, and call `_fall_silent` at 0."""
        if self._timer is None:
            self._timer = self._loop.call_later(after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        left_s = self._left_s(0.0 if self._arrived_at is None else self._loop.time() - self._arrived_at)
        if left_s is None:
            return
        if left_s > _ROUNDING_S:
            self._attend(min(left_s, STALL_S))  # words may shorten the silence
        else:
            self.spawn(self._fall_silent)

    def _left_s(self, idle_s: float) -> float | None:
        """Return the seconds after which to act if no more audio comes, after `idle_s` without any; None for never."""
        raise NotImplementedError

    async def _fall_silent(self) -> None:
        """Act as if the caller had fallen silent."""
        raise NotImplementedError
