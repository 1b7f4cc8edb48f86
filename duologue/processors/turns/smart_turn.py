"""`TurnModel`: tells from the sound of speech if the caller has finished; `SmartTurn`: a model read from a file."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any, Protocol

from ..._arrays import Samples
from ...audio.log_mel import BANDS, SAMPLE_RATE, STEP, LogMel
from ...errors import BadInput, ConfigurationError, MissingExtra, check_installed

HEARD_S = 8
"""Seconds of audio that the model hears, up to the present."""
_SAMPLES = HEARD_S * SAMPLE_RATE
MAX_MODELS = 8
"""The most files that stay loaded: about 30 MB each."""


class TurnModel(Protocol):
    """Judges by the sound of the caller's turn if it is complete. `Endpointing` asks it where no words are known."""

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the audio that the model takes."""
        ...

    @property
    def heard_s(self) -> float:
        """The seconds of audio, up to the present, that the model takes at most."""
        ...

    def load(self) -> None:
        """Get ready to judge, before the call begins. Called in a thread."""
        ...

    def probability(self, pcm: bytes) -> float:
        """Return the probability, from 0 to 1, that the turn in `pcm` (mono s16le) is complete.

        Called in a thread, for many calls at once. The audio ends in the present, 0.2 s or more after the speech.
        """
        ...


class SmartTurn:
    """Judges turns by the sound with the model smart-turn, version 3, of a file that you name (extra `smart-turn`).

    `path` is a file such as `smart-turn-v3.2-cpu.onnx` of Pipecat (BSD 2-clause): see [turns.md](
    ../../../docs/turns.md#better-ears). The model hears the last 8 s of the turn: intonation and tempo, in 23
    languages. A process loads a file once, for all calls; `load` does it before the first call. `threads` is the
    number of threads of one judgement.

    Raises ConfigurationError for a file that is missing or not this model, and MissingExtra without the extra.
    """

    sample_rate = SAMPLE_RATE
    heard_s = float(HEARD_S)

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        check_installed("smart-turn", "onnxruntime")
        if type(threads) is not int or not 1 <= threads <= 64:
            raise ConfigurationError(f"threads is {threads!r}: it lies between 1 and 64")
        self.path = os.path.abspath(path)
        if not os.path.isfile(self.path):
            raise ConfigurationError(f"there is no model file {self.path!r}: smart-turn's models are files '….onnx'")
        self._file = _model_file(self.path, threads)

    def load(self) -> None:
        """Load the model now, and block meanwhile. Raises ConfigurationError."""
        self._file.load()

    def probability(self, pcm: bytes) -> float:
        """Return the probability that the turn in `pcm` (mono s16le at 16 kHz) is complete. Blocks for about 30 ms.

        Audio from more than 8 s before its end is not heard. Raises BadInput for audio that splits a sample.
        """
        import numpy as np

        if len(pcm) & 1:
            raise BadInput(f"audio of {len(pcm)} bytes splits a sample: 16-bit samples take 2 bytes each")
        heard = np.zeros(_SAMPLES, np.float32)
        said = np.frombuffer(pcm[-2 * _SAMPLES :], "<i2")
        if len(said):
            heard[-len(said) :] = said
            heard /= 32768
        return self._file.run(heard)


class _ModelFile:
    """The model of a file, loaded once."""

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._threads = path, threads
        self._loading = threading.Lock()
        self._session: Any = None
        self._input = ""
        self._features: LogMel

    def load(self) -> None:
        with self._loading:
            if self._session is None:
                self._features = LogMel()
                self._session = self._load()

    def _load(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("onnxruntime", "smart-turn", str(error)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(self._path, sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of types of its own
            raise ConfigurationError(f"the model {self._path!r} cannot be loaded: {error}") from error
        inputs = session.get_inputs()
        shape, wanted = (inputs[0].shape if len(inputs) == 1 else []), [BANDS, _SAMPLES // STEP]
        if list(shape[1:]) != wanted or len(session.get_outputs()) != 1:
            raise ConfigurationError(
                f"the model {self._path!r} is not smart-turn 3: it takes one input of {wanted} features, not {shape}"
            )
        self._input = inputs[0].name
        return session

    def run(self, samples: Samples) -> float:
        self.load()
        features = self._features.features(samples)
        (output,) = self._session.run(None, {self._input: features[None]})
        return float(output.reshape(-1)[0])


@lru_cache(maxsize=MAX_MODELS)
def _model_file(path: str, threads: int) -> _ModelFile:
    return _ModelFile(path, threads)
