"""`Playout`: paces the agent's audio for every transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from ...audio.pcm import downmix, fade_in, fade_out
from ...frames import BotAudio, BotPaused, BotResumed, ResponseEnded, ResponseStarted
from ...session.session import Session
from .base import CHUNKS_PER_S, AudioSink, PlayoutBase, PlayoutSettings, check_chunk_rate
from .in_flight import Account, InFlight
from .outside import beyond_boundary
from .pacer import PERIOD_S, Beat
from .queue import Intake, QueuedSpeech, SpeechQueue

PLENTY_S = 0.06
"""Seconds of audio: more than a chunk plus the audio that a converter keeps."""


class Playout(PlayoutBase):
    """Writes the agent's audio in chunks of 20 ms: the first at once, then at most `lead_ms` ahead of real time.

    Responses are played in the order in which their audio arrived and without gaps; the last chunk of each is filled
    up with the next one's audio, or with silence. While a hold is out (`Floor.hold`), nothing is written. An
    interruption empties the playout: see `fence`.

    Raises ConfigurationError for a rate of which 20 ms are not a whole number of samples.
    """

    def __init__(
        self,
        session: Session,
        sample_rate: int,
        sink: AudioSink,
        *,
        settings: PlayoutSettings,
        owner: str = "Playout",
    ) -> None:
        check_chunk_rate(sample_rate)
        self._rate = sample_rate
        self._session = session
        self._floor = session.floor
        self._ledger = session.ledger
        sink, self._pacer = beyond_boundary(session, sink)
        self._sink = sink
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._chunk = sample_rate // CHUNKS_PER_S  # samples
        self._fade_ms = settings.fade_ms
        self._fade_size = 2 * int(settings.fade_ms * sample_rate / 1000)  # bytes
        self._lead = int(settings.lead_ms * sample_rate / 1000)
        self._queue = SpeechQueue(sample_rate, self._chunk)
        self._intake = Intake(self._queue, settings.max_buffer_s, self._accept)
        self._account = Account(session, self._queue, sample_rate)
        self._in_flight = InFlight(sample_rate, sink.position, self._account.played, self._account.lost)
        self._beat: Beat | None = None
        self._rises = False  # the next chunk goes on in mid-speech, after a hold
        self._gone = False

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that are waiting to be written."""
        return self._queue.waiting_s

    # -- what the pipeline brings ----------------------------------------------------------------------------------

    def begin(self, frame: ResponseStarted) -> None:
        """Begin a response. Its audio follows."""
        if self._gone or frame.turn <= self._floor.fence:
            return
        if frame.response_id:
            self._ledger.open(frame.response_id, frame.turn, frame.agent)
        self._queue.find(frame.turn, frame.response_id).announced = True

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. Returns None, or an awaitable for a push that must wait for room.

        Raises BadInput for a rate that cannot be converted.
        """
        if self._gone or frame.turn <= self._floor.fence:
            return None
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        if not pcm:
            return None
        speech = self._queue.find(frame.turn, frame.response_id, frame.sample_rate)
        return self._intake.add(speech, pcm, frame.sample_rate)

    def _accept(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> None:
        # With this much audio in the queue, the beats write the response: more audio makes nothing due now.
        ahead = self._beat is not None and speech.sent_s - speech.written / self._rate > PLENTY_S
        self._queue.add(speech, pcm, sample_rate, self._loop.time())
        self._ledger.sent(speech.response_id, len(pcm) / (2 * sample_rate))
        if not ahead:
            self._kick()

    def end(self, frame: ResponseEnded) -> None:
        """Complete a response: all of its audio has come."""
        if self._gone or frame.turn <= self._floor.fence:
            self._ledger.finish(frame.response_id, interrupted=True)
            return
        speech = self._queue.find(frame.turn, frame.response_id)
        speech.ended, speech.status = True, frame.status
        if frame.status == "completed":
            self._ledger.all_sent(frame.response_id)
        if speech.done:
            self._account.finish(speech)
        self._kick()

    async def drain(self) -> None:
        """Wait until all responses have been heard or dropped."""
        while self._queue and not self._gone:
            await self._account.drained()

    # -- writing ---------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Write the audio that is due, and start the beats for the rest."""
        if self._gone or self._floor.held:
            return
        now = self._loop.time()
        self._pump(now)
        if not self._in_flight.spans:
            self._rest(now)
        audible = self._account.audible_turn is not None
        if self._beat is None and (self._in_flight.spans or self._queue.current is not None or audible):
            self._beat = self._pacer.every_20ms(self._tick, now + PERIOD_S)

    def _tick(self) -> None:
        try:
            now = self._loop.time()
            self._in_flight.advance(now)
            self._pump(now)
            if not self._in_flight.spans:
                self._rest(now)
        except Exception as error:  # of a listener of the log
            self._session.report(error, self._owner)

    def _pump(self, now: float) -> None:
        chunk, in_flight, queue, floor = self._chunk, self._in_flight, self._queue, self._floor
        while not floor.held:
            ahead = in_flight.ahead(now)
            if ahead + chunk > self._lead:
                return
            spans = queue.take_chunk(now, in_flight.dry_at)
            if not spans:
                if queue.current is None or not queue.current.done:
                    return
                self._account.finish(queue.current)
                continue
            in_flight.put(spans, chunk)
            if ahead <= 0:
                in_flight.begin_anew(now, chunk)
                self._stop_beat()
                self._beat = self._pacer.every_20ms(self._tick, now + PERIOD_S)
            self._write_chunk(spans[0][1] if len(spans) == 1 else b"".join(pcm for _, pcm in spans))
            if self._intake.waiting:
                self._intake.audio_left()
            if self._account.audible_turn is None:
                first = spans[0][0] or spans[-1][0]
                if first is not None and first in queue:  # not if the transport has interrupted meanwhile
                    self._account.started(first.turn)

    def _write_chunk(self, pcm: bytes) -> None:
        pcm, self._rises = fade_in(pcm, self._rate, self._fade_ms) if self._rises else pcm, False
        pcm = self._account.written(pcm, self._in_flight.dry_at)
        try:
            self._sink.write(pcm)
        except Exception as error:
            self._session.report(error, self._owner)
            self.stop()

    def _rest(self, now: float) -> None:
        """Decide if the agent still speaks, when everything that was written has been played."""
        if self._floor.held:
            self._stop_beat()
            return
        speech = self._queue.current
        if speech is not None and not speech.ended:
            if speech.waiting or not self._queue.is_quiet(speech, now, self._in_flight.dry_at):
                return
            if not speech.announced:  # a ResponseEnded does not follow
                speech.ended = True
                self._account.finish(speech)
        self._queue.current = None
        self._stop_beat()
        self._account.stopped(max(0.0, now - self._in_flight.speech_ends_at))

    def _stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    # -- holds and cuts --------------------------------------------------------------------------------------------

    def hold(self, owners: tuple[str, ...]) -> None:
        """Fall silent at once and without loss: the first hold begins. A fade ends the speech."""
        if self._gone:
            return
        turn, now = self._account.turn, self._loop.time()
        self._in_flight.advance(now, exact=True)
        self._fade(self._take_back(now))
        if not self._gone:
            self._session.broadcast(BotPaused(turn=turn, owners=owners))

    def resume(self, owners: tuple[str, ...]) -> None:
        """Go on at the sample where the speech stopped, with a fade: the last hold has ended."""
        if not self._gone:
            self._session.broadcast(BotResumed(turn=self._account.turn, owners=owners))
            self._kick()

    def fence(self) -> None:
        """Drop the stale audio, here and at the far end, and report what was played, to the sample: an interruption.

        The last chunk written is a fade of `fade_ms` from the place where the speech was cut.
        """
        if self._gone:
            return
        stale = [speech for speech in self._queue if speech.turn <= self._floor.fence]
        try:
            if stale or not self._queue:  # an empty queue too: the far end may be behind the clock
                self._cut(stale, fade=True)
            self._kick()
        except Exception as error:  # of a listener of the log
            self._session.report(error, self._owner)

    def stop(self) -> None:
        """Report what was played, drop the rest and write nothing more: the far end is gone, or the call ends."""
        if self._gone:
            return
        self._gone = True
        stale = list(self._queue)
        self._cut(stale, fade=False)
        for speech in stale:
            self._ledger.finish(speech.response_id, interrupted=True)

    def _cut(self, stale: list[QueuedSpeech], *, fade: bool) -> None:
        now = self._loop.time()
        self._in_flight.advance(now, exact=True)
        tail = self._take_back(now) if fade or self._in_flight.spans else b""
        for speech in stale:
            self._queue.remove(speech)
        if fade:
            self._fade(tail)
        self._rises = False
        if not self._in_flight.spans:
            self._stop_beat()
        if self._intake.waiting:
            self._intake.queue_cut()
        self._account.queue_shortened(gone=self._gone)
        self._account.stopped()

    def _take_back(self, now: float) -> bytes:
        """Make the far end drop the audio that it has not played, and queue it again. Returns its first few ms."""
        try:
            kept = self._sink.clear()
        except Exception as error:
            self._session.report(error, self._owner)
            kept = None
        audio = self._queue.put_back(self._in_flight.take_back(now, kept))
        return audio[: self._fade_size]

    def _fade(self, pcm: bytes) -> None:
        """Write the audio that would have come next, with a fade, so that the cut is less harsh."""
        if not pcm:
            return
        chunk = fade_out(pcm, self._rate, self._fade_ms).ljust(2 * self._chunk, b"\0")
        self._in_flight.put([(None, chunk)], self._chunk)
        self._write_chunk(chunk)
        self._rises = True
