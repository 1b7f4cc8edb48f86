"""`PiperTTS`: text-to-speech by Piper's voices in the process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

from ...errors import ConfigurationError, check_installed
from ...processors.kernel.threads import Pool
from ..tts import TTS, SpeechChunk
from .options import PiperOptions
from .voices import VoiceFile, voice_file

PIPER = Pool("Piper", max(2, os.cpu_count() or 2))
"""Threads for the voices of Piper: more than cores do not help."""


class PiperTTS(TTS):
    """Speaks with Piper, in threads (extra `piper`), sentence by sentence, at the sample rate of `voice`.

    `voice` is the file of a voice (`.onnx`, with its `.onnx.json` beside it), for agents without a voice. `others` are
    the files of further voices by the names that agents use. A voice may name a speaker of its file behind a colon:
    "vctk:p239", or ":p239" for one of `voice`. The process loads a voice once for all calls: `load` does it before the
    first call. Of a sentence that is interrupted the synthesis goes on in its thread to its end, and is dropped.

    Raises ConfigurationError for a missing or malformed file or an unknown voice, and MissingExtra without the extra.
    """

    model = "piper"
    billing = "none"
    voices = "piper"

    def __init__(
        self,
        voice: str | os.PathLike[str],
        *,
        others: Mapping[str, str | os.PathLike[str]] | None = None,
        options: PiperOptions | None = None,
    ) -> None:
        super().__init__()
        check_installed("piper", "piper", "onnxruntime")
        self.options = options or PiperOptions()
        self._files = {name: self._file(path) for name, path in (others or {}).items()}
        self._files[""] = self._file(voice)
        self.sample_rate = self._files[""].sample_rate

    def _file(self, path: str | os.PathLike[str]) -> VoiceFile:
        return voice_file(os.path.abspath(path), cuda=self.options.cuda, threads=self.options.threads)

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a voice that was not named, or a speaker that its file does not have."""
        self._found(voice)

    def _found(self, voice: str) -> tuple[VoiceFile, int | None]:
        name, _, speaker = voice.partition(":")
        file = self._files.get(name)
        if file is None:
            known = ", ".join(filter(None, self._files)) or "only the one that it was made with"
            raise ConfigurationError(f"PiperTTS has no voice {name!r}: it has {known}")
        if not speaker:
            return file, None
        if speaker not in file.speakers:
            known = ", ".join(list(file.speakers)[:20]) or "one without a name"
            raise ConfigurationError(f"{os.path.basename(file.path)} has no speaker {speaker!r}: it has {known}")
        return file, file.speakers[speaker]

    def load(self) -> None:
        """Load all voices now, and block meanwhile. Raises ConfigurationError."""
        for file in self._files.values():
            file.load()

    async def open(self) -> None:
        """Load the voices that are not loaded yet."""
        await super().open()
        await PIPER.run(self.load, label="loading voices")

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text`."""
        file, speaker = self._found(voice)
        pieces = file.speak(text, speaker, self.options, self.sample_rate)
        while (pcm := await PIPER.run(next, pieces, None, label=self.name)) is not None:
            yield SpeechChunk(pcm)
