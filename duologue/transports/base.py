"""`TransportInput` and `TransportOutput`: the two ends of a pipeline, for every kind of transport."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

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
from ..session.audio import CallAudio
from ..session.host import State
from .playout.base import AudioSink, PlayoutBase, PlayoutSettings, check_chunk_rate
from .playout.playout import Playout

MAX_WAITING_S = 60.0
"""Seconds of the caller's audio that wait for the pipeline. Beyond that the oldest is dropped and reported."""
MAX_WAITING_FRAMES = 1_000
"""Other frames that wait for the pipeline. Beyond that new ones are refused with an error."""
GAP_S = 0.25
"""Seconds after which audio does not continue the audio before it: the time between was silence."""
EARLY_S = 2.0
"""Seconds by which audio that was fed faster than it can have been spoken may run ahead of its time."""
_OF_THE_CALLER = (UserText, UserImage, Dtmf)
"""The frames of a caller whose access is revoked that are dropped."""


class TransportInput(Processor):
    """The head of a pipeline. A transport calls `feed` with the caller's audio; it goes downstream as `UserAudio`.

    Audio that is fed while the session is still connecting is kept, and delivered once it has started. At most 60 s
    wait. If the pipeline does not take them, the oldest audio is dropped, and a ServiceError is reported.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, int] | Frame] = deque()
        self._waiting_s = 0.0
        self._frames = 0
        self._fed_at = 0.0  # loop time at which the last audio was fed
        self._next_at: float | None = None  # loop time at which the next sample to be delivered was spoken
        self._last_at = 0.0  # loop time at which the last piece that was delivered was spoken
        self._dropped = 0  # samples
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._call_audio: CallAudio | None = None  # once it belongs to a session

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono of any length, whose last sample was spoken now. Ignored after the end.

        Call it in the event loop, at any time after the transport was made. Raises BadInput for a split sample and an
        impossible rate.
        """
        if len(pcm) & 1 or not 1 <= sample_rate <= MAX_SAMPLE_RATE:
            check_pcm(pcm, sample_rate)
        if self._closed or not pcm:
            return
        if len(pcm) > 2 * sample_rate:  # at most a second is dropped or delivered at once
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
        """Replace the part of some audio, which ends now, that was spoken while the caller had no access by silence."""
        audio = self._call_audio
        if audio is None:
            if not self.in_session:
                return pcm
            audio = self._call_audio = self.session.audio
        if audio.access == "active" and not audio.access_since:
            return pcm
        if audio.access != "active":
            return bytes(len(pcm))
        spoken_s = self.session.now() - audio.access_since
        early = len(pcm) // 2 - int(spoken_s * sample_rate + 1e-6)
        return bytes(2 * early) + pcm[2 * early :] if early > 0 else pcm

    def feed_frame(self, frame: Input) -> None:
        """Take a key, a text or an image of the caller, in its place among the audio."""
        if self._closed or (self._revoked and isinstance(frame, _OF_THE_CALLER)):
            return
        if self._frames >= MAX_WAITING_FRAMES:
            error = ServiceError(
                f"{type(frame).__name__} was refused: {MAX_WAITING_FRAMES} frames wait for the pipeline"
            )
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
        """The session has started. Transports may override it."""

    async def open(self) -> None:
        """Begin to deliver if the session runs already."""
        if self.session.state is State.ACTIVE:
            self.spawn(self._deliver)

    @handles(SessionStarted)
    def begin(self, frame: SessionStarted) -> None:
        """Begin to deliver."""
        self.spawn(self._deliver)
        self.started()

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Take nothing more."""
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
        queue, said = self._queue, session.audio.said
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
            if said.listeners:
                said.hear(pcm, sample_rate, at)
            await self.push(UserAudio(audio=pcm, sample_rate=sample_rate, at=at))

    def _spoken_at(self, seconds: float) -> float:
        """The loop time at which the first sample of the oldest piece was spoken.

        That is the end of the piece before it, unless the time at which it was fed excludes that.
        """
        fed = self._fed_at - self._waiting_s
        at = self._next_at
        if at is None or fed - at > GAP_S:
            at = fed
        elif at - fed > EARLY_S:
            at = max(fed, self._last_at)
        self._waiting_s -= seconds
        self._last_at, self._next_at = at, at + seconds
        return at


class TransportOutput(Processor):
    """The tail of a pipeline: plays the agent's audio through a `Playout`, and keeps the session's ledger.

    A transport implements `write`, and overrides `clear` and `position` if it knows more than their defaults. The
    frames also go on downstream. `sample_rate` is the rate of the audio that `write` gets, a multiple of 50 Hz.
    """

    def __init__(self, sample_rate: int, settings: PlayoutSettings | None = None) -> None:
        check_chunk_rate(sample_rate)
        self.sample_rate = sample_rate
        self.settings = settings or PlayoutSettings()
        self._playout: PlayoutBase | None = None
        self._disconnected = False
        self._registrations: list[Callable[[], None]] = []

    @property
    def playout(self) -> PlayoutBase:
        """The playout. Raises IllegalState before `open`."""
        if self._playout is None:
            raise IllegalState(f"{self.name} is not open yet: it has no playout")
        return self._playout

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of audio, s16le mono at `sample_rate`, to the far end, without waiting."""
        raise NotImplementedError

    def clear(self) -> int | None:
        """Make the far end drop the audio that it has not played.

        May return how many of the samples written since the last `clear` it has played, or will play all the same.
        """
        return None

    def position(self) -> int | None:
        """How many of the samples written since the last `clear` were played; None if only the clock tells."""
        return None

    def disconnect(self) -> None:
        """The far end has gone: audio that it has not played is dropped, and does not count as heard."""
        self._disconnected = True
        if self._playout is not None:
            self._playout.stop()

    def audio_sink(self) -> AudioSink:
        """Where the audio goes: this output. For subclasses that write to another object."""
        return self

    def make_playout(self) -> PlayoutBase:
        """The playout of this output: for subclasses with another one."""
        return Playout(
            self.session,
            self.sample_rate,
            self.audio_sink(),
            settings=self.settings,
            owner=self.name,
        )

    async def open(self) -> None:
        """Make the playout. Subclasses call it first."""
        session = self.session
        session.audio.has_playout = True
        playout = self._playout = self.make_playout()
        if self._disconnected:
            playout.stop()
        self._unregister()
        self._registrations = [session.on_fence(playout.fence), session.floor.on_hold(playout.hold, playout.resume)]

    async def close(self) -> None:
        """Play nothing any more. Subclasses call it too."""
        self.disconnect()
        self._unregister()

    def _unregister(self) -> None:
        while self._registrations:
            self._registrations.pop()()

    @handles(ResponseStarted)
    async def response_started(self, frame: ResponseStarted) -> None:
        """A response begins."""
        self.playout.begin(frame)
        await self.push(frame)

    @handles(WordTimes)
    async def word_times(self, frame: WordTimes) -> None:
        """Tell the ledger when the words of a response are spoken."""
        self.session.ledger.add_words(frame.response_id, frame.words)
        await self.push(frame)

    @handles(BotAudio)
    async def play(self, frame: BotAudio) -> None:
        """Play a piece of audio in its turn; wait while there is no room for it."""
        playout = self._playout
        assert playout is not None, "frames come after open"
        later = playout.add(frame)
        if later is not None:
            await later
        await self.push(frame)

    @handles(ResponseEnded)
    async def response_ended(self, frame: ResponseEnded) -> None:
        """A response is complete."""
        self.session.ledger.all_given(frame)
        self.playout.end(frame)
        await self.push(frame)

    @handles(End)
    async def drain(self, frame: End) -> None:
        """Let the caller hear the rest."""
        await self.playout.drain()

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Fix what was heard before the session ends."""
        self.disconnect()


class Allowance:
    """Grows by `per_s` each second, up to `most`, with which it begins."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._left = most
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Use `amount` of it at loop time `now`. Returns False if less than that is left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
