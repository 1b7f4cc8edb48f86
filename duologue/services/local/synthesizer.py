"""`Synthesizer`: offline speech synthesis with espeak-ng, streamed, with word times."""

from __future__ import annotations

import difflib
import functools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

from ...errors import BadInput, ConfigurationError, ServiceError
from ...frames import Word
from . import _espeak
from ._espeak import WordEvent
from ._spoken_text import WordStarts, chunks, without_controls, word_shares

ESPEAK_RATE = 22050
MAX_TEXT_LENGTH = 5_000
"""The longest text of one speech, in characters."""
MAX_SPEECH_S = 1_200
"""The longest speech, in seconds: 53 MB if nobody reads it. 5,000 characters of prose take 320 s by default."""
MAX_WAITING_TEXTS = 1_000
"""Texts that may wait for espeak-ng in the whole process."""
MAX_END_PAUSE_S = 0.15
"""Seconds kept of espeak-ng's pause after the last word, which takes 0.30 s after a full stop, 0.15 s after a comma."""

_RATES_WPM = range(80, 451)
_PITCHES = range(100)
_VOLUMES = range(201)
_AUDIBLE = 32  # -60 dBFS


@dataclass(frozen=True)
class EspeakVoice:
    """A voice: its name for `Synthesizer`, its main language (BCP 47), its gender, and a description."""

    name: str
    language: str
    gender: str
    description: str


@dataclass(frozen=True)
class Variant:
    """A timbre that every voice can take: `Synthesizer(f"{voice.name}+{variant.name}")`."""

    name: str
    gender: str


@dataclass(frozen=True)
class SpeechPiece:
    """A part of a speech: mono s16le at 22,050 Hz, and the words that begin in it (one, seldom more).

    The texts of a speech's words, joined, are its stripped text. A word's time excludes the silence after it.
    """

    audio: bytes
    words: tuple[Word, ...]


def voices() -> tuple[EspeakVoice, ...]:
    """Return all voices in the order of their names. Raises MissingExtra without the `local` extra."""
    return tuple(voice for voice, _ in _catalogue().voices.values())


def variants() -> tuple[Variant, ...]:
    """Return all variants in the order of their names. Raises MissingExtra without the `local` extra."""
    return tuple(_catalogue().variants.values())


class Synthesizer:
    """Speaks text with one voice. Safe to use from many threads.

    `voice` is the name of a voice or a language code, alone or with a variant: "en-us", "de", "en-gb+f3". `rate_wpm`
    80 to 450, `pitch` 0 to 99, `volume` 0 to 200 (above 100 it may distort). Raises ConfigurationError for unknown
    voices and values out of range, MissingExtra without the `local` extra.

    Equal text gives equal bytes, whatever was spoken before. espeak-ng can speak one text at a time: the texts of the
    whole process are spoken in the order of their arrival, about 500 times faster than real time.
    """

    def __init__(self, voice: str = "en-us", *, rate_wpm: int = 175, pitch: int = 50, volume: int = 100) -> None:
        _espeak.locate()
        self._identifier, self.voice = _resolve(voice)
        self.rate_wpm = _checked("rate_wpm", rate_wpm, _RATES_WPM)
        self.pitch = _checked("pitch", pitch, _PITCHES)
        self.volume = _checked("volume", volume, _VOLUMES)

    def synthesize(self, text: str) -> Speech:
        """Return the speech of `text`, which is made during its iteration; an empty one for a text without words.

        The text is spoken as written, without markup. Raises BadInput at once for a text of more than MAX_TEXT_LENGTH
        characters, and during the iteration for a speech longer than MAX_SPEECH_S.
        """
        if len(text) > MAX_TEXT_LENGTH:
            raise BadInput(f"text of {len(text)} characters: at most {MAX_TEXT_LENGTH} can be spoken at once")
        return Speech(_Synthesis(self, text.strip()))


class Speech(Iterator[SpeechPiece]):
    """The speech of one text, piece by piece, each as soon as it is made.

    The first `next` starts the synthesis in a thread of its own, which does not wait for the consumer. Closing or
    dropping this object aborts it. Any thread may call `close()`; it ends a wait for the next piece.
    """

    def __init__(self, utterance: _Synthesis) -> None:
        self._utterance = utterance
        self._begun = False
        if not utterance.text:
            self.close()

    def __next__(self) -> SpeechPiece:
        if self._utterance.abandoned:
            raise StopIteration
        if not self._begun:
            self._begun = True
            _worker.submit(self._utterance)
        made = self._utterance.made.get()
        if isinstance(made, SpeechPiece):
            return made
        self.close()
        raise made or StopIteration

    def close(self) -> None:
        """End the speech: no further pieces follow."""
        self._utterance.abandoned = True
        self._utterance.made.put(None)

    def __del__(self) -> None:
        self._utterance.abandoned = True


class _Synthesis:
    """One synthesis: its text and the queue of its pieces. The queue ends with None, or with an error and None."""

    def __init__(self, settings: Synthesizer, text: str) -> None:
        self.settings = settings
        self.text = text
        # Bounded by MAX_SPEECH_S of audio.
        self.made: SimpleQueue[SpeechPiece | BaseException | None] = SimpleQueue()
        self.abandoned = False

    def run(self) -> None:
        """Synthesise to the end, or until abandoned. Errors go to the consumer and are not raised."""
        try:
            if not self.abandoned:
                self._synthesize()
        except BaseException as error:
            self.made.put(error)
        finally:
            self.made.put(None)

    def _synthesize(self) -> None:
        settings = self.settings
        cutter = _Cutter(self.text)
        parts = list(chunks(without_controls(self.text)))
        with _espeak.fresh() as library:
            library.select(
                settings._identifier, rate_wpm=settings.rate_wpm, pitch=settings.pitch, volume=settings.volume
            )
            start = 0
            for number, part in enumerate(parts, 1):
                cutter.begin_part(start)
                start += len(part)
                last = number == len(parts)
                if not library.speak(part, end_pause=last, sample_rate=ESPEAK_RATE, on_audio=self._sink(cutter)):
                    return
        for piece in cutter.finish():
            self.made.put(piece)

    def _sink(self, cutter: _Cutter) -> _espeak.OnAudio:
        def receive(audio: bytes, words: list[WordEvent]) -> bool:
            for piece in cutter.feed(audio, words):
                self.made.put(piece)
            if cutter.samples > MAX_SPEECH_S * ESPEAK_RATE:
                raise BadInput(f"text of {len(self.text)} characters speaks for longer than {MAX_SPEECH_S} s")
            return not self.abandoned

        return receive


class _Cutter:
    """Cuts the stream of audio at the starts of words. A word is returned once its end is known."""

    def __init__(self, text: str) -> None:
        self.samples = 0
        self._text = text
        self._starts = WordStarts(text)
        self._part_index = 0
        self._part_sample = 0
        self._pending = bytearray()
        self._pending_sample = 0
        self._word_index = 0
        self._word_sample: int | None = None
        self._guess: tuple[int, int] | None = None  # the start of a word that the next event may correct

    def begin_part(self, index: int) -> None:
        """Begin the speech of the text from `index` on."""
        self._part_index = index
        self._part_sample = self.samples

    def feed(self, audio: bytes, words: Iterable[WordEvent]) -> Iterator[SpeechPiece]:
        """Take audio with the words that begin in it. Yields the pieces that are complete."""
        self._pending += audio
        self.samples += len(audio) // 2
        for event in words:
            found = self._starts.find(self._part_index + event.index)
            if found is None:
                continue
            index, certain = found
            if self._guess and self._guess[0] != index:
                yield from self._begin_word(*self._guess)
            self._guess = None
            if certain:
                yield from self._begin_word(index, self._part_sample + event.sample)
            else:
                self._guess = index, self._part_sample + event.sample

    def finish(self) -> Iterator[SpeechPiece]:
        """Yield the last word with at most MAX_END_PAUSE_S of silence after it; nothing if all was silence."""
        if self._guess:
            yield from self._begin_word(*self._guess)
        audible = _audible_bytes(self._pending)
        if audible or self._word_index:
            del self._pending[audible + int(MAX_END_PAUSE_S * ESPEAK_RATE) * 2 :]
            yield self._cut(len(self._pending), len(self._text))

    def _begin_word(self, index: int, sample: int) -> Iterator[SpeechPiece]:
        if self._word_sample is None:
            self._word_sample = sample
        elif index > self._word_index:
            yield self._cut((sample - self._pending_sample) * 2, index)
            self._word_index, self._word_sample = index, sample

    def _cut(self, length: int, until: int) -> SpeechPiece:
        audio = bytes(self._pending[:length])
        start_s = (self._word_sample or 0) / ESPEAK_RATE
        end_s = max((self._pending_sample + _audible_bytes(audio) // 2) / ESPEAK_RATE, start_s)
        del self._pending[:length]
        self._pending_sample += len(audio) // 2
        words: list[Word] = []
        for text, share in word_shares(self._text[self._word_index : until]):
            word_start_s = words[-1].end_s if words else start_s
            words.append(Word(text, word_start_s, word_start_s + share * (end_s - start_s)))
        return SpeechPiece(audio, tuple(words))


def _audible_bytes(audio: bytes | bytearray) -> int:
    """Return the length of `audio` up to its last audible sample, in bytes."""
    import numpy as np

    audible = np.flatnonzero(np.abs(np.frombuffer(bytes(audio), np.int16).astype(np.int32)) > _AUDIBLE)
    return (int(audible[-1]) + 1) * 2 if audible.size else 0


class _Worker:
    """Synthesises texts one after the other, in the order of their arrival, in a thread that ends without work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Synthesis] = deque()
        self._running = False

    def submit(self, utterance: _Synthesis) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING_TEXTS:
                raise ServiceError(f"{MAX_WAITING_TEXTS} texts wait for espeak-ng already")
            self._waiting.append(utterance)
            if not self._running:
                threading.Thread(target=self._run, name="espeak-ng", daemon=True).start()
                self._running = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                utterance = self._waiting.popleft()
            utterance.run()


_worker = _Worker()


@dataclass(frozen=True)
class _Catalogue:
    voices: dict[str, tuple[EspeakVoice, _espeak.Listed]]
    variants: dict[str, Variant]
    languages: dict[str, str]  # by language code, the name of the voice that fits best


@functools.cache
def _catalogue() -> _Catalogue:
    with _espeak.fresh() as library:
        listed_voices, listed_variants = library.voices(), library.variants()
    found: dict[str, tuple[EspeakVoice, _espeak.Listed]] = {}
    best: dict[str, tuple[int, str]] = {}
    for listed in listed_voices:
        name = listed.identifier.rpartition("/")[2].lower()
        found[name] = EspeakVoice(name, listed.languages[0][1], listed.gender, listed.description), listed
        for priority, language in listed.languages:
            best[language] = min(best.get(language, (priority, name)), (priority, name))
    by_name = {listed.identifier.removeprefix("!v/"): listed for listed in listed_variants}
    return _Catalogue(
        dict(sorted(found.items())),
        {name: Variant(name, listed.gender) for name, listed in sorted(by_name.items())},
        {language: name for language, (_, name) in best.items()},
    )


def _resolve(wanted: str) -> tuple[str, str]:
    """Return espeak-ng's identifier of a voice with its variant, and its normal name."""
    catalogue = _catalogue()
    base, plus, variant = wanted.partition("+")
    name = base.lower()
    name = name if name in catalogue.voices else catalogue.languages.get(name, name)
    if name not in catalogue.voices:
        raise _unknown("voice", base, [*catalogue.voices, *catalogue.languages])
    identifier = catalogue.voices[name][1].identifier
    if not plus:
        return identifier, name
    for known in catalogue.variants:
        if known.lower() == variant.lower():
            return f"{identifier}+{known}", f"{name}+{known}"
    raise _unknown(f"variant of {name}", variant, list(catalogue.variants))


def _unknown(what: str, wanted: str, known: list[str]) -> ConfigurationError:
    near = difflib.get_close_matches(wanted, dict.fromkeys(known), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    return ConfigurationError(f"espeak-ng has no {what} {wanted!r}{hint}")


def _checked(name: str, value: int, allowed: range) -> int:
    if type(value) is not int or value not in allowed:
        raise ConfigurationError(f"{name}={value!r}: must be a whole number from {allowed[0]} to {allowed[-1]}")
    return value
