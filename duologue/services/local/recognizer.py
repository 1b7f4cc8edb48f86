"""`Recognizer`: offline speech recognition with PocketSphinx, with a confidence that rejects wrong guesses."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...audio.pcm import check_pcm, check_whole
from ...audio.resample import Resampler
from ...errors import BadInput, ConfigurationError, IllegalState
from ._decoders import DECODE_BYTES, FRAMES_PER_S, MODEL_RATE, DecoderPool, Decoders, Stretch, is_narrow_band, widened
from .grammar import Grammar, model_path

__all__ = ["MAX_UTTERANCE_S", "Grammar", "Recognition", "Recognizer", "TimedWord"]

MAX_UTTERANCE_S = 30
"""The longest utterance, in seconds. Later audio is not decoded."""
MAX_GRAMMAR_DECODERS = 16
"""Pairs of decoders of all grammars in the process: 6 MB each, 100 MB together."""
MAX_OPEN_DECODERS = 2
"""Pairs of decoders of the open vocabulary: 95 MB each."""
MIN_SAMPLE_RATE = 8_000

_MAX_UTTERANCE_BYTES = MAX_UTTERANCE_S * MODEL_RATE * 2
# Bytes of the head by which an utterance is normalised before it is decoded. With 0.8 s there are 1.5 times as many
# errors.
_HEAD_BYTES = int(1.2 * MODEL_RATE) * 2

# The evidence for the words before their fit is known: the constant of the regression, and 1 more for the open
# vocabulary.
_GRAMMAR_EVIDENCE = 7.4
_OPEN_EVIDENCE = 8.4
# A word of 1.5 s is noise that was stretched into a word: the longest of 4,000 words of people took 1.0 s.
_LONGEST_WORD = int(1.5 * FRAMES_PER_S)

_grammar_decoders = DecoderPool(MAX_GRAMMAR_DECODERS)
_open_decoders = DecoderPool(MAX_OPEN_DECODERS)


class TimedWord(NamedTuple):
    """A word and its place in the utterance, in seconds from the first sample."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Recognition:
    """The result for an utterance. `text` is "" if it was not understood.

    `confidence` (0 to 1) is the probability of the words. `rejected` is the best guess below the threshold, for logs
    and for tuning. Most of these guesses are wrong.
    """

    text: str = ""
    confidence: float = 0.0
    words: tuple[TimedWord, ...] = ()
    rejected: str = ""


class Recognizer:
    """Recognises English utterances of a grammar or, without one, of the model's open vocabulary.

    A grammar alone would find a sentence in any sound. A second decoder therefore follows the phones in any order. A
    sentence is accepted if it explains the sound nearly as well, and if its words cover the speech and nothing else:
    its confidence must reach `accept_threshold`. Raises ConfigurationError unless that lies between 0 and 1.

    Either `recognize` a whole utterance, or `start`, `feed` and `finish` it, which does most of the work while the
    caller speaks. The result does not depend on the pieces. Of an utterance longer than `MAX_UTTERANCE_S` only the
    first part is decoded; with a grammar it is not understood.

    Objects are cheap: they share decoders, which each object holds from 1.2 s after `start` until `finish`. While
    `MAX_GRAMMAR_DECODERS` (or `MAX_OPEN_DECODERS`) are in use, the audio waits, and `finish` decodes it with an
    additional decoder: utterances never wait for each other. Any thread may call, one at a time for each object.
    """

    def __init__(self, grammar: Grammar | None = None, *, accept_threshold: float = 0.5) -> None:
        if not 0 <= accept_threshold <= 1:
            raise ConfigurationError(f"accept_threshold is {accept_threshold!r}: it must be from 0 to 1")
        model_path("en-us")  # fails now, and not in the first utterance, if the extra is missing
        self._grammar = grammar
        self._threshold = accept_threshold
        self._utterance: _Decoding | None = None

    def recognize(self, pcm: bytes, sample_rate: int = MODEL_RATE) -> Recognition:
        """Recognise a whole utterance, mono s16le. Raises BadInput for a split sample or a rate below 8,000 Hz."""
        check_pcm(pcm, sample_rate)
        self.start(sample_rate)
        self.feed(pcm)
        return self.finish()

    def start(self, sample_rate: int = MODEL_RATE) -> None:
        """Begin an utterance; one in progress is dropped. Raises BadInput for a rate below 8,000 Hz."""
        self.cancel()
        if sample_rate < MIN_SAMPLE_RATE:
            raise BadInput(f"sample_rate is {sample_rate!r}: speech recognition needs {MIN_SAMPLE_RATE} Hz")
        self._utterance = _Decoding(self._grammar, sample_rate)

    def feed(self, pcm: bytes) -> None:
        """Take the next piece of any size, mono s16le. Raises IllegalState before `start`."""
        utterance = self._started("feed")
        check_whole(pcm)
        utterance.add(pcm)

    def partial(self) -> str:
        """Return the words, which may still change, if they would be accepted, else "". There are none before 1.2 s."""
        return self._started("partial").recognition(self._threshold).text

    def finish(self) -> Recognition:
        """End the utterance and return its result. Raises IllegalState before `start`."""
        utterance = self._started("finish")
        self._utterance = None
        utterance.end()
        recognition = utterance.recognition(self._threshold)
        utterance.return_decoders()
        return recognition

    def cancel(self) -> None:
        """Drop an utterance in progress."""
        self._utterance = None

    def _started(self, action: str) -> _Decoding:
        if self._utterance is None:
            raise IllegalState(f"Recognizer.{action}: no utterance has begun, call start first")
        return self._utterance


class _Decoding:
    """An utterance in progress: its audio that is not decoded yet, and its decoders once it has them."""

    def __init__(self, grammar: Grammar | None, sample_rate: int) -> None:
        self._grammar = grammar
        self._pool = _open_decoders if grammar is None else _grammar_decoders
        self._resampler = Resampler(sample_rate, MODEL_RATE)
        self._waiting = bytearray()
        self._size = 0
        self._ended = False
        self._is_narrow = False
        self._decoders: Decoders | None = None
        self._lease: weakref.finalize[..., _Decoding] | None = None

    def add(self, pcm: bytes) -> None:
        """Take a piece, and decode whole blocks if decoders are free."""
        self._take(self._resampler.process(pcm))
        if len(self._waiting) >= _HEAD_BYTES:
            self._borrow(beyond_limit=False)
        self._decode(len(self._waiting) // DECODE_BYTES * DECODE_BYTES)

    def end(self) -> None:
        """Decode the rest."""
        self._take(self._resampler.flush())
        if self._size:
            self._borrow(beyond_limit=True)
            self._decode(len(self._waiting))
        if self._decoders:
            self._decoders.end()
        self._ended = True

    def recognition(self, threshold: float) -> Recognition:
        """Return the result for the audio that was fed, after the end for the whole utterance."""
        if not self._decoders or (self._grammar and self._size > _MAX_UTTERANCE_BYTES):
            return Recognition()
        text = self._decoders.text()
        words, phones = self._decoders.segments()
        spoken = [word for word in words if word.is_sound]
        if not text or not spoken:
            return Recognition()
        # Audio after the last finished word may be the next word.
        end = None if self._ended else spoken[-1].end + 1
        confidence = _confidence(words, phones, end, _OPEN_EVIDENCE if self._grammar is None else _GRAMMAR_EVIDENCE)
        if confidence < threshold:
            return Recognition(confidence=confidence, rejected=text)
        timed = [
            TimedWord(word.name.partition("(")[0], word.start / FRAMES_PER_S, (word.end + 1) / FRAMES_PER_S)
            for word in spoken
        ]
        return Recognition(text, confidence, tuple(timed))

    def return_decoders(self) -> None:
        """Give the decoders back for the next utterance."""
        if self._decoders and self._lease:
            self._lease.detach()
            self._pool.take_back(self._decoders)
            self._decoders = None

    def _take(self, pcm: bytes) -> None:
        self._waiting += pcm[: max(0, _MAX_UTTERANCE_BYTES - self._size)]
        self._size += len(pcm)

    def _borrow(self, *, beyond_limit: bool) -> None:
        if self._decoders:
            return
        decoders = self._pool.lend(self._grammar, beyond_limit=beyond_limit)
        if decoders:
            # The decoders of a dropped utterance are in mid-utterance, and are dropped with it.
            self._lease = weakref.finalize(self, self._pool.lost)
            self._decoders = decoders
            head = bytes(self._waiting[:_HEAD_BYTES])
            self._is_narrow = is_narrow_band(head)
            decoders.start(widened(head) if self._is_narrow else head)

    def _decode(self, size: int) -> None:
        if not self._decoders:
            return
        for at in range(0, size, DECODE_BYTES):
            block = bytes(self._waiting[at : min(size, at + DECODE_BYTES)])
            self._decoders.decode(widened(block) if self._is_narrow else block)
        del self._waiting[:size]


def _confidence(words: Sequence[Stretch], phones: Sequence[Stretch], end: int | None, evidence: float) -> float:
    """Return the probability of the words, given the phones of the same audio, up to the frame `end` if given.

    A logistic regression on three figures: how much worse the words fit than the phones (nats per frame of speech), the
    fraction of the speech without words, and the fraction of the words without speech. Fitted on 1,080 right and 1,300
    wrong guesses: people and espeak-ng, whole sentences and parts, at 16 and 8 kHz, in noise and among other voices.
    """
    import numpy as np

    if max(word.end - word.start for word in words if word.is_sound) >= _LONGEST_WORD:
        return 0.0
    frames = 1 + max(part.end for part in (*words, *phones))
    lag, speech, said = np.zeros(frames), np.zeros(frames, bool), np.zeros(frames, bool)
    for part in phones:
        lag[part.start : part.end + 1] = part.score / (part.end - part.start + 1)
        speech[part.start : part.end + 1] = part.is_sound
    for part in words:
        lag[part.start : part.end + 1] -= part.score / (part.end - part.start + 1)
        said[part.start : part.end + 1] = part.is_sound
    lag, speech, said = lag[:end], speech[:end], said[:end]
    either = speech | said
    missed, made_up = np.mean(speech[either] & ~said[either]), np.mean(said[either] & ~speech[either])
    evidence -= float(2.7 * np.mean(lag[either]) + 14.5 * missed + 13.7 * made_up)
    return 1 / (1 + math.exp(-max(-50.0, evidence)))
