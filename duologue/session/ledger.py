"""`Ledger`: the seconds that each response has sent and played. `heard_text`: the text that the caller heard of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..frames import ResponseEnded, Word
from ..frames.scripts import UNSPACED, cluster_start
from ..frames.text import joined

SPOKEN_CHARACTERS_PER_S = 15.0
"""The default speed of speech, in characters per second: 150 words of six characters a minute."""

MAX_MARKUP = 24
"""The most characters of markup between two spoken characters of a text."""

_UNSPACED = re.compile(f"(?!\u0e3f)[{UNSPACED}]")  # the sign of the baht is not a letter


def heard_text(text: str, words: Sequence[Word], seconds: float, total_s: float) -> str:
    """Return the part of a text that is heard in `seconds` of `total_s`: a beginning of it, in whole characters.

    By word times if they are known, else in proportion to the characters. A word counts once half of it was played;
    of a word in a script without spaces, the characters that were played.
    """
    if words:
        said = _played_words(words, seconds)
        return (cut_text(text, heard_position(text, said), words=False) if text else said).rstrip()
    # Lengths converted between sample rates differ in the last bits.
    cut = int(len(text) * min(1.0, seconds / total_s) + 1e-6) if total_s else 0
    return cut_text(text, cut).rstrip()


def _played_words(words: Sequence[Word], seconds: float) -> str:
    said: list[str] = []
    for word in words:
        if word.start_s > seconds:
            break
        if word.end_s > seconds + 1e-6 and _UNSPACED.search(word.text):
            played = (seconds - word.start_s) / (word.end_s - word.start_s)
            said.append(cut_text(word.text, _unspaced_end(word.text, int(len(word.text) * played + 0.5))))
        elif (word.start_s + word.end_s) / 2 <= seconds + 1e-6:
            said.append(word.text)
    return "".join(said)


def _unspaced_end(text: str, at: int) -> int:
    """Return the nearest place at or before `at` behind a character of a script without spaces."""
    while 0 < at < len(text) and not _UNSPACED.match(text[at - 1]):
        at -= 1
    return at


def cut_text(text: str, at: int, *, words: bool = True) -> str:
    """Return the text up to the nearest place at or before `at` that is not inside a word.

    A character counts as a word in scripts without spaces, and is whole: what a reader sees as one character, such as
    an emoji of several parts. Without `words`, only characters are whole.
    """
    if at >= len(text):
        return text
    while words and at > 0 and _is_inside(text, at):
        at -= 1
    return text[: at if text.isascii() else cluster_start(text, at)]


def _is_inside(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if before.isspace() or after.isspace():
        return False
    return not (_UNSPACED.match(before) or _UNSPACED.match(after))


def heard_position(text: str, heard: str) -> int:
    """Return the number of characters of `text` up to the end of `heard`, which may lack unspoken markup."""
    if text.startswith(heard):
        return len(heard)
    at = 0
    for character in heard:
        found = text.find(character, at, at + MAX_MARKUP)
        if found >= 0:
            at = found + 1
    return at


def nearest(text: str, piece: str, place: int) -> int:
    """Return the place of `piece` in `text` that is nearest to `place`, -1 if it is not in the text.

    A mark that composes with the character before it moves what follows.
    """
    if text.startswith(piece, place):
        return place
    before, after = text.rfind(piece, 0, place + len(piece)), text.find(piece, place)
    if before < 0 or after < 0:
        return max(before, after)
    return before if place - before <= after - place else after


@dataclass(slots=True)
class Heard:
    """The part of a response that the caller heard: its text and seconds; `complete` if it is the whole response."""

    response_id: str
    turn: int
    text: str
    seconds: float
    complete: bool


@dataclass(slots=True)
class Response:
    """One response, from its start to the end of its playing. Lengths are in seconds of its audio."""

    id: str
    turn: int
    agent: str = ""
    drafted: bool = False
    """True if the model's text is only a draft: the text of the response is that of the speaker who takes it."""
    written: str = ""
    """The model's text of a drafted response."""
    speaker: object = None
    """The processor that speaks a drafted response, and whose text counts."""
    words: list[Word] = field(default_factory=list)
    sent_s: float = 0.0
    played_s: float = 0.0
    all_sent: bool = False
    """True once the last of its audio has reached the playout."""
    voiceless: bool = False
    """True if its words were to be spoken, and came without audio: none of them is heard."""
    _spoken: str = ""
    _taken: str = ""  # as `_spoken`, without corrections
    _corrections: list[tuple[int, int]] = field(default_factory=list)  # places in `_taken`, and characters added there

    @property
    def text(self) -> str:
        """The spoken text; the written text of a draft that nobody speaks."""
        return self.written if self.drafted and self.speaker is None else self._spoken

    @property
    def rewritten(self) -> str:
        """The model's text if the spoken text differs from it, else empty."""
        written, taken = self.written.strip(), self._taken.strip()
        if self.speaker is None or written == taken or (not self.all_sent and written.startswith(taken)):
            return ""
        return written

    def add(self, text: str) -> None:
        """Append to the spoken text."""
        self._spoken = joined(self._spoken, text)
        self._taken = joined(self._taken, text)

    def clear(self) -> None:
        """Remove all text."""
        self.written = self._spoken = self._taken = ""
        self.words.clear()
        self._corrections.clear()

    def correct(self, place: int, text: str, said: str) -> None:
        """Replace the piece `text` of the text, before which `place` characters were added."""
        place = nearest(self._taken, text, place)
        begin = place + sum(more for at, more in self._corrections if at < place)
        if place >= 0 and self._spoken.startswith(text, begin):
            self._spoken = self._spoken[:begin] + said + self._spoken[begin + len(text) :]
            self._corrections.append((place, len(said) - len(text)))

    def heard(self) -> Heard:
        """Return the part that has been played."""
        return Heard(self.id, self.turn, self._heard_text(), self.played_s, self.complete)

    @property
    def complete(self) -> bool:
        """True once all of it was played."""
        return self.all_sent and self.played_s >= self.sent_s - 1e-6

    def _heard_text(self) -> str:
        if self.voiceless:
            return ""
        if self.complete:
            return self.text
        if self.played_s <= 0:
            return ""
        total_s = self.sent_s if self.all_sent else max(self.sent_s, len(self.text) / SPOKEN_CHARACTERS_PER_S)
        return heard_text(self.text, self.words, self.played_s, total_s)


Point = Literal["asked", "text", "written", "audio"]
"""A point that a response reaches: a model is asked for it, its first text, all the text of its model, its first audio.
"""


class LedgerWatcher(Protocol):
    """Called when a response changes."""

    def text_added(self, response: Response, text: str) -> None:
        """`text` was added to the response."""

    def changed(self, response: Response) -> None:
        """More of the response was played, or its text was corrected."""

    def reached(self, response: Response, point: Point) -> None:
        """The response has come to this point."""

    def all_given(self, frame: ResponseEnded) -> None:
        """The engine has finished a response."""


class Ledger:
    """Accounts for all responses that are not settled yet.

    The engine opens a response. A native engine adds the text as it speaks (`add_text`). In a cascade the model writes
    a draft (`write`), and the processor that speaks it (`take`) adds the text that counts (`speak`): processors
    between the two may change it. The playout adds the seconds that were sent and played. A response is settled once:
    when it has been played to its end, or when an interruption cuts it.
    """

    def __init__(
        self,
        opened: Callable[[Response], None],
        started: Callable[[Response], None],
        settled: Callable[[Response, Heard, bool], None],
    ) -> None:
        self._opened = opened
        self._started = started
        self._settled = settled
        self.pending: dict[str, Response] = {}
        """The responses that are not settled, by their ids. Only the ledger changes it."""
        self._ids = 0
        self.attested: Callable[[Response, Heard], None] | None = None
        """Called with each response that is settled, and what was heard of it: the trace of the call, else None."""
        self.watcher: LedgerWatcher | None = None
        """The feed while it has watchers, else None."""

    def new_id(self) -> str:
        """Return a new id for a response. No other response of the session gets it, from whichever engine."""
        self._ids += 1
        return f"resp_{self._ids}"

    def go_on_after(self, number: int) -> None:
        """Give no id up to this number: an earlier call has used them."""
        self._ids = max(self._ids, number)

    def open(self, response_id: str, turn: int, agent: str = "", *, drafted: bool = False) -> None:
        """Open a response. Does nothing if it is open already. Raises BadInput if the log has this id.

        The text of a `drafted` response is written first, and may change before it is spoken.
        """
        if response_id not in self.pending:
            response = Response(response_id, turn, agent, drafted)
            self._opened(response)
            self.pending[response_id] = response

    def add_text(self, response_id: str, text: str) -> None:
        """Append spoken text to a response."""
        if response := self.pending.get(response_id):
            self._add(response, text)

    def write(self, response_id: str, text: str) -> None:
        """Append the model's text to a drafted response."""
        if response := self.pending.get(response_id):
            first = not response.written
            response.written = joined(response.written, text)
            if first and self.watcher is not None:
                self.watcher.reached(response, "text")

    def reach(self, response_id: str, point: Literal["asked", "written"]) -> None:
        """Record that a model is asked for a drafted response, or has given all its text."""
        if (response := self.pending.get(response_id)) and self.watcher is not None:
            self.watcher.reached(response, point)

    def take(self, response_id: str, speaker: object) -> None:
        """Make `speaker` the speaker of a drafted response. Only the first to take a response counts."""
        response = self.pending.get(response_id)
        if response is not None and response.drafted and response.speaker is None:
            response.speaker = speaker

    def speak(self, response_id: str, text: str, speaker: object) -> None:
        """Append spoken text to a drafted response. Ignored unless `speaker` has taken the response."""
        response = self.pending.get(response_id)
        if response is not None and response.speaker is speaker:
            self._add(response, text)

    def _add(self, response: Response, text: str) -> None:
        first = not response.drafted and not response.text
        response.add(text)
        if self.watcher is not None:
            if first:
                self.watcher.reached(response, "text")
            self.watcher.text_added(response, text)

    def withdraw(self, response_id: str) -> None:
        """Remove all text of a response: it was none for the caller."""
        if response := self.pending.get(response_id):
            response.clear()
            if self.watcher is not None:
                self.watcher.changed(response)

    def correct_text(self, response_id: str, place: int, text: str, said: str) -> None:
        """Replace the piece `text` of the response's text by `said`, the part of it that could be spoken.

        `place` is the number of characters that were added to the response before this piece.
        """
        if response := self.pending.get(response_id):
            response.correct(place, text, said)
            if self.watcher is not None:
                self.watcher.changed(response)

    def add_words(self, response_id: str, words: tuple[Word, ...]) -> None:
        """Add the times of words, in seconds of the response's audio. They replace earlier words of the same time."""
        if (response := self.pending.get(response_id)) and words:
            while response.words and response.words[-1].start_s >= words[0].start_s:
                response.words.pop()
            response.words.extend(words)

    def sent(self, response_id: str, seconds: float) -> None:
        """Record that `seconds` more of the response were given to the playout."""
        if response := self.pending.get(response_id):
            first = response.sent_s == 0
            response.sent_s += seconds
            if first and self.watcher is not None:
                self.watcher.reached(response, "audio")

    def played(self, response_id: str, seconds: float) -> None:
        """Record that `seconds` more of the response were played."""
        if response := self.pending.get(response_id):
            first = response.played_s == 0
            response.played_s += seconds
            if first and seconds > 0:
                self._started(response)
            if self.watcher is not None:
                self.watcher.changed(response)

    def unvoiced(self, response_id: str) -> None:
        """Record that the words of a response came without the audio that was to speak them: none of them is heard."""
        if response := self.pending.get(response_id):
            response.voiceless = True

    def all_given(self, frame: ResponseEnded) -> None:
        """Record that a response is complete: its `ResponseEnded` has come through the pipeline."""
        if self.watcher is not None:
            self.watcher.all_given(frame)

    def all_sent(self, response_id: str) -> None:
        """Record that the last audio of the response was sent."""
        if response := self.pending.get(response_id):
            response.all_sent = True

    def finish(self, response_id: str, *, interrupted: bool = False) -> Heard | None:
        """Settle a response: it was played to its end, or cut. Returns None if it is settled already.

        A response without audio counts as read once it is finished without an interruption.
        """
        response = self.pending.pop(response_id, None)
        if response is None:
            return None
        response.all_sent = response.all_sent or not interrupted
        heard = response.heard()
        if self.attested is not None:
            self.attested(response, heard)
        self._settled(response, heard, not heard.complete)
        return heard

    def cut(self, turn: int) -> list[Heard]:
        """Settle every response up to `turn` as interrupted, oldest first. Returns the heard part of each."""
        cut = [r.id for r in self.pending.values() if r.turn <= turn]
        return [heard for r in cut if (heard := self.finish(r, interrupted=True)) is not None]

    def get(self, response_id: str) -> Response | None:
        """Return the response with this id; None if it is unknown or settled."""
        return self.pending.get(response_id)

    def text_of(self, response_id: str) -> str:
        """Return the present text of a response; empty if it is unknown or settled."""
        response = self.pending.get(response_id)
        return response.text if response else ""

    @property
    def unsettled(self) -> tuple[Response, ...]:
        """The responses that are being spoken, or wait to be."""
        return tuple(self.pending.values())
