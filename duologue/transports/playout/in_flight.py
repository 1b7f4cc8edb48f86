"""The audio between us and the caller's ear: sent, and not heard yet."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from .queue import QueuedSpeech, Span

CONFIRM_S = 2.0
"""What a transport with knowledge of its own has not confirmed this long after its time counts as not heard."""


class InFlight:
    """Keeps what was sent until it has been heard, and tells `heard(speech, pcm, ago_s)` when that is.

    Time tells how much has been heard, unless `position` knows better. What `position` does not confirm within
    `CONFIRM_S` is told to `lost(speech, samples)`.
    """

    def __init__(
        self,
        sample_rate: int,
        position: Callable[[], int | None],
        heard: Callable[[QueuedSpeech | None, bytes, float], None],
        lost: Callable[[QueuedSpeech, int], None],
    ) -> None:
        self.spans: deque[Span] = deque()
        self._sample_rate = sample_rate
        self._position, self._heard, self._lost = position, heard, lost
        self._sent = 0  # samples since the beginning, without those that were taken back
        self._played = 0  # how many of these were heard
        self._base = 0  # `_sent` when something was last taken back: from there on `position` counts
        self._padding = 0  # samples of silence at the end of what was sent
        self._origin = -math.inf  # loop time at which the first sample would have been heard, had there been no gap

    def ahead(self, now: float) -> int:
        """How many samples the far end has got whose time has not come; none or less if it has nothing to play."""
        return self._sent - self._clock(now) if self._origin > -math.inf else 0

    def _clock(self, now: float) -> int:
        return int((now - self._origin) * self._sample_rate + 1e-3)

    @property
    def dry_at(self) -> float:
        """Loop time at which all that was sent will have been played; minus infinity if nothing ever was."""
        return self._origin + (self._sent - 1e-3) / self._sample_rate

    @property
    def speech_ends_at(self) -> float:
        """The same without the silence at its end."""
        return self._origin + (self._sent - self._padding) / self._sample_rate

    def begin_anew(self, now: float, samples: int) -> None:
        """The far end had nothing to play: the last `samples` that were sent are heard from now on."""
        self._origin = now - (self._sent - samples) / self._sample_rate

    def put(self, spans: list[Span], samples: int) -> None:
        """These were sent, so many samples in all."""
        self.spans.extend(spans)
        self._sent += samples
        speech, pcm = spans[-1]
        self._padding = 0 if speech is not None else len(pcm) >> 1

    def advance(self, now: float, *, exact: bool = False) -> None:
        """Tell what has been heard by now: whole spans, or to the sample if `exact`."""
        if not self.spans:
            return
        known = clock = self._clock(now)
        position = self._position()
        if position is not None:
            known = self._base + position
            self._write_off(known, clock - int(CONFIRM_S * self._sample_rate))
        self._credit(known, min(known, self._sent), exact)

    def _credit(self, known: int, target: int, exact: bool) -> None:
        """Everything up to sample `target` has been heard, or surely will be; sample `known` is being heard now."""
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
            self._heard(speech, pcm, (known - start) / self._sample_rate)

    def _write_off(self, known: int, limit: int) -> None:
        """What should have been heard by sample `limit` and was not confirmed is lost."""
        spans = self.spans
        while spans:
            speech, pcm = spans[0]
            count = len(pcm) >> 1
            if self._played + count > limit or known >= self._played + count:
                return
            spans.popleft()
            self._played += count
            if speech is not None:
                self._lost(speech, count)

    def take_back(self, now: float, kept: int | None) -> list[Span]:
        """The far end has dropped what it had not played, but for `kept` samples since it did so last (None: as time
        or `position` tell). Returns what it dropped."""
        if kept is not None and self.spans:
            self._credit(self._clock(now), min(self._base + kept, self._sent), exact=True)
        dropped = list(self.spans)
        self.spans.clear()
        self._sent = self._base = self._played
        self._padding = 0
        self.begin_anew(now, 0)
        return dropped
