"""`SpokenWords`: the words of one context, from the times of its characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ...frames import Word
from ...frames.scripts import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]")
_SPACE, _SOLID = re.compile(r"\s*"), re.compile(r"\S*")
_NEAR = 24
"""The most characters of the sent text that may be missing between two that come."""


class Alignment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Characters, each with its start and its length in milliseconds of the audio of its message."""

    chars: tuple[str, ...] = ()
    char_start_times_ms: tuple[float, ...] = ()
    char_durations_ms: tuple[float, ...] = ()

    def timed(self) -> list[tuple[str, float, float]]:
        """Return each character with its start and end in seconds. Returns [] if the lengths of the lists differ."""
        if not len(self.chars) == len(self.char_start_times_ms) == len(self.char_durations_ms):
            return []
        triples = zip(self.chars, self.char_start_times_ms, self.char_durations_ms, strict=True)
        return [(char, start / 1000, (start + length) / 1000) for char, start, length in triples]


class SpokenWords:
    """Joins characters to words, whose times are seconds of the context's audio.

    A word that is cut between two messages is returned with the first one, in case the caller interrupts before the
    second: the text that was sent has the rest of it, and the end is estimated. Without that text, as for `sent` words
    that are spoken otherwise, it is returned with the white space that follows.

    The times of a message count from its own audio. With `absolute` they count from the first audio of all, unless they
    go back.
    """

    def __init__(self, *, absolute: bool = False) -> None:
        self._absolute = absolute
        self.audio_s = 0.0
        """Seconds of audio that have come."""
        self._text = ""  # that was sent
        self._place = 0  # of the next character in it
        self._fits = False  # the latest character was the next one
        self._told = ""  # the rest of a word that was returned
        self._end_s = 0.0
        self._word = ""
        self._word_start_s = self._word_end_s = 0.0

    def sent(self, text: str) -> None:
        """Note text that was sent."""
        self._text += text

    def take(self, characters: Sequence[tuple[str, float, float]], audio_s: float) -> tuple[Word, ...]:
        """Take the characters and the seconds of audio of a message. Returns the words that begin in it.

        A time that overlaps with an earlier one is moved behind it.
        """
        words: list[Word] = []
        begin_s = self.audio_s
        if characters and self._absolute and characters[0][1] >= self._end_s - 0.001:
            begin_s = 0.0
        elif characters:
            begin_s = max(begin_s, self._end_s - characters[0][1])
        for character, start_s, end_s in characters:
            self._end_s = max(self._end_s, begin_s + end_s)
            self._come(character)
            if character.isspace():
                words += self.rest()
                self._told = ""
            elif self._told.startswith(character):
                self._told = self._told[len(character) :]
            else:
                self._told = ""
                self._word_start_s = self._word_start_s if self._word else begin_s + start_s
                self._word += character
                self._word_end_s = begin_s + end_s
                if _UNSPACED.match(character):
                    words += self.rest()
        if self._word and self._fits:
            words += self._completed()
        self.audio_s += audio_s
        return tuple(words)

    def rest(self) -> tuple[Word, ...]:
        """Return the word in progress, if there is one."""
        if not self._word:
            return ()
        word, self._word = Word(self._word, self._word_start_s, self._word_end_s), ""
        return (word,)

    def _come(self, character: str) -> None:
        """Note that a character of the text has come."""
        if character.isspace():
            return
        begin = _SPACE.match(self._text, self._place).end()  # type: ignore[union-attr]
        place = self._text.find(character, begin, begin + _NEAR)
        self._fits = place == begin
        if place >= 0:
            self._place = place + len(character)

    def _completed(self) -> tuple[Word, ...]:
        """Return the word in progress with the rest of it."""
        self._told = _SOLID.match(self._text, self._place)[0]  # type: ignore[index]
        self._word_end_s += len(self._told) * (self._word_end_s - self._word_start_s) / len(self._word)
        self._word += self._told
        return self.rest()
