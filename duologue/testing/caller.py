"""`SimulatedCaller`: a person on the phone, for tests and simulations."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..audio.pcm import BYTES_PER_SAMPLE, rms_dbfs
from ..audio.resample import Resampler
from ..errors import BadInput, ConfigurationError, DeadlineExceeded, IllegalState
from ..processors.kernel.threads import SYNTHESIS
from ..transports.memory import MemoryTransport
from ..transports.playout.pacer import PERIOD_S, Beat, Pacer

PIECES_PER_S = 50
LOUD_DBFS = -50.0
"""The lowest level at which the agent counts as audible."""
SHORT_PAUSE_S = 0.3
"""Silence up to this length, in seconds, is a part of speech."""
KEEP_PIECES = 3_600 * PIECES_PER_S
"""The number of pieces of 20 ms that are kept for `said` and `heard`: one hour."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the caller: its start and end in session time, and its text, if it has one."""

    start_s: float
    end_s: float
    text: str = ""


class _Ear:
    """The agent's audio as it arrives at the caller's ear. Times are the loop's."""

    def __init__(self, sample_rate: int) -> None:
        self.heard: deque[tuple[float, bytes]] = deque(maxlen=KEEP_PIECES)
        self.speech: tuple[float, float] | None = None
        """The latest stretch of the agent's speech, short pauses included."""
        self._sample_rate = sample_rate
        self._incoming: deque[tuple[float, bytes]] = deque()  # not heard yet

    def receive(self, pcm: bytes, at: float) -> None:
        """Take audio that will be heard from `at` on."""
        self._incoming.append((at, pcm))

    def hear(self, now: float) -> None:
        """Record the audio up to `now`."""
        while self._incoming:
            at, pcm = self._incoming[0]
            end = at + len(pcm) / (BYTES_PER_SAMPLE * self._sample_rate)
            if end > now + 1e-6:
                return
            self._incoming.popleft()
            self.heard.append((at, pcm))
            if _is_loud(pcm):
                goes_on = self.speech is not None and at - self.speech[1] < SHORT_PAUSE_S
                self.speech = (self.speech[0] if goes_on and self.speech else at, end)

    def drop(self, at: float) -> None:
        """Discard the audio that would have been heard after `at`."""
        self.hear(at)
        incoming = list(self._incoming)
        self._incoming.clear()
        for start, pcm in incoming:
            if kept := pcm[: BYTES_PER_SAMPLE * max(0, round((at - start) * self._sample_rate))]:
                self._incoming.append((start, kept))


class SimulatedCaller:
    """The far end of a `MemoryTransport`, which behaves as a person on the phone does.

    The microphone is open from the beginning to the end of the call: 20 ms of audio every 20 ms, with silence (or noise
    of `noise_dbfs`) between lines, so that detectors work as in a real call. The caller speaks with an espeak-ng voice
    (`voice`, `rate_wpm`, `pitch`; needs the `local` extra) and judges the agent by its audio alone. Create it inside
    the event loop; lines from before the session runs are kept for the session. Times are session times in seconds.

    To interrupt: `await caller.wait_for_agent_to_start()`, `await caller.silence(0.8)`, `await caller.say("Stop!")`.

    When the call ends, by `hang_up` or by the agent, the microphone closes, and waits for things that can no longer
    happen raise IllegalState.
    """

    def __init__(
        self,
        transport: MemoryTransport,
        voice: str = "en-us+f2",
        *,
        rate_wpm: int = 175,
        pitch: int = 50,
        noise_dbfs: float | None = None,
        seed: int = 0,
    ) -> None:
        if noise_dbfs is not None and not -90 <= noise_dbfs <= -20:
            raise ConfigurationError(f"noise_dbfs is {noise_dbfs!r}: it lies between -90 and -20")
        self.transport = transport
        self.sample_rate = transport.sample_rate
        self.lines: list[Line] = []
        self._said: deque[tuple[float, bytes]] = deque(maxlen=KEEP_PIECES)  # times in here are the loop's
        self._ear = _Ear(self.sample_rate)
        self._voice, self._rate_wpm, self._pitch = voice, rate_wpm, pitch
        self._piece = BYTES_PER_SAMPLE * (self.sample_rate // PIECES_PER_S)
        self._noise = _noise(noise_dbfs, self.sample_rate, seed) if noise_dbfs is not None else bytes(self._piece)
        self._noise_at = 0
        self._line = bytearray()  # audio that is still to be sent
        self._queued = self._sent = self._sent_before = 0  # bytes of lines since the beginning
        self._pieces = 0
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._voices: dict[str, bytes] = {}
        transport.on_audio(lambda pcm, at: self._ear.receive(pcm, at + self._offset()))
        transport.on_clear(lambda at: self._ear.drop(at + self._offset()))
        transport.on_end(self._end)
        self._loop = asyncio.get_running_loop()
        self._began = 0.0  # when the first piece was spoken
        self._beat: Beat | None = Pacer.get().every_20ms(self._pass_20ms, self._loop.time() + PERIOD_S)

    # -- speaking and listening ------------------------------------------------------------------------------------

    async def say(self, text: str) -> Line:
        """Speak. Returns when the last sample has been sent. Raises BadInput for a text without words."""
        pcm = self._voices.get(text)
        if pcm is None:
            pcm = await SYNTHESIS.run(self._synthesize, text)
            if len(self._voices) < 100:
                self._voices[text] = pcm
        return await self.play(pcm, self.sample_rate, text)

    async def play(self, pcm: bytes, sample_rate: int, text: str = "") -> Line:
        """Send a recording: s16le mono at any rate. Returns when the last sample has been sent."""
        if not pcm:
            raise BadInput("an empty recording: there is nothing to play")
        if sample_rate != self.sample_rate:
            converter = Resampler(sample_rate, self.sample_rate)
            pcm = converter.process(pcm) + converter.flush()
        self._line += pcm
        self._queued += len(pcm)
        begin, end = self._queued - len(pcm), self._queued
        start = 0.0

        def begun() -> bool:
            nonlocal start
            start = self._piece_at() + (begin - self._sent_before) / (BYTES_PER_SAMPLE * self.sample_rate)
            return self._sent > begin

        await self._until(begun)
        await self._until(lambda: self._sent >= end)
        start_s = start - self._offset()
        line = Line(start_s, start_s + len(pcm) / (BYTES_PER_SAMPLE * self.sample_rate), text)
        self.lines.append(line)
        return line

    async def silence(self, seconds: float) -> None:
        """Say nothing for a while, or until the agent hangs up. The microphone stays open."""
        until = self._loop.time() + seconds
        await self._until(lambda: self._beat is None or self._loop.time() >= until - 1e-6)

    async def wait_for_agent_to_start(self, timeout_s: float = 30.0) -> float:
        """Wait until the agent speaks, if it does not already. Returns the session time at which it began.

        Raises DeadlineExceeded after `timeout_s` seconds.
        """
        await self._until(self._agent_speaks, timeout_s, "the agent did not start to speak")
        assert self._ear.speech is not None
        return self._ear.speech[0] - self._offset()

    async def listen(self, timeout_s: float = 30.0, pause_s: float = 0.8) -> bytes:
        """Wait until the agent has spoken and then been silent for `pause_s`. Returns the agent's audio meanwhile.

        The end of the call counts as silence; speech that had ended before does not count. Raises DeadlineExceeded
        after `timeout_s` seconds.
        """
        began = self._loop.time()

        def finished() -> bool:
            speech = self._ear.speech
            if speech is None or speech[1] <= began:
                return False
            return self._beat is None or self._loop.time() - speech[1] >= pause_s

        await self._until(finished, timeout_s, "the agent did not speak and fall silent")
        return b"".join(pcm for at, pcm in self._ear.heard if at >= began)

    def hang_up(self, reason: str = "caller hung up") -> None:
        """End the call."""
        self.transport.hang_up(reason)
        self._end()

    # -- the record ------------------------------------------------------------------------------------------------

    @property
    def said(self) -> list[tuple[float, bytes]]:
        """The microphone's audio as `(at, pcm)` in pieces of 20 ms: the last hour."""
        offset = self._offset()
        return [(at - offset, pcm) for at, pcm in self._said]

    @property
    def heard(self) -> list[tuple[float, bytes]]:
        """The agent's audio that was heard, as `(at, pcm)`: the last hour, without audio that an interruption cut."""
        offset = self._offset()
        return [(at - offset, pcm) for at, pcm in self._ear.heard]

    @property
    def call_is_over(self) -> bool:
        """True once the caller has hung up or the agent's side has ended the call."""
        return self._beat is None

    def now(self) -> float:
        """Return the session time, 0 before the session runs."""
        return self.transport.now()

    def _offset(self) -> float:
        """Return loop time minus session time."""
        return self._loop.time() - self.transport.now()

    def agent_silent_between(self, start_s: float, end_s: float) -> bool:
        """Return True if the agent was silent in this stretch of time, as far as it has passed."""
        return not any(_is_loud(part) for part in self._parts(start_s, end_s))

    def heard_between(self, start_s: float, end_s: float) -> bytes:
        """Return the agent's audio in this stretch of time. Stretches without any audio are left out."""
        return b"".join(self._parts(start_s, end_s))

    def _parts(self, start_s: float, end_s: float) -> list[bytes]:
        parts = []
        for at, pcm in self.heard:
            first = max(0, round((start_s - at) * self.sample_rate))
            last = max(0, round((end_s - at) * self.sample_rate))
            if part := pcm[BYTES_PER_SAMPLE * first : BYTES_PER_SAMPLE * last]:
                parts.append(part)
        return parts

    def _agent_speaks(self) -> bool:
        speech = self._ear.speech
        return speech is not None and self._loop.time() - speech[1] < SHORT_PAUSE_S

    # -- the telephone ---------------------------------------------------------------------------------------------

    def _piece_at(self) -> float:
        """Return the start of the latest piece. It is counted, and does not depend on the lateness of the loop."""
        return self._began + (self._pieces - 1) * PERIOD_S

    def _pass_20ms(self) -> None:
        now = self._loop.time()
        if not self._pieces:
            self._began = now - PERIOD_S
        self._pieces += 1
        self._ear.hear(now)
        piece = bytes(self._line[: self._piece])
        del self._line[: self._piece]
        self._sent_before = self._sent
        self._sent += len(piece)
        if len(piece) < self._piece:
            piece += self._background(self._piece - len(piece))
        self._said.append((self._piece_at(), piece))
        self.transport.send(piece)
        self._check_waits()

    def _check_waits(self) -> None:
        for wait in [wait for wait in self._waits if wait[0]()]:
            self._waits.remove(wait)
            if not wait[1].done():
                wait[1].set_result(None)

    def _background(self, size: int) -> bytes:
        if self._noise_at + size > len(self._noise):
            self._noise_at = 0
        self._noise_at += size
        return self._noise[self._noise_at - size : self._noise_at]

    def _end(self) -> None:
        """The call is over: close the microphone, and end all waits."""
        if self._beat is None:
            return
        self._beat.cancel()
        self._beat = None
        self._ear.hear(self._loop.time())
        self._check_waits()
        for _, future in self._waits:
            if not future.done():
                future.set_exception(IllegalState("the call is over"))
        self._waits.clear()

    async def _until(self, condition: Callable[[], bool], timeout_s: float = math.inf, failure: str = "") -> None:
        if self._beat is None:
            raise IllegalState("the call is over")
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wait = condition, future
        self._waits.append(wait)
        try:
            async with asyncio.timeout(None if timeout_s == math.inf else timeout_s):
                await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"{failure} within {timeout_s} s") from error
        finally:
            if wait in self._waits:
                self._waits.remove(wait)

    def _synthesize(self, text: str) -> bytes:
        from ..services.local.synthesizer import ESPEAK_RATE, Synthesizer

        voice = Synthesizer(self._voice, rate_wpm=self._rate_wpm, pitch=self._pitch)
        pcm = b"".join(piece.audio for piece in voice.synthesize(text))
        if not pcm:
            raise BadInput(f"{text!r} has no words to say")
        converter = Resampler(ESPEAK_RATE, self.sample_rate)
        return converter.process(pcm) + converter.flush()


def _is_loud(pcm: bytes) -> bool:
    return rms_dbfs(pcm) >= LOUD_DBFS


def _noise(level_dbfs: float, sample_rate: int, seed: int) -> bytes:
    """Return ten seconds of white noise."""

    noise = np.random.default_rng(seed).normal(0, 32768 * 10 ** (level_dbfs / 20), 10 * sample_rate)
    made: bytes = np.clip(np.rint(noise), -32768, 32767).astype("<i2").tobytes()
    return made
