"""The agent's audio in flight to the caller (`InFlight`), and the account of it for the session (`Account`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ...audio.pcm import ramp
from ...frames import BotStartedSpeaking, BotStoppedSpeaking
from ...processors.kernel.tasks import Wake
from ...session.session import Session
from .queue import QueuedSpeech, Span, SpeechQueue

CONFIRM_S = 2.0
"""Seconds after its time in which the transport's position must confirm audio. Else it counts as not heard."""


class InFlight:
    """Keeps written audio until the far end has played it, then calls `played(speech, pcm, ago_s)`.

    `position` returns the number of samples that the far end has played, or None if only the clock is known. Audio
    that `position` does not confirm within `CONFIRM_S` goes to `lost(speech, samples)`. All times are loop
    times in seconds.
    """

    def __init__(
        self,
        sample_rate: int,
        position: Callable[[], int | None],
        played: Callable[[QueuedSpeech | None, bytes, float], None],
        lost: Callable[[QueuedSpeech, int], None],
    ) -> None:
        self.spans: list[Span] = []
        self._sample_rate = sample_rate
        self._position, self._on_played, self._on_lost = position, played, lost
        self._written = 0  # samples since the beginning, without samples that were taken back
        self._played = 0  # how many of these were played
        self._base = 0  # `_written` when audio was last taken back: `position` counts from there
        self._padding = 0  # samples of silence at the end of the written audio
        self._origin = -math.inf  # when the first sample would have been played without gaps

    def ahead(self, now: float) -> int:
        """Return the number of samples that the far end has still to play; 0 or less if there are none."""
        return self._written - self._clock(now) if self._origin > -math.inf else 0

    def _clock(self, now: float) -> int:
        return int((now - self._origin) * self._sample_rate + 1e-3)

    @property
    def dry_at(self) -> float:
        """The loop time at which all written audio will have been played; minus infinity before the first."""
        return self._origin + (self._written - 1e-3) / self._sample_rate

    @property
    def speech_ends_at(self) -> float:
        """The same as `dry_at`, without the silence at the end."""
        return self._origin + (self._written - self._padding) / self._sample_rate

    def begin_anew(self, now: float, samples: int) -> None:
        """Record that the far end had run dry: it plays the last `samples` that were written from now on."""
        self._origin = now - (self._written - samples) / self._sample_rate

    def put(self, spans: list[Span], samples: int) -> None:
        """Record that these spans were written, `samples` in all."""
        self.spans.extend(spans)
        self._written += samples
        speech, pcm = spans[-1]
        self._padding = 0 if speech is not None else len(pcm) >> 1

    def advance(self, now: float, *, exact: bool = False) -> None:
        """Report the audio that has been played: in whole spans, or to the sample if `exact`."""
        if not self.spans:
            return
        known = clock = self._clock(now)
        position = self._position()
        if position is not None:
            known = self._base + position
            self._write_off(known, clock - int(CONFIRM_S * self._sample_rate))
        self._credit(known, min(known, self._written), exact)

    def _credit(self, known: int, target: int, exact: bool) -> None:
        """Report audio as played up to sample `target`. Sample `known` is being played now."""
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
                spans.pop(0)
            self._played += count
            self._on_played(speech, pcm, (known - start) / self._sample_rate)

    def _write_off(self, known: int, limit: int) -> None:
        """Report audio up to sample `limit` as lost if it was not confirmed."""
        spans = self.spans
        while spans:
            speech, pcm = spans[0]
            count = len(pcm) >> 1
            if self._played + count > limit or known >= self._played + count:
                return
            spans.pop(0)
            self._played += count
            if speech is not None:
                self._on_lost(speech, count)

    def take_back(self, now: float, kept: int | None) -> list[Span]:
        """Take back the audio that the far end has dropped unplayed, and return it.

        `kept` is the number of samples since the previous call that it has played, or will play; None for the number
        that `advance` found.
        """
        if kept is not None and self.spans:
            self._credit(self._clock(now), min(self._base + kept, self._written), exact=True)
        dropped = list(self.spans)
        self.spans.clear()
        self._written = self._base = self._played
        self._padding = 0
        self.begin_anew(now, 0)
        return dropped


class Audible:
    """Announces when the caller begins and ceases to hear the agent."""

    def __init__(self, session: Session) -> None:
        self.audible_turn: int | None = None
        """The turn that the caller hears; None while they hear nothing."""
        self._session, self._floor = session, session.floor
        self._playback = session.playback
        self._volume = self._playback.volume  # of the latest sample

    @property
    def turn(self) -> int:
        """The turn that the caller hears, or the latest one."""
        return self._floor.turn if self.audible_turn is None else self.audible_turn

    def at_volume(self, pcm: bytes) -> bytes:
        """Return the next audio (s16le mono) with the volume of the playback, which changes within it."""
        volume, before = self._playback.volume, self._volume
        if volume == before == 1.0:
            return pcm
        self._volume = volume
        return ramp(pcm, before, volume)

    def started(self, turn: int) -> None:
        """Record that the caller begins to hear a turn."""
        self.audible_turn = turn
        self._floor.agent_speaking = True
        self._floor.touched()
        self._session.broadcast(BotStartedSpeaking(turn=turn, at=self._session.now()))

    def stopped(self, ago_s: float = 0.0) -> None:
        """Record that the caller has heard nothing for `ago_s` seconds."""
        if self.audible_turn is None:
            return
        turn, self.audible_turn = self.audible_turn, None
        self._floor.agent_speaking = False
        self._floor.touched()
        self._session.broadcast(BotStoppedSpeaking(turn=turn, at=self._session.now() - ago_s))


class Account(Audible):
    """Reports to the session the played audio of each response, and when the caller hears the agent."""

    def __init__(self, session: Session, queue: SpeechQueue, sample_rate: int) -> None:
        super().__init__(session)
        self._ledger = session.ledger
        self._queue, self._sample_rate = queue, sample_rate
        self._drains: list[Wake] = []

    def written(self, pcm: bytes, until: float) -> bytes:
        """Record that `pcm` is being written, which the far end will have played at loop time `until`.

        Returns it with the volume of the playback.
        """
        pcm = self.at_volume(pcm)
        if (written := self._session.audio.written).listeners:
            ahead_s = until - asyncio.get_running_loop().time() - len(pcm) / (2 * self._sample_rate)
            written.hear(pcm, self._sample_rate, self._session.now() + ahead_s)
        return pcm

    def played(self, speech: QueuedSpeech | None, pcm: bytes, ago_s: float) -> None:
        """Record that the far end began to play `pcm` `ago_s` seconds ago. `speech` is None for silence and fades."""
        if (heard := self._session.audio.played).listeners:
            heard.hear(pcm, self._sample_rate, self._session.now() - ago_s)
        if speech is None:
            return
        count = len(pcm) >> 1
        seconds = min(count / self._sample_rate, speech.sent_s - speech.played_s)
        speech.played += count
        speech.played_s += seconds
        self._ledger.played(speech.response_id, seconds)
        if self.audible_turn is not None and speech.turn != self.audible_turn:
            self.stopped()
            self.started(speech.turn)
        if speech.done:
            self.finish(speech)

    def lost(self, speech: QueuedSpeech, count: int) -> None:
        """Record that the far end will never play `count` samples."""
        speech.played += count
        speech.lost = True
        if speech.done:
            self.finish(speech)

    def finish(self, speech: QueuedSpeech) -> None:
        """Settle a response: all of it was played, or is lost."""
        if not self._queue.remove(speech):
            return
        if speech.played_s < speech.sent_s and not speech.lost:
            # The conversion has rounded the number of samples.
            self._ledger.played(speech.response_id, speech.sent_s - speech.played_s)
        self._ledger.finish(speech.response_id, interrupted=speech.lost or speech.status != "completed")
        self.queue_shortened()

    def queue_shortened(self, *, gone: bool = False) -> None:
        """Wake `drained` if the queue is empty or the far end has `gone`."""
        if not self._queue or gone:
            while self._drains:
                self._drains.pop().wake()

    async def drained(self) -> None:
        """Wait until the queue is empty, or the far end has gone."""
        drain = Wake()
        self._drains.append(drain)
        await drain.wait()
