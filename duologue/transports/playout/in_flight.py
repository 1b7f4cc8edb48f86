"""`InFlight`: audio between us and the caller's ear, written and not played yet."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from .queue import QueuedSpeech, Span

CONFIRM_S = 2.0
"""Audio that a transport with a position of its own has not confirmed this long after its time counts as not heard."""


class InFlight:
    """Keeps written audio until the far end has played it, and calls `played(speech, pcm, ago_s)` then.

    `position` returns how many samples the far end has played, or None if only the clock tells. Audio that `position`
    does not confirm within `CONFIRM_S` goes to `lost(speech, samples)`. All times are loop times in seconds.
    """

    def __init__(
        self,
        sample_rate: int,
        position: Callable[[], int | None],
        played: Callable[[QueuedSpeech | None, bytes, float], None],
        lost: Callable[[QueuedSpeech, int], None],
    ) -> None:
        self.spans: deque[Span] = deque()
        self._sample_rate = sample_rate
        self._position, self._on_played, self._on_lost = position, played, lost
        self._written = 0  # samples since the beginning, without those that were taken back
        self._played = 0  # how many of these were played
        self._base = 0  # `_written` when audio was last taken back: from there on `position` counts
        self._padding = 0  # samples of silence at the end of the written audio
        self._origin = -math.inf  # when the first sample would have been played, had there been no gap

    def ahead(self, now: float) -> int:
        """Samples that the far end has got and whose time has not come; 0 or less if it has nothing to play."""
        return self._written - self._clock(now) if self._origin > -math.inf else 0

    def _clock(self, now: float) -> int:
        return int((now - self._origin) * self._sample_rate + 1e-3)

    @property
    def dry_at(self) -> float:
        """When all written audio will have been played; minus infinity if nothing was ever written."""
        return self._origin + (self._written - 1e-3) / self._sample_rate

    @property
    def speech_ends_at(self) -> float:
        """As `dry_at`, without the silence at the end."""
        return self._origin + (self._written - self._padding) / self._sample_rate

    def begin_anew(self, now: float, samples: int) -> None:
        """The far end had nothing to play: it plays the last `samples` that were written from now on."""
        self._origin = now - (self._written - samples) / self._sample_rate

    def put(self, spans: list[Span], samples: int) -> None:
        """These spans were written, `samples` in all."""
        self.spans.extend(spans)
        self._written += samples
        speech, pcm = spans[-1]
        self._padding = 0 if speech is not None else len(pcm) >> 1

    def advance(self, now: float, *, exact: bool = False) -> None:
        """Report the audio that has been played by now: whole spans, or to the sample if `exact`."""
        if not self.spans:
            return
        known = clock = self._clock(now)
        position = self._position()
        if position is not None:
            known = self._base + position
            self._write_off(known, clock - int(CONFIRM_S * self._sample_rate))
        self._credit(known, min(known, self._written), exact)

    def _credit(self, known: int, target: int, exact: bool) -> None:
        """Everything up to sample `target` is played, or surely will be; sample `known` is being played now."""
        spans = self.spans
        while spans:
            speech, pcm = spans[0]
            start, count = self._played, len(pcm) >> 1
            if start + count > target:
                if not exact or target <= start:
                    return
                count = target - start
                spans[0] = speech, pcm[2 * count :]
                pcm = pcm[: 2 * count]
            else:
                spans.popleft()
            self._played += count
            self._on_played(speech, pcm, (known - start) / self._sample_rate)

    def _write_off(self, known: int, limit: int) -> None:
        """Audio that should have been played by sample `limit` and was not confirmed is lost."""
        spans = self.spans
        while spans:
            speech, pcm = spans[0]
            count = len(pcm) >> 1
            if self._played + count > limit or known >= self._played + count:
                return
            spans.popleft()
            self._played += count
            if speech is not None:
                self._on_lost(speech, count)

    def take_back(self, now: float, kept: int | None) -> list[Span]:
        """The far end discarded unplayed audio. Returns that audio.

        `kept`: samples that it played, or will play, since the previous discard; None for what `advance` found.
        """
        if kept is not None and self.spans:
            self._credit(self._clock(now), min(self._base + kept, self._written), exact=True)
        dropped = list(self.spans)
        self.spans.clear()
        self._written = self._base = self._played
        self._padding = 0
        self.begin_anew(now, 0)
        return dropped
