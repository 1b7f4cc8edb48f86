"""Pairs of PocketSphinx decoders, and the pool from which `Recognizer` takes them.

A decoder with the words of one grammar takes 3 MB and is built in 10 ms, because it has a dictionary of its own instead
of all 135,000 words (25 MB, 130 ms). Decoders are therefore kept per grammar, and words are not removed from them.
Calls into a decoder hold the interpreter's lock. Each decodes little audio, so that an event loop in another thread
waits for milliseconds only.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...errors import MissingExtra, ServiceError
from .grammar import Grammar, model_path

MODEL_RATE = 16_000
FRAMES_PER_S = 100
DECODE_BYTES = MODEL_RATE // 10 * 2
"""Bytes of audio decoded in one call: 100 ms, which take 2 and 3 ms in the two decoders."""

# The mean of the cepstra over 100 voices of people and 12 of espeak-ng. It weighs as much in the normalisation as half
# a second of the utterance: the mean of a short word alone would be a mean of its own sounds.
_MEAN = (49.98, -0.59, -3.42, 9.17, -5.51, -1.76, -2.63, -11.2, -1.69, -5.08, 2.88, -2.1, -2.64)
_MEAN_FRAMES = 50
_ANY_WORD = "#JSGF V1.0; grammar any; public <any> = a;"


class Stretch(NamedTuple):
    """A word or phone, its first and last frame, and the log of its acoustic likelihood in nats."""

    name: str
    start: int
    end: int
    score: float

    @property
    def is_sound(self) -> bool:
        """True for words and phones, False for silence, noises and the marks of the sentence's ends."""
        return not self.name.startswith(("<", "[", "(", "+", "SIL"))


class Decoders:
    """Two decoders for an utterance: one follows the grammar, the other phones in any order.

    The second one's result shows how well the first one's words fit.
    """

    def __init__(self, grammar: Grammar | None) -> None:
        self.grammar = grammar
        if grammar is None:
            # Without the second pass over the whole utterance, which would hold the interpreter at its end.
            self._words = _sphinx_decoder(
                lm=str(model_path("en-us/en-us.lm.bin")),
                dict=str(model_path("en-us/cmudict-en-us.dict")),
                fwdflat=False,
                maxhmmpf=3_000,
                maxwpf=10,
            )
        else:
            self._words = _sphinx_decoder(lm=None, dict=None)
            with _failures():
                for word, phones in grammar.pronunciations.items():
                    self._words.add_word(word, phones, False)
                self._words.add_jsgf_string("grammar", grammar.jsgf)
                self._words.activate_search("grammar")
        self._phones = _sphinx_decoder(lm=None, dict=None)
        self._phones.add_word("a", "AH", False)
        self._phones.add_jsgf_string("any", _ANY_WORD)
        self._phones.add_allphone_file("phones", None)

    def start(self, head: bytes) -> None:
        """Begin an utterance. Its head, s16le at 16 kHz, normalises it, and is decoded later."""
        with _failures():
            mean = ",".join(f"{value:.4f}" for value in self._mean(head))
            self._phones.activate_search("phones")
            for decoder in (self._words, self._phones):
                # Forget the noise and the normalisation of the previous caller.
                decoder.reinit_feat()
                decoder.set_cmn(mean)
                decoder.start_utt()

    def decode(self, pcm: bytes) -> None:
        """Decode a piece, s16le at 16 kHz. The result does not depend on the pieces if all but the last are blocks."""
        with _failures():
            self._words.process_raw(pcm)
            self._phones.process_raw(pcm)

    def end(self) -> None:
        """End the utterance; its result stays until the next one."""
        with _failures():
            self._words.end_utt()
            self._phones.end_utt()

    def text(self) -> str:
        """Return the text of the best path; after the end, the best whole sentence of the grammar. "" without one."""
        best = self._words.hyp()
        return best.hypstr if best else ""

    def segments(self) -> tuple[list[Stretch], list[Stretch]]:
        """Return the words of the best path, and the phones of the other decoder."""
        return _segments(self._words), _segments(self._phones)

    def _mean(self, head: bytes) -> list[float]:
        if len(head) < 2:
            return list(_MEAN)
        # Only the front end matters here: the search is the smallest possible.
        self._phones.activate_search("any")
        self._phones.reinit_feat()
        self._phones.start_utt()
        self._phones.process_raw(head, full_utt=True)
        self._phones.end_utt()
        frames = len(head) // 2 * FRAMES_PER_S // MODEL_RATE
        mean = [float(value) for value in self._phones.get_cmn().split(",")]
        if not all(map(math.isfinite, mean)):  # digital silence throughout
            return list(_MEAN)
        return [
            (frames * own + _MEAN_FRAMES * usual) / (frames + _MEAN_FRAMES)
            for own, usual in zip(mean, _MEAN, strict=True)
        ]


class DecoderPool:
    """Lends pairs of decoders. Keeps at most `limit`, those in use included, and drops the longest unused first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._idle: list[Decoders] = []
        self._lent = 0

    def lend(self, grammar: Grammar | None, *, beyond_limit: bool = False) -> Decoders | None:
        """Return decoders for the grammar, made anew if none are free; None if all are lent, unless `beyond_limit`."""
        with self._lock:
            if self._lent >= self.limit and not beyond_limit:
                return None
            self._lent += 1
            for at in reversed(range(len(self._idle))):
                if self._idle[at].grammar == grammar:
                    return self._idle.pop(at)
            self._shrink()
        try:
            return Decoders(grammar)
        except BaseException:
            self.lost()
            raise

    def take_back(self, decoders: Decoders) -> None:
        """Take back decoders whose utterance has ended."""
        with self._lock:
            self._lent -= 1
            self._idle.append(decoders)
            self._shrink()

    def lost(self) -> None:
        """Count lent decoders that will not come back."""
        with self._lock:
            self._lent -= 1

    def _shrink(self) -> None:
        del self._idle[: max(0, len(self._idle) + self._lent - self.limit)]


def _sphinx_decoder(**options: Any) -> Any:
    """Return a `pocketsphinx.Decoder`, whose package has no types."""
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise MissingExtra("offline speech recognition", "local", str(error)) from error
    # Without the search for the best path through the lattice of words, which costs a quarter more and finds no
    # better paths. The normalisation is that of whole utterances until the first piece of one is decoded.
    with _failures():
        return Decoder(loglevel="FATAL", bestpath=False, cmn="batch", **options)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ServiceError(f"pocketsphinx failed: {error}") from error


def _segments(decoder: Any) -> list[Stretch]:
    # A score is in steps of 1,024 times the log of 1.0001; the wrapper has made it a power of 1.0001.
    found: Iterable[Any] = decoder.seg() or ()
    return [
        Stretch(part.word, part.start_frame, part.end_frame, 1024 * math.log(part.ascore))
        for part in found
        if part.end_frame >= part.start_frame and part.ascore > 0
    ]


def is_narrow_band(pcm: bytes) -> bool:
    """Return True for speech at 16 kHz from a line of 8 kHz: the band above 4.4 kHz is 50 dB below the speech.

    Measured: -41 dB and more in wide-band recordings, clean or noisy; -72 dB and less in telephone speech.
    """
    import numpy as np

    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / MODEL_RATE)
    high, low = power[(hz > 4_400) & (hz < 7_600)], power[(hz > 300) & (hz < 3_400)]
    return bool(len(high) and len(low) and high.mean() < 1e-5 * low.mean())


def widened(pcm: bytes) -> bytes:
    """Return narrow-band speech with the lower half of its spectrum mirrored into the empty upper half.

    The model was trained on wide-band speech. Mirrored, it understands 96 % instead of 84 % of people's sentences.
    """
    import numpy as np

    samples = np.frombuffer(pcm, "<i2").astype(np.int32) * 2
    samples[1::2] = 0
    return np.clip(samples, -32768, 32767).astype("<i2").tobytes()
