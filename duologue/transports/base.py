"""`TransportInput` and `TransportOutput`: the two ends of a pipeline, the base of every transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..audio.pcm import WholeSamples, check_rate
from ..errors import IllegalState, ServiceError
from ..frames import (
    BotAudio,
    Dtmf,
    End,
    EndOfTurn,
    Frame,
    Input,
    Respond,
    ResponseEnded,
    ResponseStarted,
    SessionEnding,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserImage,
    UserText,
    WordTimes,
)
from ..processors.kernel.node import Node
from ..processors.processor import Processor, handles
from ..session.audio import CallAudio
from ..session.boundary import Boundary
from ..session.call_trace import boundary_of
from ..session.gate import AudioGate
from .playout.base import AudioSink, PlayoutBase, PlayoutSettings, check_chunk_rate
from .playout.playout import Playout
from .spoken_times import SpokenTimes

log = logging.getLogger("duologue")

MAX_WAITING_S = 60.0
"""Seconds of the caller's audio that wait for the pipeline. Beyond that the oldest audio is dropped and reported."""
MAX_WAITING_FRAMES = 1_000
"""Other frames that wait for the pipeline. Beyond that new frames are refused with an error."""
_OF_THE_CALLER = (UserText, UserImage, Dtmf, Respond)
"""The frames that are dropped while the caller's access is revoked."""


def _enter_early(boundary: Boundary, queue: Sequence[tuple[bytes, int] | Frame | asyncio.Future[None]]) -> None:
    """Let in what came before the session ran."""
    for waiting in queue:
        if isinstance(waiting, tuple):
            boundary.enter("audio", waiting, _entered)
        elif isinstance(waiting, End):
            boundary.enter("hang_up", (waiting.reason,), _entered)
        elif isinstance(waiting, Input):
            boundary.enter("frame", (waiting,), _entered)


def _entered() -> None:
    """It is in already."""


class TransportInput(Processor):
    """The head of a pipeline. A transport calls `feed` with the caller's audio; it goes downstream as `UserAudio`.

    Audio that is fed while the session is connecting is kept, and delivered once it has started. At most 60 s of audio
    wait for the pipeline. Beyond that the oldest audio is dropped, and a ServiceError is reported.
    """

    gives = frozenset({UserAudio})
    far_end = True
    takes_marks = True
    """True if the session may mark the caller's turns, in the mode "push_to_talk". False if the client does."""

    def __init__(self) -> None:
        # Audio, other frames, and a future that is done when all before it is delivered.
        self._queue: list[tuple[bytes, int] | Frame | asyncio.Future[None]] = []
        self._times = SpokenTimes()
        self._frames = 0
        self._dropped = 0  # samples
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._call_audio: CallAudio | None = None  # None before it belongs to a session
        self._whole = WholeSamples()
        self._rate = 0  # of the latest audio
        self._gate: AudioGate | None = None
        self._boundary: Boundary | None = None

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono of any length, whose last sample was spoken now. Ignored after the end.

        Call it in the event loop, at any time after the transport was made. A piece may end inside a sample: its
        beginning waits for the next piece. Raises BadInput for an invalid rate.
        """
        if self._boundary is not None:
            self._enter("audio", (pcm, sample_rate), self.feed)
            return
        if sample_rate != self._rate:
            check_rate(sample_rate)
            self._rate = sample_rate
            self._whole.reset()
        if len(pcm) & 1 or self._whole.rest:
            pcm = self._whole.take(pcm)
        if self._closed or not pcm:
            return
        if len(pcm) > 2 * sample_rate:  # at most a second is dropped or delivered at once
            for start in range(0, len(pcm), 2 * sample_rate):
                self._add_piece(pcm[start : start + 2 * sample_rate], sample_rate)
        else:
            self._add_piece(pcm, sample_rate)

    def _add_piece(self, pcm: bytes, sample_rate: int) -> None:
        pcm = self._allowed(pcm, sample_rate)
        if self._gate is not None:
            self._gate.hear(self, pcm, sample_rate)
        else:
            self.enter(pcm, sample_rate)

    def enter(self, pcm: bytes, sample_rate: int) -> None:
        """Queue audio of the caller that is let in, s16le mono, which ends now."""
        self._times.fed(len(pcm) / (2 * sample_rate), asyncio.get_running_loop().time())
        self._queue.append((pcm, sample_rate))
        while self._times.waiting_s > MAX_WAITING_S + 1e-6:
            self._drop_oldest()
        self._wake()

    def _allowed(self, pcm: bytes, sample_rate: int) -> bytes:
        """Return audio that ends now, with silence for the part that was spoken while the caller was not heard."""
        audio = self._call_audio
        if audio is None:
            if not self.in_session:
                return pcm
            audio = self._call_audio = self.session.audio
            self._join_gate()
        if not audio.hears:
            return bytes(len(pcm))
        if not audio.hears_since:
            return pcm
        spoken_s = self.session.now() - audio.hears_since
        early = len(pcm) // 2 - int(spoken_s * sample_rate + 1e-6)
        return bytes(2 * early) + pcm[2 * early :] if early > 0 else pcm

    def _join_gate(self) -> None:
        """Take the gate of the session. One that is closed at first lets in nothing of what came before it."""
        self._gate = gate = self.session.microphone.gate
        if gate is not None and not gate.open:
            for waiting in [waiting for waiting in self._queue if isinstance(waiting, tuple)]:
                gate.drop(*waiting)
                self._queue.remove(waiting)
            self._times.waiting_s = 0.0

    def mark(self, frame: Input) -> None:
        """Queue a mark of speech. Its time becomes that of its place in the audio."""
        if self._boundary is not None:
            self._enter("mark", (frame,), self.mark)
        elif not self._closed:
            self._put(frame)

    def _enter(self, name: str, values: tuple[Any, ...], take: Callable[..., None]) -> None:
        """Let the boundary see what enters. Meanwhile there is none, so that `take` takes it."""
        boundary, self._boundary = self._boundary, None
        assert boundary is not None
        try:
            boundary.enter(name, values, partial(take, *values))
        finally:
            self._boundary = boundary

    def _stamped(self, mark: SpeechStarted | SpeechStopped | EndOfTurn, began: float) -> Input:
        """Return a mark with the session time of its place: the begin of the next piece, or the end of the last."""
        if isinstance(mark, SpeechStarted):
            return replace(mark, at=max(0.0, self._times.begin_anew() - began))  # the audio before it was dropped
        ends_at = self._times.next_at
        return mark if ends_at is None else replace(mark, at=ends_at - began)

    def feed_frame(self, frame: Input) -> None:
        """Take a key, a text or an image of the caller, at its place among the audio."""
        if self._boundary is not None:
            self._enter("frame", (frame,), self.feed_frame)
            return
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
        """End the call once all earlier input has been handled: the caller has gone."""
        if self._boundary is not None:
            self._enter("hang_up", (reason,), self.hang_up)
        elif not self._closed:
            if self._gate is not None:
                self._gate.cut("client")
            self._put(End(reason=reason))
            self._closed = True

    def _put(self, frame: Frame) -> None:
        self._frames += 1
        self._queue.append(frame)
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Warn if the agent's audio is made behind this input, but not played."""
        super().check_place(before, after)
        spoken = [node for node in after if BotAudio in node.gives]
        if spoken and not any(BotAudio in node.spec().down for node in after):
            log.warning("nothing plays the audio of %s: put the transport's output behind it", spoken[0].name)

    def started(self) -> None:
        """Called when the session has started. Transports may override it."""

    async def open(self) -> None:
        """Begin to deliver if the session runs already."""
        if (boundary := boundary_of(self.session)) is not None:
            _enter_early(boundary, self._queue)
            self._boundary = boundary
        if self._call_audio is None:
            self._call_audio = self.session.audio
            self._join_gate()
        if self.session.live:
            self.spawn(self._deliver)

    @handles(SessionStarted)
    def begin(self, frame: SessionStarted) -> None:
        """Begin to deliver."""
        self.spawn(self._deliver)
        self.started()

    @handles(End)
    async def end(self, frame: End) -> None:
        """End what the caller says with the call, and deliver it first."""
        if self._gate is not None and self._gate.open:
            self._gate.cut("end")
            delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(delivered)
            self._wake()
            await delivered

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Ignore further input."""
        self._closed = True
        if self._gate is not None:
            self._gate.cut("end")
        for waiting in self._queue:
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_result(None)
        self._queue.clear()

    def _drop_oldest(self) -> None:
        waiting = ((i, waiting) for i, waiting in enumerate(self._queue) if isinstance(waiting, tuple))
        place, (pcm, sample_rate) = next(waiting)
        del self._queue[place]
        seconds = len(pcm) / (2 * sample_rate)
        self._times.dropped(seconds)
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
            waiting = queue.pop(0)
            if isinstance(waiting, asyncio.Future):
                if not waiting.done():
                    waiting.set_result(None)
                continue
            if not isinstance(waiting, tuple):
                self._frames -= 1
                if self._gate is not None and isinstance(waiting, SpeechStarted | SpeechStopped | EndOfTurn):
                    waiting = self._stamped(waiting, began)
                if not (self._revoked and isinstance(waiting, _OF_THE_CALLER)):
                    await self.push(waiting)
                continue
            pcm, sample_rate = waiting
            at = self._times.deliver(len(pcm) / (2 * sample_rate)) - began
            if not session.audio.hears:
                pcm = bytes(len(pcm))
            if said.listeners:
                said.hear(pcm, sample_rate, at)
            await self.push(UserAudio(audio=pcm, sample_rate=sample_rate, at=at))


class TransportOutput(Processor):
    """The tail of a pipeline: plays the agent's audio through a `Playout`, and keeps the session's ledger.

    A transport implements `write`, and overrides `clear` and `position` if it knows how much was played. The frames
    also go on downstream. `sample_rate` is the rate of the audio that `write` gets, a multiple of 50 Hz.
    """

    follows = frozenset({BotAudio})
    far_end = True

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

        May return the number of samples written since the last `clear` that it has played, or will still play.
        """
        return None

    def position(self) -> int | None:
        """Return the number of samples played since the last `clear`; None if it is known from the clock only."""
        return None

    def disconnect(self) -> None:
        """Drop the audio that was not played, which does not count as heard: the far end has gone."""
        boundary = boundary_of(self.session) if self.in_session else None
        if boundary is None:
            self._disconnect()
        else:
            boundary.enter("disconnect", (), self._disconnect)

    def _disconnect(self) -> None:
        self._disconnected = True
        if self._playout is not None:
            self._playout.stop()

    def audio_sink(self) -> AudioSink:
        """Return the sink of the audio: this output. Subclasses may override it."""
        return self

    def make_playout(self) -> PlayoutBase:
        """Make the playout of this output. Subclasses may override it."""
        return Playout(
            self.session,
            self.sample_rate,
            self.audio_sink(),
            settings=self.settings,
            owner=self.name,
        )

    async def open(self) -> None:
        """Make the playout. Subclasses that override it call it first."""
        session = self.session
        session.audio.has_playout = True
        playout = self._playout = self.make_playout()
        if self._disconnected:
            playout.stop()
        self._unregister()
        self._registrations = [session.on_fence(playout.fence), session.floor.on_hold(playout.hold, playout.resume)]

    async def close(self) -> None:
        """Stop playing. Subclasses that override it call it too."""
        self._disconnect()
        self._unregister()

    def _unregister(self) -> None:
        while self._registrations:
            self._registrations.pop()()

    @handles(ResponseStarted)
    async def response_started(self, frame: ResponseStarted) -> None:
        """Begin a response."""
        self.playout.begin(frame)
        await self.push(frame)

    @handles(WordTimes)
    async def word_times(self, frame: WordTimes) -> None:
        """Pass the word times of a response to the ledger."""
        self.session.ledger.add_words(frame.response_id, frame.words)
        await self.push(frame)

    @handles(BotAudio)
    async def play(self, frame: BotAudio) -> None:
        """Queue a piece of audio to be played. Waits while the playout is full."""
        playout = self._playout
        assert playout is not None, "frames come after open"
        later = playout.add(frame)
        if later is not None:
            await later
        await self.push(frame)

    @handles(ResponseEnded)
    async def response_ended(self, frame: ResponseEnded) -> None:
        """Complete a response."""
        self.session.ledger.all_given(frame)
        self.playout.end(frame)
        await self.push(frame)

    @handles(End)
    async def drain(self, frame: End) -> None:
        """Wait until the caller has heard the rest. A pause of the playback ends: no one resumes it any more."""
        self.session.playback.resume()
        await self.playout.drain()

    @handles(SessionEnding)
    def finish(self, frame: SessionEnding) -> None:
        """Settle the responses before the session ends."""
        self._disconnect()
