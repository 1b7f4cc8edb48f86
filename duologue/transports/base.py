"""`TransportInput` and `TransportOutput`: the two ends of a pipeline, whatever the call comes in by."""

from __future__ import annotations

import asyncio
from collections import deque

from ..audio.pcm import MAX_SAMPLE_RATE, check_pcm
from ..errors import IllegalState, ServiceError
from ..frames import (
    BotAudio,
    Dtmf,
    End,
    Frame,
    Input,
    ResponseEnded,
    ResponseStarted,
    SessionEnding,
    SessionStarted,
    UserAudio,
    UserImage,
    UserText,
    WordTimes,
)
from ..processors.processor import Processor, handles
from ..session.life import State
from .playout.base import PlayoutBase
from .playout.playout import Playout
from .playout.settings import PlayoutSettings, check_chunk_rate

MAX_WAITING_S = 60.0
"""Audio of the caller that waits for the pipeline. Beyond that the oldest is dropped, and reported."""
MAX_FRAMES = 1_000
"""Other frames that wait for the pipeline. Beyond that new ones are refused with an error."""
GAP_S = 0.25
"""Audio that comes later than this after what was fed before does not continue it: the time between was silence."""
AHEAD_S = 2.0
"""Audio that was fed faster than it can have been spoken may run this far ahead of its time."""
_OF_THE_CALLER = (UserText, UserImage, Dtmf)
"""What a caller whose access is revoked cannot do."""


class TransportInput(Processor):
    """The head of a pipeline. A transport calls `feed` with the caller's audio; it goes downstream as `UserAudio`.

    What is fed while the session is still connecting is kept, and delivered once it has started. At most 60 s wait;
    if the pipeline takes no more than that, the oldest is dropped, which is reported as a ServiceError.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, int] | Frame] = deque()
        self._waiting_s = 0.0
        self._frames = 0
        self._fed_at = 0.0  # loop time at which the last audio was fed
        self._next_at: float | None = None  # loop time at which the next sample to be delivered was spoken
        self._last_at = 0.0  # the same of the last piece that was delivered
        self._dropped = 0  # samples
        self._closed = False
        self._idle: asyncio.Future[None] | None = None

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Audio of the caller, s16le mono, of any length: its last sample was spoken now. Nothing after the end.

        To be called in the event loop, at any time from the making of the transport on. Raises BadInput for a split
        sample and an impossible rate.
        """
        if len(pcm) & 1 or not 1 <= sample_rate <= MAX_SAMPLE_RATE:
            check_pcm(pcm, sample_rate)
        if self._closed or not pcm:
            return
        if len(pcm) > 2 * sample_rate:  # what is dropped or delivered at once is at most a second
            for start in range(0, len(pcm), 2 * sample_rate):
                self.feed(pcm[start : start + 2 * sample_rate], sample_rate)
            return
        pcm = self._allowed(pcm, sample_rate)
        self._fed_at = asyncio.get_running_loop().time()
        self._waiting_s += len(pcm) / (2 * sample_rate)
        self._queue.append((pcm, sample_rate))
        while self._waiting_s > MAX_WAITING_S + 1e-6:
            self._drop_oldest()
        self._wake()

    def _allowed(self, pcm: bytes, sample_rate: int) -> bytes:
        """Audio that ends now, with silence for what was spoken while the caller was not to be heard."""
        if not self.in_session:
            return pcm
        session, audio = self.session, self.session.audio
        if audio.access == "active" and not audio.access_since:
            return pcm
        if audio.access != "active":
            return bytes(len(pcm))
        spoken_s = session.now() - audio.access_since
        early = len(pcm) // 2 - int(spoken_s * sample_rate + 1e-6)
        return bytes(2 * early) + pcm[2 * early :] if early > 0 else pcm

    def feed_frame(self, frame: Input) -> None:
        """What else the caller does (a key, a text, an image), in its place among the audio."""
        if self._closed or (self._revoked and isinstance(frame, _OF_THE_CALLER)):
            return
        if self._frames >= MAX_FRAMES:
            error = ServiceError(f"{type(frame).__name__} was refused: {MAX_FRAMES} frames wait for the pipeline")
            self.session.report(error, self.name)
            return
        self._put(frame)

    @property
    def _revoked(self) -> bool:
        return self.in_session and self.session.audio.access == "revoked"

    def hang_up(self, reason: str = "caller hung up") -> None:
        """The caller has gone: the call ends once everything before this has been dealt with."""
        if not self._closed:
            self._put(End(reason=reason))
            self._closed = True

    def _put(self, frame: Frame) -> None:
        self._frames += 1
        self._queue.append(frame)
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def started(self) -> None:
        """The session has started. For transports that must know."""

    async def open(self) -> None:
        """Begin to deliver, if the session runs already."""
        if self.session.state is State.ACTIVE:
            self.spawn(self._deliver)

    @handles(SessionStarted)
    def begin(self, frame: SessionStarted) -> None:
        """Deliver what has come, and what will."""
        self.spawn(self._deliver)
        self.started()

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Take no more."""
        self._closed = True
        self._queue.clear()

    def _drop_oldest(self) -> None:
        place = next(i for i, waiting in enumerate(self._queue) if isinstance(waiting, tuple))
        pcm, sample_rate = self._queue[place]  # type: ignore[misc]
        del self._queue[place]
        seconds = len(pcm) / (2 * sample_rate)
        self._waiting_s -= seconds
        if self._next_at is not None:
            self._next_at += seconds
        self._dropped += len(pcm) // 2
        if self._dropped == len(pcm) // 2 and self.in_session:
            self._report_dropped("the pipeline takes no audio")

    def _report_dropped(self, what: str) -> None:
        samples = f"{self._dropped} samples of the caller's audio were dropped"
        self.session.report(ServiceError(f"{what}: {samples}, more than {MAX_WAITING_S:.0f} s were waiting"), self.name)

    async def _deliver(self) -> None:
        loop, session = asyncio.get_running_loop(), self.session
        began = loop.time() - session.now()
        queue = self._queue
        while True:
            if not queue:
                self._idle = loop.create_future()
                await self._idle
            if self._dropped:
                self._report_dropped("the pipeline takes audio again")
                self._dropped = 0
            waiting = queue.popleft()
            if not isinstance(waiting, tuple):
                self._frames -= 1
                if not (self._revoked and isinstance(waiting, _OF_THE_CALLER)):
                    await self.push(waiting)
                continue
            pcm, sample_rate = waiting
            at = self._spoken_at(len(pcm) / (2 * sample_rate)) - began
            if session.audio.access != "active":
                pcm = bytes(len(pcm))
            session.audio.said.hear(pcm, sample_rate, at)
            await self.push(UserAudio(audio=pcm, sample_rate=sample_rate, at=at))

    def _spoken_at(self, seconds: float) -> float:
        """When the first sample of the oldest piece was spoken, in loop time: where the piece before it ended, unless
        the time at which it was fed says that this cannot be."""
        fed = self._fed_at - self._waiting_s
        at = self._next_at
        if at is None or fed - at > GAP_S:
            at = fed
        elif at - fed > AHEAD_S:
            at = max(fed, self._last_at)
        self._waiting_s -= seconds
        self._last_at, self._next_at = at, at + seconds
        return at


class TransportOutput(Processor):
    """The tail of a pipeline: plays the agent's audio through a `Playout`, and keeps the session's ledger.

    A transport implements `write`, and `clear` and `position` if there is more to say than their defaults do. What
    it plays also goes on downstream. `sample_rate` is that of the audio it wants, a multiple of 50 Hz.
    """

    def __init__(self, sample_rate: int, settings: PlayoutSettings | None = None) -> None:
        check_chunk_rate(sample_rate)
        self.sample_rate = sample_rate
        self.settings = settings or PlayoutSettings()
        self._playout: PlayoutBase | None = None
        self._disconnected = False

    @property
    def playout(self) -> PlayoutBase:
        """What paces the audio. There is one from `open` on."""
        if self._playout is None:
            raise IllegalState(f"{self.name} is not open yet: it has no playout")
        return self._playout

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of s16le mono audio at `sample_rate` to the far end. Must not wait."""
        raise NotImplementedError

    def clear(self) -> int | None:
        """Make the far end drop what it has not played yet. May return how many samples of those that were written
        since the last `clear` it has played, and will play in spite of this."""
        return None

    def position(self) -> int | None:
        """How many samples have been heard of those written since the last `clear`; None if only time tells."""
        return None

    def disconnect(self) -> None:
        """The far end has gone: what it has not heard is dropped, and was not said."""
        self._disconnected = True
        if self._playout is not None:
            self._playout.stop()

    def make_playout(self) -> PlayoutBase:
        """The playout of this output: for subclasses with another one."""
        return Playout(
            self.session,
            self.sample_rate,
            write=self.write,
            clear=self.clear,
            position=self.position,
            settings=self.settings,
            owner=self.name,
        )

    async def open(self) -> None:
        """Make the playout. Subclasses call it first."""
        session, first = self.session, self._playout is None
        session.audio.has_playout = True
        self._playout = self.make_playout()
        if self._disconnected:
            self._playout.stop()
        if first:
            session.on_fence(lambda: self.playout.fence())
            session.floor.on_hold(lambda owners: self.playout.hold(owners), lambda owners: self.playout.resume(owners))

    async def close(self) -> None:
        """Play nothing any more. Subclasses call it too."""
        self.disconnect()

    @handles(ResponseStarted)
    async def response_started(self, frame: ResponseStarted) -> None:
        """A response begins."""
        self.playout.begin(frame)
        await self.push(frame)

    @handles(WordTimes)
    async def word_times(self, frame: WordTimes) -> None:
        """When words are heard."""
        self.session.ledger.add_words(frame.response_id, frame.words)
        await self.push(frame)

    @handles(BotAudio)
    async def play(self, frame: BotAudio) -> None:
        """Play it in its turn; wait if there is no room for it yet."""
        later = self.playout.add(frame)
        if later is not None:
            await later
        await self.push(frame)

    @handles(ResponseEnded)
    async def response_ended(self, frame: ResponseEnded) -> None:
        """All of a response is here."""
        self.session.ledger.all_given(frame)
        self.playout.end(frame)
        await self.push(frame)

    @handles(End)
    async def drain(self, frame: End) -> None:
        """Let the caller hear the rest."""
        await self.playout.drain()

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Fix what was heard, before the session closes its books."""
        self.disconnect()
