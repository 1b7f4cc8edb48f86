"""`ResponseSpeech`: the speech of one response of a text-to-speech service, and where its words are in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from math import isfinite

from ..errors import ServiceError
from ..frames import ResponseStarted, Word
from ..frames.scripts import UNSPACED
from ..session.ledger import SPOKEN_CHARACTERS_PER_S, cut_text
from .spoken_text import Reader, Spoken, space_after

_UNSPACED = re.compile(f"[{UNSPACED}]")
_STEP_S = 1e-6  # the least time between the starts of two words
_SKIP = 2  # words that may lie between two timed words
_MAX_PENDING = 64


class WordAligner:
    """Walks through the text of a response as its words are timed. The words it returns, joined, are the text.

    Vendors leave out spaces and punctuation, change case, join words or give single characters, speak numbers as
    words, and lose or add words. Each word is looked for at the present place of the text, or a few words behind it.
    Words that are not found there get the text up to the next word that is; if there is none, they are `misfits`.
    The words said for a number or an address give one word: the number or the address.
    """

    def __init__(self) -> None:
        self.text = ""
        """The text, as the model has written it up to now."""
        self.place = 0
        """Characters of the text whose words were timed."""
        self.timed = False
        """True once the vendor has timed words of the present sentence."""
        self.misfits: list[str] = []
        """Words that are not in the text."""
        self._letters: list[str] = []
        self._spans: list[tuple[int, int]] = []  # of the letters in the text
        self._next = 0  # the first letter that was not timed
        self._starts: set[int] = set()  # letters that begin a word said for something else
        self._new: list[tuple[int, Spoken]] = []
        self._waiting: list[Word] = []
        self.begin_s = 0.0
        """Where the present sentence begins, in seconds of the response's audio."""
        self._first = True
        self._start_s = -1.0
        self._end_s = 0.0
        self._held_s: float | None = None  # where the words said for something begin, of which some were timed

    def add(self, text: Spoken) -> None:
        """Append a piece of text."""
        self._new.append((len(self.text), text))
        self.text += text.shown

    def _read(self) -> None:
        """Read the letters of the new text. Only vendors that time words need them."""
        for base, text in self._new:
            for shown, said in text.pieces:
                if said == shown:
                    for at, character in enumerate(shown, base):
                        for letter in _letters(character):
                            self._letters.append(letter)
                            self._spans.append((at, at + 1))
                else:
                    self._read_words(said, base, base + len(shown))
                base += len(shown)
        self._new.clear()

    def _read_words(self, said: str, start: int, end: int) -> None:
        """Read words that are said for the text between two places. Only the last letter is worth that text."""
        for word in said.split():
            self._starts.add(len(self._letters))
            for letter in (letter for character in word for letter in _letters(character)):
                self._letters.append(letter)
                self._spans.append((start, start))
        if self._spans and self._spans[-1] == (start, start):
            self._spans[-1] = (start, end)

    def begin(self, begin_s: float) -> None:
        """Begin a sentence, whose audio begins at `begin_s` of the response's audio."""
        self.begin_s, self._end_s, self.timed = begin_s, begin_s, False
        self._first, self._held_s = True, None

    def align(self, words: Iterable[Word]) -> tuple[Word, ...]:
        """Return the words as the text has them. Words that do not fit wait for the next one that does."""
        self._read()
        found: list[Word] = []
        for word in words:
            self.timed = True
            letters = "".join(map(_letters, word.text))
            if not letters:
                continue
            place = self._find(letters)
            if place is None:
                if len(self._waiting) < _MAX_PENDING:
                    self._waiting.append(word)
                continue
            if self._waiting:
                self._settle(place, found)
            self._next = place + len(letters)
            end = self._end_of(self._next)
            if end > self.place:
                found.append(self._word(end, word.start_s, word.end_s))
            elif self._held_s is None:
                self._held_s = word.start_s
        return tuple(found)

    def guess(self, words: Iterable[Word]) -> tuple[Word, ...]:
        """Return the words as the text has them, and stay at the present place: better times will follow."""
        state = self.place, self._next, self._start_s, self._end_s, self._first, self._held_s, self.timed
        found = (*self.align(words), *self.rest(self._end_s))
        self.place, self._next, self._start_s, self._end_s, self._first, self._held_s, self.timed = state
        return found

    def rest(self, end_s: float) -> tuple[Word, ...]:
        """End a sentence whose audio ends at `end_s`. Returns the words of the text that were not timed."""
        self._read()
        found: list[Word] = []
        if self._waiting:
            self._settle(len(self._letters), found)
        self._next = len(self._letters)
        if rest := self.text[self.place :]:
            begin_s, end_s = self._end_s, max(self._end_s, end_s)
            words = in_proportion(rest, begin_s, end_s) or (Word(rest, begin_s, end_s),)
            found += (self._word(self.place + len(word.text), word.start_s, word.end_s) for word in words)
        return tuple(found)

    def skip(self) -> None:
        """Go to the end of the text, whose words were timed without the vendor. Nobody needs its letters."""
        self._new.clear()
        self.place, self._next = len(self.text), len(self._letters)

    def replace_rest(self, place: int, said: str) -> None:
        """Replace the text from a place on by `said`, the part of it that was spoken."""
        self._read()
        self._waiting.clear()
        self.text = self.text[:place] + said
        self.place = len(self.text)
        while self._spans and self._spans[-1][1] > self.place:
            self._letters.pop()
            self._spans.pop()
            self._starts.discard(len(self._spans))
        self._next = len(self._letters)

    def _word(self, end: int, start_s: float, end_s: float) -> Word:
        if self._first:  # the silence before the first word belongs to it
            start_s, self._first = self.begin_s, False
        elif self._held_s is not None:
            start_s = self._held_s
        self._held_s = None
        if not isfinite(start_s):
            start_s = self._end_s
        start_s = max(start_s, self._start_s + _STEP_S)
        end_s = max(end_s, start_s) if isfinite(end_s) else start_s
        self._start_s, self._end_s = start_s, end_s
        text, self.place = self.text[self.place : end], end
        return Word(text, start_s, end_s)

    def _settle(self, place: int, found: list[Word]) -> None:
        """Give the waiting words the text before the letter at `place`."""
        waiting, self._waiting = self._waiting, []
        end = self._end_of(place)
        skipped = self.text[self.place : self._spans[place][0] if place < len(self._spans) else None]
        if not _may_be_read_as(skipped, "".join(word.text for word in waiting)):
            self.misfits += [word.text for word in waiting]
        if place == self._next or end <= self.place:
            return
        self._next = place
        found.append(self._word(end, waiting[0].start_s, waiting[-1].end_s))

    def _find(self, letters: str) -> int | None:
        """Return the number of the letter at which a word begins, None if it is not near."""
        size, limit = len(letters), len(self._letters)
        if self._matches(self._next, letters):
            return self._next
        waiting = len(self._waiting)
        skipped, most = 0.0, _SKIP if waiting < 2 else _SKIP * (waiting + 1)
        for place in range(self._next + 1, limit - size + 1):
            if not self._is_boundary(place):
                continue
            skipped += 0.25 if self._is_unspaced(place) else 1.0
            if skipped > most:
                return None
            if self._matches(place, letters) and (size > 3 or self._is_boundary(place + size)):
                return place
        return None

    def _matches(self, place: int, letters: str) -> bool:
        return "".join(self._letters[place : place + len(letters)]) == letters

    def _is_boundary(self, place: int) -> bool:
        """Return True if a word may begin at this letter."""
        if not 0 < place < len(self._letters) or place in self._starts:
            return True
        return self._spans[place - 1][1] < self._spans[place][0] or self._is_unspaced(place)

    def _is_unspaced(self, place: int) -> bool:
        return _UNSPACED.match(self.text, self._spans[place][0]) is not None

    def _end_of(self, place: int) -> int:
        """Return the end of the text before the letter at `place`, with the marks and the space that follow it."""
        if not place:
            return 0
        end = self._spans[place - 1][1]
        limit = self._spans[place][0] if place < len(self._spans) else len(self.text)
        if limit <= end:
            return end
        after = re.compile(r"\S*\s*").match(self.text, end, limit)
        return after.end() if after else end


def _may_be_read_as(text: str, words: str) -> bool:
    """Return True for a text that has numbers or signs, or that has much in common with the words."""
    if any(c.isnumeric() or unicodedata.category(c)[0] == "S" or c in "&%@#/+" for c in text):
        return True
    one, other = ("".join(map(_letters, part)) for part in (text, words))
    return bool(one) and SequenceMatcher(None, one, other, autojunk=False).ratio() > 0.4


def in_proportion(text: str, start_s: float, end_s: float) -> tuple[Word, ...]:
    """Return word times in proportion to the characters, for services without word times."""
    total, place = len(text), 0
    words = []
    for piece in re.findall(r"\s*\S+\s*", text):
        begin = start_s + (end_s - start_s) * place / total
        place += len(piece)
        words.append(Word(piece, begin, start_s + (end_s - start_s) * place / total))
    return tuple(words)


def _letters(character: str) -> str:
    """Return what two spellings of a character have in common: its letters or digits, without case and accents."""
    if character.isascii():
        return character.lower() if character.isalnum() else ""
    plain = unicodedata.normalize("NFKD", character.casefold())
    return "".join(filter(str.isalnum, plain))


class ResponseSpeech:
    """Counts the audio of one response, and times the words of the sentence in progress.

    All times are in seconds of the response's audio.
    """

    def __init__(self, response: ResponseStarted, reader: Reader | None = None) -> None:
        self.response = response
        self.reader = reader or Reader()
        self.spoken_s = 0.0
        """Seconds of audio that have been spoken."""
        self.characters = 0
        """Characters that the service was asked to speak, and that are not reported as usage yet."""
        self.taken = 0
        """Characters of the texts that have come, spoken or not."""
        self.failure = ""
        """Why a part of the response was not spoken, "" if all was."""
        self.words = WordAligner()

    def take(self, text: str) -> int:
        """Count the next text of the response. Returns the number of characters before it."""
        place, self.taken = self.taken, self.taken + len(text)
        return place

    def begin(self) -> float:
        """Begin a sentence, or begin it again. Returns where its audio begins."""
        self.words.begin(self.spoken_s)
        return self.spoken_s

    @property
    def sentence_s(self) -> float:
        """Seconds of audio of the sentence in progress."""
        return self.spoken_s - self.words.begin_s

    def check_sentence(self, sentence: Spoken, longest_s: float) -> None:
        """Raise ServiceError if the sentence in progress has no audio, or more than `longest_s` seconds of it."""
        if not self.sentence_s:
            raise ServiceError("the service gave no audio")
        if self.sentence_s > longest_s:
            characters = len(sentence.text)
            raise ServiceError(f"more than {longest_s:g} s of audio for {characters} characters: the rest is cut")

    def times(self, sentence: Spoken, timed: tuple[Word, ...]) -> tuple[Word, ...]:
        """Return the times of words that are known with a chunk: `timed` by the service, from the text's start.

        Without timed words, an estimate, in case the caller interrupts before the whole length is known.
        """
        words = self.words
        if timed:
            begin_s = words.begin_s
            return words.align(Word(w.text, w.start_s + begin_s, w.end_s + begin_s) for w in timed)
        if words.timed:
            return ()
        return self._estimated(sentence, len(sentence.text) / SPOKEN_CHARACTERS_PER_S)

    def times_of_rest(self, sentence: Spoken) -> tuple[Word, ...]:
        """End a sentence that was spoken. Returns the times of its words that the service has not timed."""
        if self.words.timed:
            return self.words.rest(self.spoken_s)
        words = self._estimated(sentence, self.sentence_s)
        self.words.skip()
        return words

    def _estimated(self, sentence: Spoken, length_s: float) -> tuple[Word, ...]:
        """Return the times of a sentence's words in proportion to its spoken characters."""
        begin_s = self.words.begin_s
        words = in_proportion(sentence.text, begin_s, begin_s + length_s)
        return words if sentence.shown == sentence.text else self.words.guess(words)

    def leave_out_rest(self, sentence: Spoken) -> tuple[str, tuple[Word, ...]]:
        """End a sentence that has failed. Returns the part of it that was spoken, and the times of its words."""
        words, times = self.words, tuple[Word, ...]()
        begin = len(words.text) - len(sentence.shown)
        if words.timed:
            said = words.text[begin : words.place].rstrip()
        else:
            heard = cut_text(sentence.text, int(self.sentence_s * SPOKEN_CHARACTERS_PER_S))
            said = sentence.up_to(len(heard)).shown.rstrip()
            times = in_proportion(said, words.begin_s, self.spoken_s)
        said += space_after(sentence.shown) if said else ""
        words.replace_rest(begin, said)
        return said, times
