"""The agent's speech that waits to be written: the audio of a response, the queue of responses, and its intake."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from ...audio.resample import Resampler
from ...frames import ResponseStatus
from ...processors.kernel.tasks import Wake

REST_S = 0.03
"""Seconds for which less than a chunk waits for more audio, once the far end is dry, before it is written."""
HANGOVER_S = 0.5
"""Seconds without audio after which a response that has not ended no longer counts as speaking."""
CONVERT_HZ = 10
"""Pieces per second in which audio is converted to the transport's rate, shortly before it is written. That costs a
fifth of converting 20 ms pieces, is quick, and wastes little work on audio that an interruption drops."""


class QueuedSpeech:
    """The audio of one response. Takes audio of any rate and gives out mono PCM at `sample_rate`.

    `sent_s` seconds were added, `written` samples were given out, and `played` of these (`played_s` seconds) played.
    """

    __slots__ = (
        "_arriving",
        "_arriving_rate",
        "_converter",
        "_ready",
        "_sample_rate",
        "_source",
        "announced",
        "arrived_at",
        "ended",
        "lost",
        "played",
        "played_s",
        "response_id",
        "sent_s",
        "status",
        "turn",
        "written",
    )

    def __init__(self, turn: int, response_id: str, sample_rate: int, *, announced: bool = False) -> None:
        self.turn = turn
        self.response_id = response_id
        self.announced = announced
        """True if a ResponseStarted came. A ResponseEnded then follows."""
        self.ended = False
        self.status: ResponseStatus = "completed"
        self.sent_s = 0.0
        self.played_s = 0.0
        self.written = 0
        self.played = 0
        self.lost = False
        """True if some of it was written but never played."""
        self.arrived_at = -math.inf
        self._sample_rate = sample_rate
        self._ready = bytearray()
        # Audio that is not converted yet, with a buffer for each stretch of one rate.
        self._source: deque[tuple[bytearray, Resampler | None]] = deque()
        self._converter: Resampler | None = None
        self._arriving: Resampler | None = None
        self._arriving_rate = sample_rate

    def expect(self, sample_rate: int) -> None:
        """Prepare for audio of this rate. Raises BadInput for a rate that cannot be converted."""
        if sample_rate != self._arriving_rate:
            same = sample_rate == self._sample_rate
            self._arriving = None if same else Resampler(sample_rate, self._sample_rate)
            self._arriving_rate = sample_rate

    def add(self, pcm: bytes, sample_rate: int) -> None:
        """Add audio. Raises BadInput for a rate that cannot be converted."""
        self.expect(sample_rate)
        if self._arriving is None and self._converter is None and not self._source:
            self._ready += pcm
        elif self._source and self._source[-1][1] is self._arriving:
            self._source[-1][0].extend(pcm)
        else:
            self._source.append((bytearray(pcm), self._arriving))
        self.sent_s += len(pcm) / (2 * sample_rate)

    @property
    def waiting(self) -> bool:
        """True while there is audio that was not given out, even if the converter still keeps it."""
        return bool(self._ready or self._source or self._converter is not None)

    @property
    def done(self) -> bool:
        """True once the response has ended and all of it was played."""
        return self.ended and self.played == self.written and not self.waiting

    @property
    def held_back(self) -> int:
        """The maximum of bytes that the converter keeps until more audio comes."""
        return 2 * math.ceil(self._converter.latency_s * self._sample_rate + 1) if self._converter is not None else 0

    def prepare(self, size: int) -> int:
        """Convert up to `size` bytes for `take`. Returns the number of bytes that are ready."""
        ready = self._ready
        while len(ready) < size and self._source:
            pcm, converter = self._source[0]
            if converter is not self._converter:
                self.flush()
                self._converter = converter
            if converter is None:
                ready += pcm
                self._source.popleft()
                continue
            piece = 2 * max(1, converter.source_rate // CONVERT_HZ)
            ready += converter.process(bytes(pcm[:piece]))
            del pcm[:piece]
            if not pcm:
                self._source.popleft()
        if len(ready) < size and self.ended:
            self.flush()
        return len(ready)

    def flush(self) -> None:
        """Make the audio ready that the converter keeps. The next audio starts a new conversion."""
        if self._converter is not None:
            self._ready += self._converter.flush()
            self._converter = None

    def take(self, size: int) -> bytes:
        """Give out the next `size` bytes, which must be ready."""
        ready = self._ready
        pcm = bytes(ready[:size])
        del ready[:size]
        self.written += size >> 1
        return pcm

    def put_back(self, pcm: bytes) -> None:
        """Take back audio that was given out last and not played."""
        self._ready[:0] = pcm
        self.written -= len(pcm) >> 1


Span = tuple[QueuedSpeech | None, bytes]
"""Some samples of a response. Without a response they are silence or a fade."""


class SpeechQueue:
    """Responses in the order in which their first audio came.

    Gives out chunks of `chunk` samples. The last chunk of a response is filled up with the next response's audio.
    """

    def __init__(self, sample_rate: int, chunk: int) -> None:
        self.current: QueuedSpeech | None = None
        """The response that is being written."""
        self._sample_rate = sample_rate
        self._chunk = chunk
        self._queue: dict[tuple[int, str], QueuedSpeech] = {}
        self._waiting = 0.0  # samples

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[QueuedSpeech]:
        return iter(list(self._queue.values()))

    def __contains__(self, speech: QueuedSpeech) -> bool:
        return self._queue.get((speech.turn, speech.response_id)) is speech

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in the queue."""
        return max(0.0, self._waiting) / self._sample_rate

    def find(self, turn: int, response_id: str, sample_rate: int = 0) -> QueuedSpeech:
        """Return the response to which audio of `sample_rate` is added, a new one if necessary.

        Raises BadInput for a rate that cannot be converted, and then changes nothing.
        """
        key = turn, response_id
        speech = self._queue.get(key)
        if speech is None:
            speech = QueuedSpeech(turn, response_id, self._sample_rate)
            if sample_rate:
                speech.expect(sample_rate)
            self._queue[key] = speech
        return speech

    def add(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int, now: float) -> None:
        """Add audio of a response."""
        speech.add(pcm, sample_rate)
        if speech.arrived_at == -math.inf and len(self._queue) > 1:
            key = speech.turn, speech.response_id
            self._queue[key] = self._queue.pop(key)
        speech.arrived_at = now
        self._waiting += len(pcm) / (2 * sample_rate) * self._sample_rate

    def remove(self, speech: QueuedSpeech) -> bool:
        """Remove a response. Returns False if it is not in the queue."""
        if speech not in self:
            return False
        del self._queue[speech.turn, speech.response_id]
        self._waiting -= speech.sent_s * self._sample_rate - speech.written
        if not self._queue:
            self._waiting = 0.0
        if self.current is speech:
            self.current = None
        return True

    def put_back(self, spans: list[Span]) -> bytes:
        """Put back the spans that were given out last, to be played again. Returns their audio without silence."""
        audio = b""
        for speech, pcm in reversed(spans):
            if speech is not None:
                speech.put_back(pcm)
                self._waiting += len(pcm) >> 1
                self.current = speech
                audio = pcm + audio
        return audio

    def is_quiet(self, speech: QueuedSpeech, now: float, dry_at: float) -> bool:
        """Return True if the far end is dry and the response has given no audio for `HANGOVER_S`."""
        return now - max(speech.arrived_at, dry_at) >= HANGOVER_S - 1e-6

    def take_chunk(self, now: float, dry_at: float) -> list[Span]:
        """Return the next chunk, in one or more spans, or an empty list if there is nothing to write now.

        `dry_at` is the loop time at which the far end will have played all written audio.
        """
        size = 2 * self._chunk
        speech = self.current
        if speech is None or not speech.waiting:
            speech = self._next(now, dry_at)
            if speech is None:
                return []
        ready = speech.prepare(size)
        if ready >= size:
            self._waiting -= self._chunk
            return [(speech, speech.take(size))]
        dry = dry_at <= now
        if dry and not speech.ended and ready and size - ready <= speech.held_back:
            # The converter's delay comes first, as silence: else a piece of 20 ms would wait for the next piece.
            self._waiting -= ready >> 1
            return [(None, bytes(size - ready)), (speech, speech.take(ready))]
        if not speech.ended:
            if not dry or now - speech.arrived_at < REST_S:
                return []
            speech.flush()
        return self._gather(speech, now, dry_at)

    def _next(self, now: float, dry_at: float) -> QueuedSpeech | None:
        """Return the response to write next: the current one while it has audio, else the first that waits."""
        current = self.current
        if current is not None and (current.waiting or not (current.ended or self.is_quiet(current, now, dry_at))):
            return current if current.waiting else None
        for speech in self._queue.values():
            if speech.waiting:
                self.current = speech
                return speech
        return None

    def _gather(self, speech: QueuedSpeech | None, now: float, dry_at: float) -> list[Span]:
        """Return a chunk from the rest of a response, filled up with the responses after it, or with silence."""
        spans: list[Span] = []
        missing = 2 * self._chunk
        while missing and speech is not None:
            if size := min(missing, speech.prepare(missing)):
                spans.append((speech, speech.take(size)))
                self._waiting -= size >> 1
                missing -= size
            speech = self._next(now, dry_at) if speech.ended else None
        if missing and spans:
            spans.append((None, bytes(missing)))
        return spans


class Intake:
    """Adds audio to a queue of at most `max_s` seconds. Pushes wait for room, first come, first served.

    `accept(speech, pcm, sample_rate)` adds a piece.
    """

    def __init__(self, queue: SpeechQueue, max_s: float, accept: Callable[[QueuedSpeech, bytes, int], None]) -> None:
        self._queue, self._max_s, self._accept = queue, max_s, accept
        self._step_s = min(1.0, max_s / 2)  # longer pieces are added in parts of this length
        self.waiting: list[Wake] = []
        """The pushes that wait, oldest first."""

    def add(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> Awaitable[None] | None:
        """Add a piece at once and return None, or return an awaitable that adds all of it when there is room."""
        if self.waiting or not self._fits(len(pcm), sample_rate):
            return self._add_slowly(speech, pcm, sample_rate)
        self._accept(speech, pcm, sample_rate)
        return None

    def _fits(self, size: int, sample_rate: int) -> bool:
        return self._queue.waiting_s + size / (2 * sample_rate) <= self._max_s

    async def _add_slowly(self, speech: QueuedSpeech, pcm: bytes, sample_rate: int) -> None:
        step = 2 * max(1, int(self._step_s * sample_rate))
        first = True
        # Speech that is no longer in the queue was interrupted meanwhile.
        while pcm and speech in self._queue:
            if (first and self.waiting) or not self._fits(min(len(pcm), step), sample_rate):
                await self._wait(first)
                first = False
                continue
            first = False
            size = max(step, 2 * int((self._max_s - self._queue.waiting_s) * sample_rate))
            self._accept(speech, pcm[:size], sample_rate)
            pcm = pcm[size:]
        if self.waiting:
            self.audio_left()

    async def _wait(self, first: bool) -> None:
        room = Wake()
        # A push of which a part was added goes on before the others.
        self.waiting.insert(len(self.waiting) if first else 0, room)
        try:
            await room.wait()
        finally:
            if room in self.waiting:
                self.waiting.remove(room)

    def audio_left(self) -> None:
        """Let the oldest push go on if there is room: the queue has become shorter."""
        if self._queue.waiting_s + self._step_s <= self._max_s:
            self.waiting.pop(0).wake()

    def queue_cut(self) -> None:
        """Let all pushes check again: an interruption has emptied the queue."""
        while self.waiting:
            self.waiting.pop(0).wake()
