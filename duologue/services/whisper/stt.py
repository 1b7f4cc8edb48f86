"""`WhisperSTT`: speech-to-text by a Whisper model in the process."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import ConfigurationError, ServiceError, check_installed
from ...frames import Word
from ..expected import in_a_text
from ..stt import STT, Transcription
from .models import shared_model
from .options import WhisperOptions

WINDOW_S = 30
"""Seconds of audio that Whisper hears at once."""


class WhisperSTT(STT):
    """Transcribes with faster-whisper, in threads (extra `whisper`). The words come after the end of the turn.

    `model` is the folder of a model in CTranslate2's format, the name of one ("small.en", "large-v3-turbo"), or its
    name on the Hugging Face Hub, from which it is downloaded once. The process loads a model once for all calls:
    `load` does it before the first call. Whisper's own detection of speech is off, because the pipeline has one.

    A transcription that is cancelled ends at the end of its window of 30 s: until then its thread is busy. A language
    of the agent that the model lacks is detected instead.

    Raises MissingExtra without the extra, and ConfigurationError for a model that cannot be loaded.
    """

    timeout_s = 15.0
    billing = "none"

    def __init__(self, model: str | os.PathLike[str], *, options: WhisperOptions | None = None) -> None:
        super().__init__()
        check_installed("whisper", "faster_whisper", "ctranslate2")
        name = os.fspath(model)
        if not name:
            raise ConfigurationError("WhisperSTT needs a model: a folder, or a name such as 'small.en'")
        if (Path(name).is_absolute() or name.startswith(".")) and not os.path.isdir(name):
            raise ConfigurationError(f"there is no folder {name!r}: WhisperSTT needs the folder or the name of a model")
        self.options = options or WhisperOptions()
        self.model = os.path.basename(os.path.normpath(name))
        self._shared = shared_model(name, self.options)
        self._audio = bytearray()
        self._interim_at = 0  # bytes of the utterance at the latest interim text
        self._guessing = False
        self._over = threading.Event()  # set at the end of the utterance or of a transcription that nobody awaits

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `hotwords`, up to 600 characters: the model reads about 224 tokens of them."""
        hotwords, count = in_a_text(self.options.hotwords, terms, 600)
        self.options = replace(self.options, hotwords=hotwords)
        return count

    def load(self) -> None:
        """Load the model now, and block meanwhile. Raises ConfigurationError."""
        model, language = self._shared.get(), self.options.language
        if language and language not in model.supported_languages:
            raise ConfigurationError(f"the Whisper model {self.model!r} has no language {language!r}")

    async def open(self) -> None:
        """Load the model unless it is loaded already."""
        await super().open()
        await self._shared.pool.run(self.load, label=f"loading {self.model}")

    async def close(self) -> None:
        """Let transcriptions end early."""
        self._over.set()

    async def begin(self) -> None:
        """Begin an utterance."""
        self._over.set()
        self._over = threading.Event()
        self._audio.clear()
        self._interim_at = 0

    async def feed(self, pcm: bytes) -> str:
        """Keep the audio. Interim texts come later, from a task of their own."""
        self._audio += pcm
        due = self.options.interim_s * 2 * self.sample_rate
        if due and not self._guessing and len(self._audio) - self._interim_at >= due:
            self._guessing, self._interim_at = True, len(self._audio)
            self.spawn(self._guess, bytes(self._audio), self._over)
        return ""

    async def _guess(self, pcm: bytes, over: threading.Event) -> None:
        """Push an interim text, unless the utterance is over by then."""
        try:
            said = await self._run(pcm, over)
            if said.text and not over.is_set():
                await self.tell_interim(said.text)
        except Exception as error:
            self.session.report(ServiceError(f"no interim text: {error}"), self.name)
        finally:
            self._guessing = False

    async def finish(self) -> Transcription:
        """Return the text of the utterance."""
        self._over.set()  # an interim text is too late
        self._over = over = threading.Event()
        return await self._run(bytes(self._audio), over)

    async def _run(self, pcm: bytes, over: threading.Event) -> Transcription:
        try:
            return await self._shared.pool.run(self._transcribe, pcm, over, self._language, label=self.name)
        except asyncio.CancelledError:
            over.set()
            raise

    @property
    def _language(self) -> str:
        return self.language.lower().partition("-")[0] or self.options.language

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _transcribe(self, pcm: bytes, over: threading.Event, language: str) -> Transcription:
        if over.is_set() or not pcm:
            return Transcription(text="")
        model, options = self._shared.get(), self.options
        segments, info = model.transcribe(
            np.frombuffer(pcm, "<i2").astype(np.float32) / 32768,
            language=language if language in model.supported_languages else None,
            beam_size=options.beam_size,
            temperature=options.temperatures,
            initial_prompt=options.prompt or None,
            hotwords=options.hotwords or None,
            word_timestamps=options.word_times,
            # Beyond a window, the times say where the next one begins.
            without_timestamps=not options.word_times and len(pcm) <= WINDOW_S * 2 * self.sample_rate,
            vad_filter=False,
        )
        found = []
        for segment in segments:  # each step decodes up to 30 s
            found.append(segment)
            if over.is_set():
                break
        return Transcription(
            text="".join(segment.text for segment in found).strip(),
            confidence=_mean_probability([(segment.avg_logprob, len(segment.tokens)) for segment in found]),
            language=info.language,
            words=tuple(
                Word(f"{word.word.strip()} ", float(word.start), float(word.end))
                for segment in found
                for word in segment.words or ()
            ),
        )


def _mean_probability(segments: list[tuple[float, int]]) -> float:
    """Return the mean probability of a token, 1 without segments: each is its mean log probability, and its tokens."""
    count = sum(tokens for _, tokens in segments)
    if not count:
        return 1.0
    return math.exp(min(0.0, sum(logarithm * tokens for logarithm, tokens in segments) / count))
