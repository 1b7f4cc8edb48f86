"""`Track`: pieces of audio at their places in time, as one channel."""

from __future__ import annotations

from collections import deque

from .pcm import BYTES_PER_SAMPLE
from .resample import Resampler

SEAM_S = 0.018
"""Audio continues the previous audio seamlessly if its time is at most this many seconds from the end of that.

Times that follow a clock and a timer of 20 ms jitter this much.
"""
DRIFT_S = 0.005
"""The most seconds by which the audio lies beside its times for longer: then it is moved."""
_SETTLING_S = 1.0  # of audio: the time constant of the mean distance


class Track:
    """One channel: pieces of mono s16le audio at their places, converted to `sample_rate`. The rest is silence.

    A piece whose place overlaps that of an earlier one loses the overlap. Pieces within `SEAM_S` of the end of the
    earlier one follow it without a seam; if they are early or late for longer, on average by more than `DRIFT_S`, the
    audio is moved by that. Audio is taken once, in order, by `render`.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._pieces: deque[tuple[int, bytes]] = deque()  # (first sample, audio)
        self.held = 0
        """Bytes of audio that were not rendered."""
        self._converter: Resampler | None = None
        self._source_rate = sample_rate
        self._next_at: float | None = None
        self._drift = 0.0  # how much later than `_next_at` the pieces come, on average
        self._written = 0
        self.end = 0
        """The sample after the last."""
        self.late = 0
        """Samples that came after their place had been rendered."""

    def add(self, pcm: bytes, sample_rate: int, at: float) -> None:
        """Place a piece with its first sample at `at` seconds."""
        seconds = len(pcm) / (BYTES_PER_SAMPLE * sample_rate)
        if self._next_at is not None and sample_rate == self._source_rate and abs(at - self._next_at) <= SEAM_S:
            self._drift += (at - self._next_at - self._drift) * min(1.0, seconds / _SETTLING_S)
            if abs(self._drift) <= DRIFT_S:
                self._next_at += seconds
                self._append(pcm if self._converter is None else self._converter.process(pcm))
                return
            at = self._next_at + self._drift
        pcm, at = self._begin(pcm, sample_rate, at)
        self._next_at = at + len(pcm) / (BYTES_PER_SAMPLE * sample_rate)
        self._append(pcm if self._converter is None else self._converter.process(pcm))

    def _begin(self, pcm: bytes, sample_rate: int, at: float) -> tuple[bytes, float]:
        """Begin a new stretch at `at`. Returns the audio to place and its time, without overlap with placed audio."""
        self.flush()
        start_s = self.end / self._sample_rate
        overlap_s = start_s - at
        if overlap_s > DRIFT_S - 1e-9:
            if at >= 0 and overlap_s > SEAM_S:  # audio from before the call does not count as late
                self.late += round(min(overlap_s, len(pcm) / (BYTES_PER_SAMPLE * sample_rate)) * self._sample_rate)
            pcm = pcm[BYTES_PER_SAMPLE * round(overlap_s * sample_rate) :]
        at = max(at, start_s)
        self.end = round(at * self._sample_rate)
        if sample_rate != self._source_rate:
            self._source_rate = sample_rate
            same = sample_rate == self._sample_rate
            self._converter = None if same else Resampler(sample_rate, self._sample_rate)
        return pcm, at

    def flush(self) -> None:
        """End the present stretch of audio."""
        if self._converter is not None:
            self._append(self._converter.flush())
        self._next_at, self._drift = None, 0.0

    def _append(self, pcm: bytes) -> None:
        if (missed := self._written - self.end) > 0:
            missed = min(missed, len(pcm) // BYTES_PER_SAMPLE)
            pcm = pcm[BYTES_PER_SAMPLE * missed :]
            self.end += missed
            self.late += missed
        if pcm:
            self._pieces.append((self.end, pcm))
            self.held += len(pcm)
            self.end += len(pcm) // BYTES_PER_SAMPLE

    def render(self, start: int, end: int) -> bytes:
        """Return the audio from sample `start` to `end`, silence included. Earlier audio is dropped."""
        self._written = end
        out = bytearray(BYTES_PER_SAMPLE * (end - start))
        while self._pieces and self._pieces[0][0] < end:
            place, pcm = self._pieces.popleft()
            fits = BYTES_PER_SAMPLE * (end - place)
            if len(pcm) > fits:
                self._pieces.appendleft((end, pcm[fits:]))
                pcm = pcm[:fits]
            self.held -= len(pcm)
            if place < start:
                pcm = pcm[BYTES_PER_SAMPLE * (start - place) :]
                place = start
            offset = BYTES_PER_SAMPLE * (place - start)
            out[offset : offset + len(pcm)] = pcm
        return bytes(out)

    def cut(self, at: float) -> None:
        """Take back the audio at `at` seconds or later that was not rendered: the next piece may be there."""
        self.flush()
        place = max(round(at * self._sample_rate), self._written)
        while self._pieces and self._pieces[-1][0] + len(self._pieces[-1][1]) // BYTES_PER_SAMPLE > place:
            start, pcm = self._pieces.pop()
            kept = pcm[: BYTES_PER_SAMPLE * max(0, place - start)]
            self.held -= len(pcm) - len(kept)
            if kept:
                self._pieces.append((start, kept))
        self.end = min(self.end, place)
