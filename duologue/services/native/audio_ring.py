"""`AudioRing`: the caller's audio on its way to a provider, kept until the provider has dealt with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from ...audio.convert import MonoAt
from ...frames import EndOfTurn, Input, SpeechStarted, UserAudio
from ...processors.turns.vad import split

if TYPE_CHECKING:
    from ..remote.connection import Connection
    from .dialect import Dialect

PREROLL_S = 0.5
"""Audio from before speech was detected: a detector is sure only some time after the first sound."""
RECENT_S = 2.0
"""What is kept of silence, for a provider that tells late that there was speech."""
MAX_PIECE_S = 0.5
"""No message to a provider holds more audio, whatever a frame holds."""
MAX_FRAMES = 4_096
"""Frames that are kept of what is not needed any more."""


@dataclass(slots=True, eq=False)
class Utterance:
    """A turn of the caller's. `first` and `last` number the frames it lies in; `last` is None while it goes on."""

    first: int
    last: int | None = None
    id: str = ""
    """Its id in transcripts and in the log; given when it is first needed."""
    item: str = ""
    """The provider's id for it."""
    log_id: str = ""
    """Its place in the conversation, made before the transcript is there."""
    turn: int = 0
    transcribed: bool = False
    """Its final transcript has come. The hooks may still be asked about it."""
    text: str | None = None
    """The final transcript as the hooks have left it."""
    start_s: float = 0.0
    end_s: float = 0.0
    answered_at: float = 0.0
    """Loop time of the end of the answer."""

    @property
    def open(self) -> bool:
        return self.last is None


class _Sent(NamedTuple):
    """A frame, the message of the connection's that it is in, and how many samples that are."""

    number: int
    message: int
    samples: int


class AudioRing:
    """Keeps the caller's frames in order, sends what is to be sent, and knows what would have to be sent again.

    With `server_turns` the provider gets all audio, without gaps; else that of turns alone, from `PREROLL_S` before
    their start. Holds at most `ring_s` of audio: beyond that the oldest is dropped, and `dropped` is told how many of
    the caller's samples no provider has got.
    """

    def __init__(self, sample_rate: int, ring_s: float, dropped: Callable[[int], None]) -> None:
        self.utterances: list[Utterance] = []
        """Those that are not dealt with, oldest first."""
        self.held = False
        """Nothing is sent now."""
        self.sent_s = 0.0
        """Seconds of audio sent since the last `take_sent_s`."""
        self._mono = MonoAt(sample_rate)
        self._ring_s = ring_s
        self._dropped = dropped
        self._frames: deque[Input] = deque()
        self._base = 0  # number of the oldest frame
        self._next = 0  # number of the first frame that the connection has not had
        self._new = 0  # number of the first frame that no connection before this one has had
        self._dealt_with = 0  # number of the frame after the last turn that is dealt with
        self._asked = 0  # number of the frame after the last turn that a connection before this one was to answer
        self._sent: deque[_Sent] = deque()  # what may still get lost
        self._untold: int | None = None  # first frame of speech of which the provider has told nothing
        self._cut_turn = False  # the oldest frame lies in a turn whose beginning was dropped
        self._seconds = 0.0
        self._connection: Connection[Dialect] | None = None
        self._server_turns = True
        self._in_turn = False
        self._stream_ms = 0.0  # of audio sent on this connection
        self._stream_at = 0.0  # session time at which that ends
        self._lost = 0

    # -- what comes ------------------------------------------------------------------------------------------------

    def add(self, frame: Input) -> None:
        """The caller's next frame."""
        while isinstance(frame, UserAudio) and frame.duration_s > MAX_PIECE_S:
            head, frame = split(frame, int(MAX_PIECE_S * frame.sample_rate))
            self._append(head)
        if isinstance(frame, SpeechStarted) and self.going_on is None and self._untold is None:
            self._untold = self._back(frame.at, PREROLL_S)
        self._append(frame)
        self._flush()
        self._trim()

    def _append(self, frame: Input) -> None:
        self._frames.append(frame)
        if isinstance(frame, UserAudio):
            self._seconds += frame.duration_s

    @property
    def here(self) -> int:
        """The number of the frame that comes next."""
        return self._base + len(self._frames)

    @property
    def going_on(self) -> Utterance | None:
        """The caller's turn that goes on, if there is one."""
        return next((utterance for utterance in self.utterances if utterance.open), None)

    def begin(self, start_s: float, preroll_s: float = PREROLL_S) -> Utterance:
        """The caller's turn begins, with what was kept from so long before."""
        after = max((u.last for u in self.utterances if u.last is not None), default=max(self._base, self._dealt_with))
        first = self._back(start_s, preroll_s)
        utterance = Utterance(max(first, after), start_s=start_s)
        self._untold = None
        self.utterances.append(utterance)
        return utterance

    def end(self, utterance: Utterance, end_s: float, *, heard_until_s: float = inf) -> None:
        """The turn is complete: with the latest frame, or where the provider has come to if that is told."""
        last = self._back(heard_until_s)
        if last < self.here and last >= self._base:
            frame = self._frames[last - self._base]
            last += isinstance(frame, UserAudio) and frame.at < heard_until_s - 1e-6  # of this one the turn has a part
        utterance.last, utterance.end_s = max(utterance.first, last), end_s

    def settle(self, utterance: Utterance) -> None:
        """It has been dealt with: its audio is not needed any more."""
        if utterance in self.utterances:
            self.utterances.remove(utterance)
            self._dealt_with = max(self._dealt_with, utterance.last or 0)
        self._trim()

    def _back(self, at: float, preroll_s: float = 0.0) -> int:
        """The number of the first frame that lies at or after a session time, or so long before it in the same turn."""
        number = self.here
        for frame in reversed(self._frames):
            if isinstance(frame, UserAudio) and frame.at + frame.duration_s <= at - preroll_s:
                break
            if isinstance(frame, EndOfTurn) and frame.at <= at:
                break
            number -= 1
        return number

    def session_time(self, stream_ms: float) -> float:
        """When the caller said what the provider got at this place of the connection's audio."""
        return self._stream_at - (self._stream_ms - stream_ms) / 1000

    # -- sending ---------------------------------------------------------------------------------------------------

    def attach(self, connection: Connection[Dialect]) -> None:
        """Send to this connection from now on, beginning with what is not dealt with."""
        self._connection = connection
        self._server_turns = connection.dialect.server_turns
        self._in_turn, self._stream_ms = False, 0.0
        self._mono.reset()
        if self.utterances:
            self._next = max(self._base, min(self._next, self.utterances[0].first))
            if self._cut_turn and self._next == self._base and not self._server_turns:
                self._in_turn = True
                connection.send(connection.dialect.turn_begins())
        self._flush(self._asked)  # whatever is held: the answer will be asked for again

    def detach(self, *, lost: bool) -> None:
        """Send to this connection no more. What may not have arrived is for the next one.

        If it was `lost` nobody knows what the provider has got and heard of the latest audio: all that is kept, and
        lies after the last turn that was dealt with, is for the next one then.
        """
        if self._connection is None:
            return
        delivered = self._connection.delivered
        uncertain = next((sent.number for sent in self._sent if sent.message > delivered), self._next)
        unwritten = [sent for sent in self._sent if sent.message > self._connection.written]
        self._new = max(self._new, unwritten[0].number if unwritten else self._next)
        self._lost += sum(sent.samples for sent in unwritten if self._new <= sent.number < self._base)
        self._next = max(self._base, min(self._new, self._dealt_with if lost else max(uncertain, self._dealt_with)))
        self._asked = max((u.last for u in self.utterances if u.last is not None and u.last <= self._new), default=0)
        self._connection = None
        self._sent.clear()

    def hold(self, held: bool) -> None:
        """Stop or go on to send."""
        self.held = held
        self._flush()

    def take_sent_s(self) -> float:
        """Seconds of audio sent since this was last called."""
        sent, self.sent_s = self.sent_s, 0.0
        return sent

    def _flush(self, at_least: int = 0) -> None:
        connection = self._connection
        if connection is None or not connection.open:
            return
        end = at_least if self.held else self.here
        if end <= self._next:
            return
        if self._next == self.here - 1:  # nearly always, and found at once
            self._pass_on(connection, self._frames[-1], (self._frames[-1],))
            return
        for pieces in _together(tuple(self._between(self._next, end))):
            self._pass_on(connection, _joined(pieces), pieces)

    def _pass_on(self, connection: Connection[Dialect], frame: Input, pieces: Sequence[Input]) -> None:
        """Send what there is to send of one frame, which is joined of these."""
        number, queued = self._next, connection.queued
        self._next += len(pieces)
        if isinstance(frame, UserAudio):
            if self._server_turns or self._in_turn:
                self._send_audio(connection, frame)
        elif not self._server_turns:
            self._mark(connection, frame)
        if connection.queued > queued:
            for place, piece in enumerate(pieces, number):
                self._sent.append(_Sent(place, connection.queued, _samples(piece)))

    def _mark(self, connection: Connection[Dialect], frame: Input) -> None:
        if isinstance(frame, SpeechStarted) and not self._in_turn:
            self._in_turn = True
            connection.send(connection.dialect.turn_begins())
            first = next(
                (u.first for u in self.utterances if u.first < self._next and (u.last or self.here) >= self._next),
                self._next,
            )
            for early in self._between(max(first, self._base), self._next - 1):
                if isinstance(early, UserAudio):
                    self._send_audio(connection, early)
        elif isinstance(frame, EndOfTurn) and self._in_turn:
            self._in_turn = False
            if rest := self._mono.flush():
                connection.send([connection.dialect.audio(rest)])
            connection.send(connection.dialect.turn_ends())

    def _send_audio(self, connection: Connection[Dialect], frame: UserAudio) -> None:
        pcm = self._mono.process(frame.audio, frame.sample_rate, frame.channels)
        if pcm:
            connection.send((connection.dialect.audio(pcm),))
            seconds = len(pcm) / (2 * self._mono.sample_rate)
            self.sent_s += seconds
            self._stream_ms += seconds * 1000
        self._stream_at = frame.at + frame.duration_s

    # -- what another engine gets ----------------------------------------------------------------------------------

    def release(self) -> tuple[Input, ...]:
        """Give away the turns that are not dealt with, or the audio of the last `PREROLL_S`; and all not sent yet."""
        if self.utterances:
            first = self.utterances[0].first
        else:
            recent = self._frames[-1] if self._frames else None
            first = self._back(recent.at, PREROLL_S) if isinstance(recent, UserAudio) else self.here
        first = max(self._base, min(first, self._next))
        speech = list(self._between(first, self.here))
        if self.utterances and not any(isinstance(frame, SpeechStarted) for frame in speech):
            # The provider heard it, nobody of ours.
            speech.insert(0, SpeechStarted(at=self.utterances[0].start_s, utterance=self.utterances[0].id))
            if not self.utterances[-1].open:
                speech.append(EndOfTurn(at=self.utterances[-1].end_s, by="server"))
        self.clear()
        return tuple(speech)

    def adopt(self, speech: Iterable[Input]) -> None:
        """Go on with what another engine has released, ahead of all that comes."""
        for frame in speech:
            if isinstance(frame, SpeechStarted) and self.going_on is None:
                self.begin(frame.at, RECENT_S).id = frame.utterance
            self._append(frame)
            if isinstance(frame, EndOfTurn):
                for utterance in self.utterances:
                    if utterance.open:
                        self.end(utterance, frame.at)
        self._flush()

    def clear(self) -> None:
        """Forget everything."""
        self._base = self._next = self.here
        self._frames.clear()
        self._seconds = 0.0
        self.utterances.clear()
        self._sent.clear()
        self._untold = None
        self._in_turn = self._cut_turn = False
        self._mono.reset()

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _between(self, first: int, last: int) -> Iterator[Input]:
        return islice(self._frames, first - self._base, last - self._base)

    def _trim(self) -> None:
        frames, connection = self._frames, self._connection
        while connection is not None and self._sent and self._sent[0].message <= connection.delivered:
            self._sent.popleft()
        keep = self._sent[0].number if self._sent else self._next
        if self.utterances:
            keep = min(keep, self.utterances[0].first)
        if self._untold is not None:
            keep = min(keep, self._untold)
        over = self._seconds > self._ring_s
        new = max(self._new, self._next)
        if not self._server_turns:  # what lies outside of turns is not for the provider
            new = max(new, self.utterances[0].first if self.utterances else self.here)
        while frames and (over or (self._base < keep and (self._seconds > RECENT_S or len(frames) > MAX_FRAMES))):
            frame = frames.popleft()
            self._base += 1
            if isinstance(frame, SpeechStarted | EndOfTurn):
                self._cut_turn = isinstance(frame, SpeechStarted)
            elif isinstance(frame, UserAudio):
                self._seconds -= frame.duration_s
                if self._base > new:
                    self._lost += _samples(frame)
            over = self._seconds > self._ring_s
        self._next = max(self._next, self._base)
        if self._lost and connection is not None and connection.open and not self.held:
            self.tell_lost()

    def tell_lost(self) -> None:
        """Report the samples that were dropped."""
        lost, self._lost = self._lost, 0
        if lost:
            self._dropped(lost)


def _together(frames: Iterable[Input]) -> Iterator[list[Input]]:
    """Audio that follows on audio, up to `MAX_PIECE_S` of it, and each other frame by itself."""
    pieces: list[Input] = []
    seconds = 0.0
    for frame in frames:
        more_s = frame.duration_s if isinstance(frame, UserAudio) else MAX_PIECE_S
        if pieces and not (seconds + more_s <= MAX_PIECE_S and _are_alike(frame, pieces[0])):
            yield pieces
            pieces, seconds = [], 0.0
        pieces.append(frame)
        seconds += more_s
    if pieces:
        yield pieces


def _are_alike(frame: Input, other: Input) -> bool:
    if not (isinstance(frame, UserAudio) and isinstance(other, UserAudio)):
        return False
    return (frame.sample_rate, frame.channels) == (other.sample_rate, other.channels)


def _joined(pieces: list[Input]) -> Input:
    first = pieces[0]
    if len(pieces) == 1 or not isinstance(first, UserAudio):
        return first
    return replace(first, audio=b"".join(piece.audio for piece in pieces if isinstance(piece, UserAudio)))


def _samples(frame: Input) -> int:
    return len(frame.audio) // (2 * frame.channels) if isinstance(frame, UserAudio) else 0
