"""`Correction`: a processor that puts misheard terms right in the caller's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from ...frames import UserTranscript, Word
from ...processors.kernel.node import Node
from ...processors.processor import Processor
from ..stt import STT
from .corrector import Change, Corrected, Corrector
from .vocabulary import Term, Vocabulary


class Correction(Processor):
    """Puts misheard terms right in the caller's transcripts (extra `correction`): `Cascade(heard=[Correction(terms)])`.

    `vocabulary` is a `Vocabulary`, which calls may share, the path of a CSV file, or terms. `language` has the words
    that are ordinary. With `bias`, the speech-to-text services of the pipeline expect the terms of the greatest weight,
    as many as each takes: see `STT.expect_terms`.

    It works by a hook on transcripts, wherever it stands: turn-taking, displays, the model and the log get the
    corrected text, interim and final. `UserTranscript.original` and `Item.written` have the text of the service where
    it differs. Times of words stay: a term has the time of the words that it replaces. With a native engine, whose
    model has heard the audio, the log and the listeners get the corrected text.

    Raises ConfigurationError and BadInput for a malformed vocabulary, MissingExtra without the extra.
    """

    def __init__(
        self, vocabulary: Vocabulary | str | Path | Iterable[str | Term], *, language: str = "en", bias: bool = True
    ) -> None:
        if isinstance(vocabulary, str | Path):
            vocabulary = Vocabulary.load(vocabulary)
        elif not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary)
        self.corrector = Corrector(vocabulary, language)
        self._bias = bias
        self._stop: Callable[[], None] = lambda: None

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Give the speech-to-text services the terms to expect."""
        super().check_place(before, after)
        if self._bias:
            for node in (*before, *after):
                if isinstance(node, STT):
                    node.expect_terms(self.corrector.vocabulary.heaviest())

    async def open(self) -> None:
        """Set the hook."""
        self._stop = self.session.intercept(UserTranscript, self._hook)

    async def close(self) -> None:
        """Remove the hook."""
        self._stop()

    def _hook(self, frame: UserTranscript) -> UserTranscript:
        corrected = self.corrector.correct(frame.text, self._asked())
        if not corrected.changes:
            return frame
        return msgspec.structs.replace(
            frame,
            text=corrected.text,
            original=frame.original or frame.text,
            words=with_changes(frame.words, frame.text, corrected.changes),
        )

    def _asked(self) -> str:
        """Return the agent's latest words, unless the caller has spoken since."""
        for item in reversed(list(self.session.conversation)):
            if item.kind == "message":
                return item.text if item.role == "agent" else ""
        return ""


def with_changes(words: tuple[Word, ...], text: str, changes: Sequence[Change]) -> tuple[Word, ...]:
    """Return timed words with the changes of their text. Words that do not make up the text stay as they are."""
    said = "".join(word.text for word in words)
    if not words or said.strip() != text.strip():
        return words
    shift = len(said) - len(said.lstrip()) - (len(text) - len(text.lstrip()))
    found: list[Word] = []
    waiting, place = list(changes), 0
    for word in words:
        end = place + len(word.text)
        found.append(word)
        while waiting and waiting[0].end + shift <= end:
            change = waiting.pop(0)
            found = _with_new(found, end - change.end - shift, len(change.old), change.new)
        place = end
    return tuple(found)


def _with_new(words: list[Word], after: int, length: int, new: str) -> list[Word]:
    """Return words in which `length` characters, with `after` characters behind them, are replaced."""
    joined, kept = "", list(words)
    start_s = end_s = words[-1].end_s
    while kept and len(joined) < after + length:
        word = kept.pop()
        joined, start_s = word.text + joined, word.start_s
    begin = len(joined) - after - length
    return [*kept, Word(f"{joined[:begin]}{new}{joined[len(joined) - after :]}", start_s, end_s)]


__all__ = ["Change", "Corrected", "Correction", "Corrector", "Term", "Vocabulary"]
