"""`AudioRing`: the caller's audio on its way to a provider, kept until the provider has dealt with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from msgspec.structs import replace

from ...frames import EndOfTurn, Input, SpeechStarted, UserAudio
from ...processors.turns.stream import split
from ..remote.connection import Connection
from .dialect import Dialect
from .uplink import Uplink

PREROLL_S = 0.5
"""Pre-roll in seconds: detectors report speech some time after its first sound."""
RECENT_S = 2.0
"""Seconds of audio without reported speech to keep, for providers that report speech late."""
MAX_PIECE_S = 0.5
"""Longest audio of one message to a provider, in seconds."""
TRIM_EVERY = 25
"""The number of frames after which unneeded frames are dropped."""
MAX_OLD_FRAMES = 4_096
"""The most unneeded frames to keep."""


@dataclass(slots=True, eq=False)
class Utterance:
    """A turn of the caller: the frames numbered `first` up to and without `last`, which is None while it goes on."""

    first: int
    last: int | None = None
    id: str = ""
    """Our id, which its transcripts and its item of the log carry."""
    items: list[str] = field(default_factory=list)
    """The provider's ids of its parts, in order; one, unless an answer to it was begun too early."""
    texts: dict[str, str] = field(default_factory=dict)
    """The final transcripts of its parts, by id."""
    commits: int = 0
    """The number of parts, 0 before the first one is complete."""
    log_id: str = ""
    """The id of its item in the log, which is made before the transcript arrives."""
    turn: int = 0
    transcribed: bool = False
    """True once its final transcript has come. Hooks may not have answered yet."""
    text: str | None = None
    """The final transcript after the hooks."""
    start_s: float = 0.0
    """Session time of its start; `end_s` is that of its end."""
    end_s: float = 0.0
    overdue: bool = False
    """True once its answer was asked for because the provider had not begun one."""
    answered_at: float = 0.0
    """Loop time at which its answer ended."""

    @property
    def open(self) -> bool:
        """True until the turn is complete."""
        return self.last is None

    @property
    def unnamed(self) -> bool:
        """True if the provider has not told the id of its latest part."""
        return len(self.items) < max(1, self.commits)

    @property
    def all_texts(self) -> str | None:
        """The transcript of all parts, None unless the turn is complete and each part has its final one."""
        return None if self.open or len(self.texts) < max(1, self.commits) else _whole(self.items, self.texts)

    def text_with(self, item: str, text: str) -> str:
        """Return the transcript up to now, with the present transcript of the part `item`."""
        return _whole(self.items, {**self.texts, item: text})

    def unknown(self) -> None:
        """Forget its parts: its audio is sent again, or is not known to the provider."""
        self.items.clear()
        self.texts.clear()
        self.commits, self.transcribed = 0, False


def _whole(items: Iterable[str], texts: Mapping[str, str]) -> str:
    return " ".join(text for item in dict.fromkeys((*items, *texts)) if (text := texts.get(item, "")))


class AudioRing:
    """Keeps the caller's frames in order, sends them, and sends them again on another connection where necessary.

    With `server_turns` the provider receives all audio without gaps, otherwise the audio of turns with its pre-roll.
    The ring holds `ring_s` seconds of audio. Beyond that it drops the oldest, and calls `dropped` with the number of
    samples of the caller that no provider has received.
    """

    def __init__(self, sample_rate: int, ring_s: float, dropped: Callable[[int], None]) -> None:
        self.utterances: list[Utterance] = []
        """The turns that the provider has not dealt with, oldest first."""
        self.held = False
        """True while nothing is sent, because the connection or the engine changes."""
        self.uplink = Uplink(sample_rate)
        self._ring_s = ring_s
        self._dropped = dropped
        self._frames: deque[Input] = deque()
        self._base = 0  # the oldest frame in the ring; frames are numbered through the whole call
        self._next = 0  # the first frame that the connection has not sent
        self._new = 0  # the first frame that no earlier connection has sent
        self._dealt_with = 0  # the frame after the last turn that the provider has dealt with
        self._asked = 0  # the frame after the last turn handed to an earlier connection
        self._sent: deque[tuple[int, int, int]] = deque()  # not surely delivered: frame, message, samples
        self._untold: int | None = None  # the first frame of speech that the provider has not reported
        self._cut_turn = False  # True if the oldest frame lies in a turn whose beginning was dropped
        self._untrimmed = 0  # frames since the last _trim
        self._seconds, self._lost = 0.0, 0

    # -- the caller's frames ---------------------------------------------------------------------------------------

    def add(self, frame: Input) -> None:
        """Take the caller's next frame and queue its messages. Flush the connection afterwards."""
        if isinstance(frame, UserAudio):
            seconds = frame.duration_s
            while seconds > MAX_PIECE_S:
                head, frame = split(frame, int(MAX_PIECE_S * frame.sample_rate))
                self._append(head)
                seconds = frame.duration_s
            self._seconds += seconds
        elif isinstance(frame, SpeechStarted) and self._untold is None and self.going_on is None:
            self._untold = self._back(frame.at, PREROLL_S)
        self._frames.append(frame)
        self._flush()
        self._untrimmed += 1
        if self._untrimmed >= TRIM_EVERY or self._seconds > self._ring_s or self._lost:
            self._trim()

    def _append(self, frame: Input) -> None:
        self._frames.append(frame)
        if isinstance(frame, UserAudio):
            self._seconds += frame.duration_s

    @property
    def here(self) -> int:
        """The number of the next frame."""
        return self._base + len(self._frames)

    @property
    def going_on(self) -> Utterance | None:
        """The turn in progress, None without one."""
        return next((utterance for utterance in self.utterances if utterance.open), None)

    def begin(self, start_s: float, preroll_s: float = PREROLL_S) -> Utterance:
        """Begin a turn at a session time, with as much of its pre-roll as is left."""
        after = max((u.last for u in self.utterances if u.last is not None), default=max(self._base, self._dealt_with))
        utterance = Utterance(max(self._back(start_s, preroll_s), after), start_s=start_s)
        self._untold = None
        self.utterances.append(utterance)
        return utterance

    def end(self, utterance: Utterance, end_s: float, *, heard_until_s: float = inf) -> None:
        """Complete a turn with the latest frame, or with the frame at `heard_until_s` (session time)."""
        last = self._back(heard_until_s)
        if last < self.here and last >= self._base:
            frame = self._frames[last - self._base]
            last += isinstance(frame, UserAudio) and frame.at < heard_until_s - 1e-6  # the turn has a part of it
        utterance.last, utterance.end_s = max(utterance.first, last), end_s

    def settle(self, utterance: Utterance, *, unsent: bool = False) -> None:
        """Note that a turn is dealt with: its audio is no longer needed. `unsent`: and is never sent."""
        self._next = max(self._next, (utterance.last or 0) if unsent else 0)
        if utterance in self.utterances:
            self.utterances.remove(utterance)
            self._dealt_with = max(self._dealt_with, utterance.last or 0)
        self._trim()

    def _back(self, at: float, preroll_s: float = 0.0) -> int:
        """Return the number of the first frame at or after a session time, less the pre-roll within the same turn."""
        number = self.here
        for frame in reversed(self._frames):
            if isinstance(frame, UserAudio) and frame.at + frame.duration_s <= at - preroll_s:
                break
            if isinstance(frame, EndOfTurn) and frame.at <= at:
                break
            number -= 1
        return number

    # -- sending ---------------------------------------------------------------------------------------------------

    def attach(self, connection: Connection[Dialect]) -> None:
        """Send on this connection from now on, from the first turn that is not dealt with."""
        self.uplink.attach(connection)
        if self.utterances:
            self._next = max(self._base, min(self._next, self.utterances[0].first))
            if self._cut_turn and self._next == self._base and not self.uplink.server_turns:
                self.uplink.begin_turn(connection)
        self._flush(self._asked)  # also while audio is held: the turns' answers will be requested again
        connection.send(())

    def detach(self, *, lost: bool) -> None:
        """Stop sending on this connection. The next one repeats the messages that may not have arrived.

        After a loss it is unknown how much of the latest audio the provider has heard: the next connection sends all
        audio after the last turn that was dealt with.
        """
        if self.uplink.connection is None:
            return
        delivered = self.uplink.connection.delivered
        uncertain = next((number for number, message, _ in self._sent if message > delivered), self._next)
        unwritten = [sent for sent in self._sent if sent[1] > self.uplink.connection.written]
        self._new = max(self._new, unwritten[0][0] if unwritten else self._next)
        self._lost += sum(samples for number, _, samples in unwritten if self._new <= number < self._base)
        self._next = max(self._base, min(self._new, self._dealt_with if lost else max(uncertain, self._dealt_with)))
        self._asked = max((u.last for u in self.utterances if u.last is not None and u.last <= self._new), default=0)
        self.uplink.connection = None
        self._sent.clear()

    def hold(self, held: bool) -> None:
        """Stop sending, or resume."""
        self.held = held
        self._flush()
        if self.uplink.connection is not None:
            self.uplink.connection.send(())

    def _flush(self, at_least: int = 0) -> None:
        if (connection := self.uplink.connection) is None or not connection.open:
            return
        here = self._base + len(self._frames)
        end = at_least if self.held or self.uplink.withheld else here
        if end <= self._next:
            return
        if self._next == here - 1:  # the usual case, without a search
            self._pass_on(connection, self._frames[-1], (self._frames[-1],))
            return
        for pieces in _together(tuple(self._between(self._next, end))):
            self._pass_on(connection, _one_frame(pieces), pieces)

    def _pass_on(self, connection: Connection[Dialect], frame: Input, pieces: Sequence[Input]) -> None:
        """Queue the messages of a frame, which joins all `pieces`."""
        number, queued = self._next, connection.queued
        self._next += len(pieces)
        if isinstance(frame, UserAudio):
            if self.uplink.server_turns or self.uplink.in_turn:
                self.uplink.send(connection, frame)
        elif not self.uplink.server_turns:
            self._mark(connection, frame)
        if connection.queued > queued:
            for place, piece in enumerate(pieces, number):
                self._sent.append((place, connection.queued, _sample_count(piece)))

    def _mark(self, connection: Connection[Dialect], frame: Input) -> None:
        if isinstance(frame, SpeechStarted) and not self.uplink.in_turn:
            self.uplink.begin_turn(connection)
            first = next(
                (u.first for u in self.utterances if u.first < self._next and (u.last or self.here) >= self._next),
                self._next,
            )
            for early in self._between(max(first, self._base), self._next - 1):
                if isinstance(early, UserAudio):
                    self.uplink.send(connection, early)
        elif isinstance(frame, EndOfTurn) and self.uplink.in_turn:
            self.uplink.end_turn(connection)

    # -- a change of engines ---------------------------------------------------------------------------------------

    def release(self) -> tuple[Input, ...]:
        """Hand over the turns that are not dealt with, or else the pre-roll, and all frames that were not sent."""
        recent, first = self._frames[-1] if self._frames else None, self.here
        if self.utterances:
            first = self.utterances[0].first
        elif isinstance(recent, UserAudio):
            first = self._back(recent.at, PREROLL_S)
        first = max(self._base, min(first, self._next))
        speech = list(self._between(first, self.here))
        if self.utterances and not any(isinstance(frame, SpeechStarted) for frame in speech):
            # Only the provider has detected this speech.
            speech.insert(0, SpeechStarted(at=self.utterances[0].start_s, utterance=self.utterances[0].id))
            if not self.utterances[-1].open:
                speech.append(EndOfTurn(at=self.utterances[-1].end_s, by="server"))
        self.clear()
        return tuple(speech)

    def adopt(self, speech: Iterable[Input]) -> None:
        """Continue with the frames that another engine has released, before any new frame."""
        for frame in speech:
            if isinstance(frame, SpeechStarted) and self.going_on is None:
                self.begin(frame.at, RECENT_S).id = frame.utterance
            self._append(frame)
            if isinstance(frame, EndOfTurn):
                for utterance in self.utterances:
                    if utterance.open:
                        self.end(utterance, frame.at)
        self.hold(self.held)

    def clear(self) -> None:
        """Forget everything."""
        self._base = self._next = self.here
        self._frames.clear()
        self.utterances.clear()
        self._sent.clear()
        self._untold, self._cut_turn, self._seconds = None, False, 0.0
        self.uplink.reset()

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _between(self, first: int, last: int) -> Iterator[Input]:
        return islice(self._frames, first - self._base, last - self._base)

    def _trim(self) -> None:
        frames, connection = self._frames, self.uplink.connection
        self._untrimmed = 0
        while connection is not None and self._sent and self._sent[0][1] <= connection.delivered:
            self._sent.popleft()
        first = self.utterances[0].first if self.utterances else self.here
        untold = self.here if self._untold is None else self._untold
        keep = min(first, untold, self._sent[0][0] if self._sent else self._next)
        new = max(self._new, self._next)
        if not self.uplink.server_turns:  # the provider does not receive audio outside of turns
            new = max(new, first)
        while frames and (
            self._seconds > self._ring_s
            or (self._base < keep and (self._seconds > RECENT_S or len(frames) > MAX_OLD_FRAMES))
        ):
            frame = frames.popleft()
            self._base += 1
            if isinstance(frame, SpeechStarted | EndOfTurn):
                self._cut_turn = isinstance(frame, SpeechStarted)
            elif isinstance(frame, UserAudio):
                self._seconds -= frame.duration_s
                if self._base > new:
                    self._lost += _sample_count(frame)
        self._next = max(self._next, self._base)
        if self._lost and connection is not None and connection.open and not self.held:
            self.tell_lost()

    def tell_lost(self) -> None:
        """Report the samples that were dropped."""
        lost, self._lost = self._lost, 0
        if lost:
            self._dropped(lost)


def _together(frames: Iterable[Input]) -> Iterator[list[Input]]:
    """Yield runs of audio frames of up to `MAX_PIECE_S` together, and each other frame by itself."""
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


def _one_frame(pieces: list[Input]) -> Input:
    first = pieces[0]
    if len(pieces) == 1 or not isinstance(first, UserAudio):
        return first
    return replace(first, audio=b"".join(piece.audio for piece in pieces if isinstance(piece, UserAudio)))


def _sample_count(frame: Input) -> int:
    return len(frame.audio) // (2 * frame.channels) if isinstance(frame, UserAudio) else 0
