"""`Playout`: paces the agent's audio for every transport, and accounts for what the caller has heard."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...audio.pcm import downmix, fade_out
from ...errors import ConfigurationError
from ...frames import (
    BotAudio,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    ResponseEnded,
    ResponseStarted,
    Signal,
)
from .in_flight import InFlight
from .pacer import PERIOD_S, Beat, Pacer
from .queue import QueuedSpeech, SpeechQueue

if TYPE_CHECKING:
    from ...session.session import Session

CHUNK_MS = 20
CHUNKS_PER_S = 1000 // CHUNK_MS
FADE_MS = 5.0
"""A cut in mid-speech ends with a fade of this length, so that it does not click."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutSettings:
    """How speech is played. Raises ConfigurationError for values that make no sense."""

    lead_ms: float = 80.0
    """How far ahead of real time audio is given to the transport: what the far end has against jitter."""
    max_buffer_s: float = 30.0
    """How much audio may wait; beyond that whoever pushes waits."""
    max_pause_s: float = 5.0
    """After so long, speech on hold goes on by itself."""

    def __post_init__(self) -> None:
        if not CHUNK_MS <= self.lead_ms <= 10_000:
            raise ConfigurationError(f"lead_ms is {self.lead_ms!r}: it lies between {CHUNK_MS} and 10000")
        for name in ("max_buffer_s", "max_pause_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} is {value!r}: it must be a positive number of seconds")


class Playout:
    """Sends the agent's audio in chunks of 20 ms: the first at once, then at most `lead_ms` ahead of real time.

    Responses are played in the order in which their audio arrived, without a gap where there is none to bridge, the
    last chunk of each filled up with the next one's audio or with silence. `write` gets the chunks (mono s16le at
    `sample_rate`). `clear` makes the far end drop what it has not played yet. `position` says how many samples have
    been heard of all that were written since the last `clear`; None means that the transport does not know, and that
    time tells. `clear` returns the same number, with what will be heard in spite of it, or None.

    An interruption empties it: see `fence`. Raises ConfigurationError for a rate of which 20 ms are no whole number of
    samples.
    """

    def __init__(
        self,
        session: Session,
        sample_rate: int,
        *,
        write: Callable[[bytes], None],
        clear: Callable[[], int | None],
        position: Callable[[], int | None],
        settings: PlayoutSettings,
        owner: str = "Playout",
    ) -> None:
        check_chunk_rate(sample_rate)
        self.sample_rate = sample_rate
        self.settings = settings
        self._session = session
        self._floor = session.floor
        self._ledger = session.ledger
        self._write, self._clear = write, clear
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer.get()
        self._chunk = sample_rate // CHUNKS_PER_S  # samples
        self._lead = int(settings.lead_ms * sample_rate / 1000)
        self._queue = SpeechQueue(sample_rate, self._chunk)
        self._line = InFlight(sample_rate, position, self._heard, self._lost)
        self._speaking: int | None = None  # the turn that the caller hears
        self._beat: Beat | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._gone = False
        self._no_room: deque[asyncio.Future[None]] = deque()
        self._drains: list[asyncio.Future[None]] = []

    # -- what the pipeline brings ----------------------------------------------------------------------------------

    @property
    def waiting_s(self) -> float:
        """How much audio waits to be sent, in seconds."""
        return self._queue.waiting_s

    @property
    def paused(self) -> bool:
        """Whether speech is on hold."""
        return self._pause is not None

    def begin(self, frame: ResponseStarted) -> None:
        """A response begins; its audio will come."""
        if self._gone or frame.turn <= self._floor.fence:
            return
        if frame.response_id:
            self._ledger.open(frame.response_id, frame.turn, frame.agent)
        self._queue.find(frame.turn, frame.response_id).announced = True

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. None if it was accepted; else await the result: there is no room for it yet.

        Raises BadInput for a rate that cannot be converted.
        """
        if self._gone or frame.turn <= self._floor.fence:
            return None
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        if not pcm:
            return None
        speech = self._queue.find(frame.turn, frame.response_id, frame.sample_rate)
        if self._no_room or not self._fits(len(pcm), frame.sample_rate):
            return self._add_slowly(speech, pcm, frame.sample_rate)
        self._accept(speech, pcm, frame.sample_rate)
        return None

    def end(self, frame: ResponseEnded) -> None:
        """All of a response has come."""
        if self._gone or frame.turn <= self._floor.fence:
            self._ledger.finish(frame.response_id, interrupted=True)
            return
        speech = self._queue.find(frame.turn, frame.response_id)
        speech.ended, speech.status = True, frame.status
        if frame.status == "completed":
            self._ledger.all_sent(frame.response_id)
        if speech.done:
            self._finish(speech)
        self._kick()

    async def drain(self) -> None:
        """Wait until all that was begun has been heard, or dropped."""
        while self._queue and not self._gone:
            self._drains.append(self._loop.create_future())
            await self._drains[-1]

    def _accept(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> None:
        self._queue.add(speech, pcm, sample_rate, self._loop.time())
        self._ledger.sent(speech.response_id, len(pcm) / (2 * sample_rate))
        self._kick()

    def _fits(self, size: int, sample_rate: int) -> bool:
        return self.waiting_s + size / (2 * sample_rate) <= self.settings.max_buffer_s

    async def _add_slowly(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> None:
        step = 2 * max(1, int(self._room_step_s * sample_rate))
        first = True
        # Whoever is no longer in the queue was interrupted meanwhile.
        while pcm and speech in self._queue:
            if (first and self._no_room) or not self._fits(min(len(pcm), step), sample_rate):
                await self._wait_for_room(first)
                first = False
                continue
            first = False
            size = max(step, 2 * int((self.settings.max_buffer_s - self.waiting_s) * sample_rate))
            self._accept(speech, pcm[:size], sample_rate)
            pcm = pcm[size:]
        self._make_room()

    async def _wait_for_room(self, first: bool) -> None:
        room: asyncio.Future[None] = self._loop.create_future()
        # First come, first served; who was served in part goes on before the others.
        (self._no_room.append if first else self._no_room.appendleft)(room)
        try:
            await room
        finally:
            if room in self._no_room:
                self._no_room.remove(room)

    @property
    def _room_step_s(self) -> float:
        return min(1.0, self.settings.max_buffer_s / 2)

    def _make_room(self) -> None:
        if self._no_room and self.waiting_s + self._room_step_s <= self.settings.max_buffer_s:
            _wake(self._no_room.popleft())

    # -- sending ---------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Send what may be sent now, and see to it that the rest is sent in time."""
        if self._pause is not None or self._gone:
            return
        now = self._loop.time()
        self._pump(now)
        if not self._line.spans:
            self._rest(now)
        if self._beat is None and (self._line.spans or self._queue.current is not None or self._speaking is not None):
            self._beat = self._pacer.every_20ms(self._tick, now + PERIOD_S)

    def _tick(self) -> None:
        try:
            now = self._loop.time()
            self._line.advance(now)
            self._pump(now)
            if not self._line.spans:
                self._rest(now)
        except Exception as error:  # of those who listen to the conversation
            self._session.report(error, self._owner)

    def _pump(self, now: float) -> None:
        chunk, line, queue = self._chunk, self._line, self._queue
        while self._pause is None:
            ahead = line.ahead(now)
            if ahead + chunk > self._lead:
                return
            spans = queue.take_chunk(now, line.dry_at)
            if not spans:
                if queue.current is None or not queue.current.done:
                    return
                self._finish(queue.current)
                continue
            line.put(spans, chunk)
            if ahead <= 0:
                line.begin_anew(now, chunk)
                self._stop_beat()
                self._beat = self._pacer.every_20ms(self._tick, now + PERIOD_S)
            self._send(spans[0][1] if len(spans) == 1 else b"".join(pcm for _, pcm in spans))
            if self._no_room:
                self._make_room()
            # Unless an interruption came from within the transport.
            first = spans[0][0] or spans[-1][0]
            if self._speaking is None and first is not None and first in queue:
                self._say_started(first.turn)

    def _send(self, pcm: bytes) -> None:
        try:
            self._write(pcm)
        except Exception as error:
            self._session.report(error, self._owner)
            self.stop()

    # -- what was heard --------------------------------------------------------------------------------------------

    def _heard(self, speech: QueuedSpeech | None, pcm: bytes, ago_s: float) -> None:
        """The caller began to hear this so long ago, and has heard it, or surely will."""
        if played := self._session.audio.played:
            played.hear(pcm, self.sample_rate, self._session.now() - ago_s)
        if speech is None:
            return
        count = len(pcm) >> 1
        seconds = min(count / self.sample_rate, speech.sent_s - speech.heard_s)
        speech.heard += count
        speech.heard_s += seconds
        self._ledger.played(speech.response_id, seconds)
        if self._speaking is not None and speech.turn != self._speaking:
            self._say_stopped(self._session.now())
            self._say_started(speech.turn)
        if speech.done:
            self._finish(speech)

    def _lost(self, speech: QueuedSpeech, count: int) -> None:
        """The caller has not heard this, and never will."""
        speech.heard += count
        speech.lost = True
        if speech.done:
            self._finish(speech)

    def _finish(self, speech: QueuedSpeech) -> None:
        """A response is over, and said."""
        if not self._queue.remove(speech):
            return
        if speech.heard_s < speech.sent_s and not speech.lost:
            # Audio that was converted is not the same whole number of samples as before.
            self._ledger.played(speech.response_id, speech.sent_s - speech.heard_s)
        self._ledger.finish(speech.response_id, interrupted=speech.lost or speech.status != "completed")
        self._check_drained()

    def _check_drained(self) -> None:
        if not self._queue or self._gone:
            while self._drains:
                _wake(self._drains.pop())

    def _rest(self, now: float) -> None:
        """Everything that was sent has been heard: does the agent still speak?"""
        if self._pause is not None:
            self._stop_beat()
            return
        speech = self._queue.current
        if speech is not None and not speech.ended:
            if speech.waiting or not self._queue.is_quiet(speech, now, self._line.dry_at):
                return
            if not speech.announced:  # nobody will say that it has ended
                speech.ended = True
                self._finish(speech)
        self._queue.current = None
        self._stop_beat()
        if self._speaking is not None:
            silent_s = max(0.0, now - self._line.speech_ends_at)
            self._say_stopped(self._session.now() - silent_s)

    def _stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _say_started(self, turn: int) -> None:
        self._speaking = turn
        self._floor.agent_speaking = True
        self._floor.touched()
        self._say(BotStartedSpeaking(turn=turn, at=self._session.now()))

    def _say_stopped(self, at: float) -> None:
        turn, self._speaking = self._speaking, None
        self._floor.agent_speaking = False
        self._floor.touched()
        self._say(BotStoppedSpeaking(turn=turn or 0, at=at))

    def _say(self, signal: Signal) -> None:
        self._session.broadcast(signal)

    # -- cutting ---------------------------------------------------------------------------------------------------

    def fence(self) -> None:
        """An interruption: drop all that is stale, here and at the far end, and fix what was heard to the sample.

        The last that leaves, before this returns, is a fade of `FADE_MS` from where the speech was cut.
        """
        if self._gone:
            return
        stale = [speech for speech in self._queue if speech.turn <= self._floor.fence]
        self._end_pause()
        try:
            if stale or not self._queue:  # the far end may be behind what time tells: it drops its rest in any case
                self._cut(stale, fade=True)
            self._kick()
        except Exception as error:  # of those who listen to the conversation
            self._session.report(error, self._owner)

    def stop(self) -> None:
        """The far end is gone, or the call ends: fix what was heard, drop the rest, and play nothing any more."""
        if self._gone:
            return
        self._gone = True
        self._end_pause()
        stale = list(self._queue)
        self._cut(stale, fade=False)
        for speech in stale:
            self._ledger.finish(speech.response_id, interrupted=True)

    def pause(self) -> None:
        """Hold the speech back: silence at once, and nothing is lost. Ends with `resume`, at the latest by itself."""
        if self._pause is not None or self._gone:
            return
        turn = self._floor.turn if self._speaking is None else self._speaking
        now = self._loop.time()
        self._line.advance(now, exact=True)
        self._pause = self._loop.call_later(self.settings.max_pause_s, self.resume)
        self._fade(self._take_back(now))
        if not self._gone:
            self._say(BotPaused(turn=turn))

    def resume(self) -> None:
        """Go on where `pause` stopped. Nothing happens if nothing is on hold."""
        if self._pause is None:
            return
        self._end_pause()
        self._say(BotResumed(turn=self._floor.turn if self._speaking is None else self._speaking))
        self._kick()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _cut(self, stale: list[QueuedSpeech], *, fade: bool) -> None:
        now = self._loop.time()
        self._line.advance(now, exact=True)
        tail = self._take_back(now) if fade or self._line.spans else b""
        for speech in stale:
            self._queue.remove(speech)
        if fade:
            self._fade(tail)
        if not self._line.spans:
            self._stop_beat()
        while self._no_room:
            _wake(self._no_room.popleft())
        self._check_drained()
        if self._speaking is not None:
            self._say_stopped(self._session.now())

    def _take_back(self, now: float) -> bytes:
        """Have the far end drop what it has not played, and queue it again. Returns the first few ms of it."""
        try:
            kept = self._clear()
        except Exception as error:
            self._session.report(error, self._owner)
            kept = None
        audio = self._queue.put_back(self._line.take_back(now, kept))
        return audio[: 2 * int(FADE_MS * self.sample_rate / 1000)]

    def _fade(self, pcm: bytes) -> None:
        """The cut sounds less harsh if what would have come next dies away."""
        if not pcm:
            return
        chunk = fade_out(pcm, self.sample_rate, FADE_MS).ljust(2 * self._chunk, b"\0")
        self._line.put([(None, chunk)], self._chunk)
        self._send(chunk)


def check_chunk_rate(sample_rate: int) -> None:
    """Refuse a rate of which 20 ms are no whole number of samples. Raises ConfigurationError."""
    if type(sample_rate) is not int or not 1 <= sample_rate <= 384_000 or sample_rate % CHUNKS_PER_S:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}: it must be a multiple of {CHUNKS_PER_S} Hz")


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
