"""`ResponseSpeech`: the speech of one response of a text-to-speech service, and where its words are in it."""

from __future__ import annotations

from ..frames import ResponseStarted, Word
from ..session.heard import SPOKEN_CHARACTERS_PER_S, cut_text
from .spoken_text import Reader, Spoken, space_after
from .word_times import WordAligner, in_proportion


class ResponseSpeech:
    """Counts the audio of one response, and times the words of the sentence in progress.

    All times are in seconds of the response's audio.
    """

    def __init__(self, response: ResponseStarted, reader: Reader | None = None) -> None:
        self.response = response
        self.reader = reader or Reader()
        self.spoken_s = 0.0
        """Seconds of audio so far."""
        self.characters = 0
        """Characters that the service was asked to speak, and that are not told as usage yet."""
        self.failure = ""
        """Why a part of the response was not spoken, "" if all was."""
        self.words = WordAligner()

    def begin(self) -> float:
        """Begin a sentence, or begin it again. Returns where its audio begins."""
        self.words.begin(self.spoken_s)
        return self.spoken_s

    @property
    def sentence_s(self) -> float:
        """Seconds of audio of the sentence in progress."""
        return self.spoken_s - self.words.begin_s

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
