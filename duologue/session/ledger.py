"""The playout ledger: per response, what was sent and what was played, and so what was heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..frames import ResponseEnded, Word

SPOKEN_CHARACTERS_PER_S = 15.0
"""How fast speech goes where nothing better is known: 150 words of six characters a minute."""

MAX_MARKUP = 24
"""Characters of markup that may stand in a text between two that are spoken."""


@dataclass(slots=True)
class Heard:
    """What the caller has heard of a response: its text, for how many seconds, and whether that was all."""

    response_id: str
    turn: int
    text: str
    seconds: float
    complete: bool


@dataclass(slots=True)
class Response:
    """One response, from its start to the end of its playing."""

    id: str
    turn: int
    agent: str = ""
    text: str = ""
    words: list[Word] = field(default_factory=list)
    sent_s: float = 0.0
    played_s: float = 0.0
    all_sent: bool = False
    """The last of its audio has reached the playout."""

    def heard(self) -> Heard:
        return Heard(self.id, self.turn, self._heard_text(), self.played_s, self.complete)

    @property
    def complete(self) -> bool:
        """Whether all of it was played."""
        return self.all_sent and self.played_s >= self.sent_s - 1e-6

    def _heard_text(self) -> str:
        if self.complete:
            return self.text
        if self.played_s <= 0:
            return ""
        total_s = self.sent_s if self.all_sent else max(self.sent_s, len(self.text) / SPOKEN_CHARACTERS_PER_S)
        return heard_text(self.text, self.words, self.played_s, total_s)


def heard_text(text: str, words: Sequence[Word], seconds: float, total_s: float) -> str:
    """What is heard of a text after so many seconds of its `total_s`: by its words' times, else by proportion."""
    if words:
        # A word counts once half of it was played.
        said = [w.text for w in words if (w.start_s + w.end_s) / 2 <= seconds + 1e-6]
        return "".join(said).rstrip()
    # What was converted from one rate to another is not the same time to the last bit.
    cut = int(len(text) * min(1.0, seconds / total_s) + 1e-6) if total_s else 0
    return text[: _word_boundary(text, cut)].rstrip()


def _word_boundary(text: str, at: int) -> int:
    """The nearest place at or before `at` that is not inside a word.

    Scripts from Thai onwards in the order of Unicode write no spaces between words: there every character counts.
    """

    def inside(character: str) -> bool:
        return not character.isspace() and character < "\u0e00"

    while 0 < at < len(text) and inside(text[at - 1]) and inside(text[at]):
        at -= 1
    return at


def heard_position(text: str, heard: str) -> int:
    """The number of characters of `text` up to the end of `heard`, which may lack the markup that is not spoken."""
    if text.startswith(heard):
        return len(heard)
    at = 0
    for character in heard:
        found = text.find(character, at, at + MAX_MARKUP)
        if found >= 0:
            at = found + 1
    return at


class LedgerWatcher(Protocol):
    """Hears how the responses go on."""

    def text_added(self, response: Response, text: str) -> None:
        """The text has grown by `text`."""

    def changed(self, response: Response) -> None:
        """More of it was played, or its text was corrected."""

    def all_given(self, frame: ResponseEnded) -> None:
        """The engine has given all of a response."""


class Ledger:
    """Accounts for all responses that are not settled yet.

    The engine opens a response and adds its text; the playout adds what was sent and what was played. A response is
    settled once: when it has been played to its end, or when an interruption cuts it.
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
        self._open: dict[str, Response] = {}
        self._ids = 0
        self.watcher: LedgerWatcher | None = None
        """The feed, while somebody watches it."""

    def new_id(self) -> str:
        """An id for a response: no other of the session has it, whichever engine gives it."""
        self._ids += 1
        return f"resp_{self._ids}"

    def open(self, response_id: str, turn: int, agent: str = "") -> None:
        """A response begins. Nothing happens if it is open already. Raises BadInput for an id that was heard."""
        if response_id not in self._open:
            response = Response(response_id, turn, agent)
            self._opened(response)
            self._open[response_id] = response

    def add_text(self, response_id: str, text: str) -> None:
        """The response's text goes on."""
        if response := self._open.get(response_id):
            response.text += text
            if self.watcher is not None:
                self.watcher.text_added(response, text)

    def correct_text(self, response_id: str, text: str, said: str) -> None:
        """Of a piece of the response's text only `said` could be spoken."""
        if response := self._open.get(response_id):
            response.text = response.text.replace(text, said, 1)
            if self.watcher is not None:
                self.watcher.changed(response)

    def add_words(self, response_id: str, words: tuple[Word, ...]) -> None:
        """When words are spoken, in seconds of the response's audio. Takes the place of what was said of that time."""
        if (response := self._open.get(response_id)) and words:
            while response.words and response.words[-1].start_s >= words[0].start_s:
                response.words.pop()
            response.words.extend(words)

    def sent(self, response_id: str, seconds: float) -> None:
        """So much more audio of the response has been given to the transport or waits for it."""
        if response := self._open.get(response_id):
            response.sent_s += seconds

    def played(self, response_id: str, seconds: float) -> None:
        """So much more of the response has been heard."""
        if response := self._open.get(response_id):
            first = response.played_s == 0
            response.played_s += seconds
            if first and seconds > 0:
                self._started(response)
            if self.watcher is not None:
                self.watcher.changed(response)

    def all_given(self, frame: ResponseEnded) -> None:
        """The engine has given all of a response, and it has come through the pipeline."""
        if self.watcher is not None:
            self.watcher.all_given(frame)

    def all_sent(self, response_id: str) -> None:
        """The last audio of the response has been sent."""
        if response := self._open.get(response_id):
            response.all_sent = True

    def finish(self, response_id: str, *, interrupted: bool = False) -> Heard | None:
        """The response is over: it was played to its end, or cut. None if it was settled before.

        A response without audio counts as read once it is finished without an interruption.
        """
        response = self._open.pop(response_id, None)
        if response is None:
            return None
        response.all_sent = response.all_sent or not interrupted
        heard = response.heard()
        self._settled(response, heard, not heard.complete)
        return heard

    def cut(self, turn: int) -> list[Heard]:
        """Everything up to `turn` is interrupted: settle it, oldest first."""
        cut = [r.id for r in self._open.values() if r.turn <= turn]
        return [heard for r in cut if (heard := self.finish(r, interrupted=True)) is not None]

    def get(self, response_id: str) -> Response | None:
        """The response of this id, unless it is settled."""
        return self._open.get(response_id)

    def text_of(self, response_id: str) -> str:
        """What has been generated of a response that is not settled yet."""
        response = self._open.get(response_id)
        return response.text if response else ""

    @property
    def unsettled(self) -> tuple[Response, ...]:
        """The responses that are being said, or wait for it."""
        return tuple(self._open.values())
