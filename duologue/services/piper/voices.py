"""`VoiceFile`: one voice of Piper, loaded once in the process for all calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ...audio.resample import Resampler
from ...errors import ConfigurationError, MissingExtra
from ...frames.text import from_json
from .options import PiperOptions

if TYPE_CHECKING:  # an optional dependency, which takes a second to load
    from piper import PiperVoice

MAX_VOICES = 64
"""The most voices that stay loaded: 60 to 120 MB each."""
_ANY = msgspec.json.Decoder(dict[str, Any])


class VoiceFile:
    """A voice: the file of its model (`.onnx`), and beside it that of its settings (`.onnx.json`).

    Raises ConfigurationError if one of them is missing or malformed. The model is loaded with the first sentence, or by
    `load`.
    """

    def __init__(self, path: str, *, cuda: bool, threads: int) -> None:
        self.path = path
        self._cuda, self._threads = cuda, threads
        self._loading = threading.Lock()
        self._voice: PiperVoice | None = None
        if not os.path.isfile(path):
            raise ConfigurationError(f"there is no voice file {path!r}: Piper's voices are files '….onnx'")
        try:
            with open(f"{path}.json", "rb") as file:
                self._settings = from_json(file.read(), _ANY)
            self.sample_rate = int(self._settings["audio"]["sample_rate"])
            """The sample rate of the voice, in Hz."""
            self.speakers: dict[str, int] = {
                str(name): int(number) for name, number in (self._settings.get("speaker_id_map") or {}).items()
            }
            """The numbers of the voice's speakers, by name."""
        except OSError as error:
            raise ConfigurationError(f"the voice {path!r} has no settings beside it: {path}.json: {error}") from error
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"{path}.json is not the settings of a voice: {error!r}") from error
        if not 8_000 <= self.sample_rate <= 48_000:
            raise ConfigurationError(f"{path}.json: a sample rate of {self.sample_rate} Hz")

    def load(self) -> PiperVoice:
        """Return the voice, loaded. Blocks meanwhile. Raises ConfigurationError for a file that is not a voice."""
        with self._loading:
            if self._voice is None:
                self._voice = self._load()
            return self._voice

    def _load(self) -> PiperVoice:
        try:
            import onnxruntime
            from piper import PiperConfig, PiperVoice
        except ImportError as error:
            raise MissingExtra("piper", "piper", str(error)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        provider = "CUDAExecutionProvider" if self._cuda else "CPUExecutionProvider"
        try:
            session = onnxruntime.InferenceSession(self.path, sess_options=options, providers=[provider])
            return PiperVoice(session=session, config=PiperConfig.from_dict(self._settings))
        except Exception as error:
            raise ConfigurationError(f"the voice {self.path!r} cannot be loaded: {error}") from error

    def speak(self, text: str, speaker: int | None, options: PiperOptions, rate: int) -> Iterator[bytes]:
        """Yield the speech of a text sentence by sentence: mono s16le at `rate` Hz."""
        from piper import SynthesisConfig

        voice = self.load()
        scale = voice.config.length_scale / options.speed
        config = SynthesisConfig(
            speaker_id=speaker,
            length_scale=scale,
            noise_scale=options.noise_scale,
            noise_w_scale=options.noise_w_scale,
            normalize_audio=options.normalize,
            volume=options.volume,
        )
        resampler = Resampler(self.sample_rate, rate) if rate != self.sample_rate else None
        # Double brackets would be phonemes.
        for chunk in voice.synthesize(text.replace("[[", "[ ["), config):
            pcm = chunk.audio_int16_bytes
            yield pcm if resampler is None else resampler.process(pcm)
        if resampler is not None:
            yield resampler.flush()


@lru_cache(maxsize=MAX_VOICES)
def voice_file(path: str, *, cuda: bool, threads: int) -> VoiceFile:
    """Return the voice in a file, without loading it. Raises ConfigurationError as `VoiceFile` does."""
    return VoiceFile(path, cuda=cuda, threads=threads)
