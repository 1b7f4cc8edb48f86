"""`SphinxSTT`: speech recognition by PocketSphinx, in the process."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import ConfigurationError
from ...frames import Word
from ...processors.kernel.threads import RECOGNITION
from ..stt import STT, Transcription
from .grammar import Grammar
from .recognizer import Recognition, Recognizer

STEP_S = 0.2
"""Seconds of audio that are decoded at once. Each step costs a switch between threads."""

ACCEPT_THRESHOLD = 0.75
"""Clear utterances of the grammar have a confidence above 0.9; fragments of speech in a crowd reach 0.7."""


class SphinxSTT(STT):
    """Recognises English with PocketSphinx (extra `local`), in a thread, while the caller speaks.

    `phrases`, with `[optional]` parts and `(one|other)` choices, or a JSGF `grammar` are the caller's possible
    utterances. Other speech is not forced into them: if the confidence (0 to 1) is below `accept_threshold`, the
    transcript is empty, because "I did not catch that" is better than a guess. Without phrases and grammar the open
    vocabulary of the wheel's model is used, which works for clear voices only.

    Raises BadInput, naming the problem, for a malformed grammar or a word without a pronunciation; ConfigurationError
    if both phrases and a grammar are given; MissingExtra without the extra.
    """

    model = "pocketsphinx"
    billing = "none"

    def __init__(
        self,
        *,
        phrases: Iterable[str] | None = None,
        grammar: str | Grammar | None = None,
        accept_threshold: float = ACCEPT_THRESHOLD,
    ) -> None:
        super().__init__()
        if phrases is not None and grammar is not None:
            raise ConfigurationError("SphinxSTT takes phrases or a grammar, not both")
        if phrases is not None:
            grammar = Grammar.from_phrases(phrases)
        elif isinstance(grammar, str):
            grammar = Grammar.from_jsgf(grammar)
        self._recognizer = Recognizer(grammar, accept_threshold=accept_threshold)
        self._step = bytearray()
        self._interim = ""

    async def begin(self) -> None:
        """Begin an utterance. An unfinished one is dropped."""
        self._recognizer.start(self.sample_rate)
        self._step.clear()
        self._interim = ""

    async def feed(self, pcm: bytes) -> str:
        """Decode more audio. Returns all words of the utterance if they have changed, else ""."""
        self._step += pcm
        if len(self._step) < STEP_S * 2 * self.sample_rate:
            return ""
        said = await RECOGNITION.run(self._decode, bytes(self._step))
        self._step.clear()
        if said == self._interim:
            return ""
        self._interim = said
        return said

    def _decode(self, pcm: bytes) -> str:
        self._recognizer.feed(pcm)
        return self._recognizer.partial()

    async def finish(self) -> Transcription:
        """Return the transcript, with the times of its words."""
        found = await RECOGNITION.run(self._end, bytes(self._step))
        self._step.clear()
        words = tuple(Word(w.word + " ", w.start_s, w.end_s) for w in found.words)
        return Transcription(text=found.text, confidence=found.confidence, language="en", words=words)

    def _end(self, pcm: bytes) -> Recognition:
        self._recognizer.feed(pcm)
        return self._recognizer.finish()
