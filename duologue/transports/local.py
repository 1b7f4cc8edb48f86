"""`LocalAudioTransport`: this machine's microphone and loudspeaker."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, NamedTuple

from ..errors import ConfigurationError, MissingExtra
from .base import TransportInput, TransportOutput
from .playout.base import CHUNK_MS, CHUNKS_PER_S, PlayoutSettings, check_chunk_rate

Device = int | str | None

MAX_CAPTURED = 3_000
"""Blocks of 20 ms that wait while the event loop is blocked. Beyond that the oldest blocks are dropped."""


class LocalAudioTransport:
    """A call with the person at this machine. Needs the `audio` extra, and on Linux also PortAudio.

    A device is a number or (part of) a name from `python -m sounddevice`; None is the system's default. Audio both ways
    is mono at `sample_rate`. It does not cancel echoes: use a headset, or the agent hears itself.

    The sound card's clock measures how much was heard. Raises MissingExtra without sounddevice, and ConfigurationError
    without PortAudio, for an unknown device, and for a rate that the device does not support.
    """

    def __init__(
        self,
        input_device: Device = None,
        output_device: Device = None,
        sample_rate: int = 16_000,
        *,
        settings: PlayoutSettings | None = None,
    ) -> None:
        check_chunk_rate(sample_rate)
        sounddevice = _sounddevice()
        _check_device(sounddevice, "input", input_device, sample_rate)
        _check_device(sounddevice, "output", output_device, sample_rate)
        self._input = _Microphone(sounddevice, input_device, sample_rate)
        self._output = _Loudspeaker(sounddevice, output_device, sample_rate, settings)

    def input(self) -> TransportInput:
        """The head of the pipeline: the microphone."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline: the loudspeaker."""
        return self._output


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtra("sounddevice", "audio") from error
    except OSError as error:
        raise ConfigurationError(
            f"{error}: install PortAudio, for example with `apt install libportaudio2` or `brew install portaudio`"
        ) from error
    return sounddevice


def _check_device(sounddevice: Any, kind: str, device: Device, sample_rate: int) -> None:
    check = sounddevice.check_input_settings if kind == "input" else sounddevice.check_output_settings
    try:
        check(device=device, channels=1, dtype="int16", samplerate=sample_rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _no_device(sounddevice, kind, device, sample_rate, error) from error


def _no_device(
    sounddevice: Any, kind: str, device: Device, sample_rate: int, error: BaseException
) -> ConfigurationError:
    wanted = "the default" if device is None else repr(device)
    try:
        found = [d["name"] for d in sounddevice.query_devices() if d[f"max_{kind}_channels"] > 0]
    except sounddevice.PortAudioError:
        found = []
    there = f"there are: {', '.join(found)}" if found else f"this machine has no audio {kind} at all"
    return ConfigurationError(f"audio {kind} {wanted} cannot be used at {sample_rate} Hz ({error}); {there}")


class _Microphone(TransportInput):
    """The microphone. Its callback runs in a thread of PortAudio."""

    def __init__(self, sounddevice: Any, device: Device, sample_rate: int) -> None:
        super().__init__()
        self._sounddevice, self._device, self._sample_rate = sounddevice, device, sample_rate
        # Appending and popping at the ends of a deque need no lock.
        self._captured: deque[bytes] = deque(maxlen=MAX_CAPTURED)
        self._called = False
        self._stream: Any = None

    @property
    def name(self) -> str:
        return "LocalAudioTransport"

    async def open(self) -> None:
        """Start the microphone."""
        await super().open()
        self._loop = asyncio.get_running_loop()
        try:
            self._stream = self._sounddevice.RawInputStream(
                samplerate=self._sample_rate,
                blocksize=self._sample_rate // CHUNKS_PER_S,
                device=self._device,
                channels=1,
                dtype="int16",
                callback=self._capture,
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise _no_device(self._sounddevice, "input", self._device, self._sample_rate, error) from error

    def _capture(self, data: Any, frames: int, time: Any, status: Any) -> None:
        self._captured.append(bytes(data))
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._called = False
        while self._captured:
            self.feed(self._captured.popleft(), self._sample_rate)

    async def close(self) -> None:
        """Stop the microphone."""
        if self._stream is not None:
            self._stream.abort()
            self._stream.close()
            self._stream = None


class _Block(NamedTuple):
    """The latest audio of the sound card: samples `start` to `end` since the last clear, heard from `heard_at` on."""

    generation: int
    start: int
    end: int
    heard_at: float


class _Loudspeaker(TransportOutput):
    """The loudspeaker. Its callback, in a thread of PortAudio, takes audio from the ring, or silence.

    The ring is a deque, which needs no lock. It has room for the playout's lead and one second more; if the card stops
    taking audio, the oldest audio is dropped and counts as not heard. Each piece carries its position and a generation,
    which `clear` increments, so that a callback may run at the same time.
    """

    def __init__(self, sounddevice: Any, device: Device, sample_rate: int, settings: PlayoutSettings | None) -> None:
        super().__init__(sample_rate, settings)
        self._sounddevice, self._device = sounddevice, device
        most = int(self.settings.lead_ms / CHUNK_MS) + CHUNKS_PER_S  # a second more than the playout fills
        self._ring: deque[tuple[int, int, bytes]] = deque(maxlen=most)  # generation, first sample, audio
        self._generation = 0
        self._written = 0
        self._block = _Block(0, 0, 0, 0.0)
        self._stream: Any = None

    @property
    def name(self) -> str:
        return "LocalAudioTransport"

    async def open(self) -> None:
        """Start the loudspeaker."""
        await super().open()
        try:
            self._stream = self._sounddevice.RawOutputStream(
                samplerate=self.sample_rate,
                blocksize=0,
                device=self._device,
                channels=1,
                dtype="int16",
                latency="low",
                callback=self._fill,
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise _no_device(self._sounddevice, "output", self._device, self.sample_rate, error) from error

    def write(self, chunk: bytes) -> None:
        self._ring.append((self._generation, self._written, chunk))
        self._written += len(chunk) // 2

    def _fill(self, out: Any, frames: int, time: Any, status: Any) -> None:
        filled, size, ring = 0, 2 * frames, self._ring
        while filled < size:
            try:
                generation, place, pcm = ring.popleft()
            except IndexError:
                break
            if generation != self._generation:
                continue
            part = pcm[: size - filled]
            out[filled : filled + len(part)] = part
            start, end = place, place + len(part) // 2
            # The first sample of this part is heard after the earlier samples of the block.
            heard_at = time.outputBufferDacTime + filled / (2 * self.sample_rate)
            if len(part) < len(pcm):
                ring.appendleft((generation, end, pcm[len(part) :]))
            self._block = _Block(generation, start, end, heard_at)
            filled += len(part)
        out[filled:size] = bytes(size - filled)

    def position(self) -> int:
        block = self._block
        if block.generation != self._generation or self._stream is None:
            return 0
        # The card plays without a gap up to this block: before it, count backwards in time.
        now = block.start + int((self._stream.time - block.heard_at) * self.sample_rate)
        return max(0, min(block.end, now))

    def clear(self) -> int:
        block, generation = self._block, self._generation
        self._generation += 1
        self._ring.clear()
        self._written = 0
        # The card plays all audio that it has.
        return block.end if block.generation == generation else 0

    async def close(self) -> None:
        """Stop the loudspeaker."""
        await super().close()
        if self._stream is not None:
            self._stream.abort()
            self._stream.close()
            self._stream = None
