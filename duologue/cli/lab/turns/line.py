"""`Line`: the caller's end of a call. It has a microphone, an ear, and the echo of one in the other."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....transports.memory import MemoryTransport
from ....transports.playout.pacer import PERIOD_S, Pacer
from .rooms import Room

LOUD_DBFS = -50.0
"""The lowest level at which the agent counts as audible."""
STEP_S = 0.01
"""The resolution of what was audible."""
DRIVE = 2.0
"""How far a loudspeaker that gives back the agent's voice is driven into distortion."""
_GROWTH_S = 60


def audible(pcm: bytes, sample_rate: int) -> NDArray[np.bool_]:
    """Return True for each 10 ms of audio that is loud enough to be heard."""
    size = round(sample_rate * STEP_S)
    frames = np.frombuffer(pcm[: len(pcm) // (2 * size) * 2 * size], "<i2").reshape(-1, size).astype(np.float32)
    loud: NDArray[np.bool_] = np.sqrt((frames**2).mean(axis=1)) >= 32768 * 10 ** (LOUD_DBFS / 20)
    return loud


def _prepared(path: NDArray[np.float64], piece: int) -> tuple[int, int, Any]:
    """Return the delay of an echo's path and its length, in samples, and the transform of the rest of it."""
    delay = int(np.flatnonzero(path)[0])
    size = 1 << (len(path) - delay + piece).bit_length()
    return delay, len(path) - delay, np.fft.rfft(path[delay:], size)


class Line:
    """Sends 20 ms of the microphone every 20 ms, and keeps what the caller hears. Create it inside the event loop.

    With `echo_db` the agent's voice comes back into the microphone, by that much quieter (below 0). Times are session
    times in seconds.
    """

    def __init__(self, transport: MemoryTransport, room: Room, echo_db: float | None = None) -> None:
        self.sample_rate = transport.sample_rate
        self._transport = transport
        self._background = room.background()
        self._place = 0
        self._piece = 2 * round(self.sample_rate * PERIOD_S)
        self._waiting = b""
        self._begun: asyncio.Future[float] | None = None
        self._echo = None if echo_db is None else _prepared(room.echo_path(echo_db), self._piece // 2)
        self._heard: NDArray[np.int16] = np.zeros(0, np.int16)
        transport.on_audio(self._hear)
        transport.on_clear(self._drop)
        loop = asyncio.get_running_loop()
        self._beat = Pacer.get().every_20ms(self._send, loop.time() + PERIOD_S)

    async def say(self, pcm: bytes) -> float:
        """Send sound from the next piece on. Returns the time of its first sample."""
        self._waiting = pcm
        self._begun = asyncio.get_running_loop().create_future()
        return await self._begun

    def close(self) -> None:
        """Switch the microphone off."""
        self._beat.cancel()

    def audible(self, start_s: float, end_s: float) -> NDArray[np.bool_]:
        """Return True for each 10 ms from `start_s` on in which the agent was audible."""
        first, last = (round(at / STEP_S) * round(self.sample_rate * STEP_S) for at in (start_s, end_s))
        self._grow(last)
        return audible(self._heard[first:last].tobytes(), self.sample_rate)

    def _send(self) -> None:
        now, piece = self._transport.now(), self._piece
        if self._begun is not None:
            if not self._begun.done():
                self._begun.set_result(now - PERIOD_S)
            self._begun = None
        sent, self._waiting = self._waiting[:piece], self._waiting[piece:]
        if len(sent) < piece:
            missing = piece - len(sent)
            if self._place + missing > len(self._background):
                self._place = 0
            sent += self._background[self._place : self._place + missing]
            self._place += missing
        if self._echo is not None:
            sent = self._with_echo(sent, now, self._echo)
        self._transport.send(sent)

    def _with_echo(self, sent: bytes, now: float, echo: tuple[int, int, Any]) -> bytes:
        delay, taps, spectrum = echo
        end = round(now * self.sample_rate) - delay
        first = end - len(sent) // 2 - taps
        if first < 0:
            return sent
        size = 2 * (len(spectrum) - 1)
        self._grow(end)
        heard = self._heard[first:end]
        if not heard.any():
            return sent
        spoken = np.tanh(heard / 32768 * DRIVE) / DRIVE * 32768  # a small loudspeaker distorts
        echoed = np.fft.irfft(np.fft.rfft(spoken, size) * spectrum, size)[taps : taps + len(sent) // 2]
        mixed = np.frombuffer(sent, "<i2") + echoed
        return bytes(np.clip(np.rint(mixed), -32768, 32767).astype("<i2").tobytes())

    def _hear(self, pcm: bytes, at: float) -> None:
        first = max(0, round(at * self.sample_rate))
        samples = np.frombuffer(pcm, "<i2")
        self._grow(first + len(samples))
        self._heard[first : first + len(samples)] = samples

    def _drop(self, at: float) -> None:
        self._heard[max(0, round(at * self.sample_rate)) :] = 0

    def _grow(self, size: int) -> None:
        if size > len(self._heard):
            more = np.zeros(size - len(self._heard) + _GROWTH_S * self.sample_rate, np.int16)
            self._heard = np.concatenate((self._heard, more))
