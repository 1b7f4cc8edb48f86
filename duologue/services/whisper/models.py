"""`SharedModel`: a Whisper model that is loaded once in the process, for all calls, with threads of its own."""

from __future__ import annotations

import os
import threading
from typing import Any

from ...errors import ConfigurationError, MissingExtra
from ...processors.kernel.threads import Pool
from .options import WhisperOptions

_shared: dict[tuple[str, str, str, int, int], SharedModel] = {}
_sharing = threading.Lock()


class SharedModel:
    """A model, loaded at its first use and kept while the process runs. `pool` has the threads for its work."""

    def __init__(self, name: str, options: WhisperOptions) -> None:
        self.name = name
        self.pool = Pool(f"Whisper {os.path.basename(name) or name}", options.workers)
        self._options = options
        self._loading = threading.Lock()
        self._model: Any = None

    def get(self) -> Any:
        """Return the `WhisperModel`, whose package has no types.

        Blocks while the model is loaded, or downloaded if `name` is not a folder. Raises ConfigurationError for a model
        that cannot be loaded.
        """
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> Any:
        try:
            from faster_whisper import WhisperModel  # here, because it takes a second to load
        except ImportError as error:
            raise MissingExtra("faster_whisper", "whisper", str(error)) from error
        if os.path.isdir(self.name) and not os.path.isfile(os.path.join(self.name, "tokenizer.json")):
            raise ConfigurationError(f"the folder {self.name!r} has no tokenizer.json: it is not a Whisper model")
        options = self._options
        try:
            return WhisperModel(
                self.name,
                device=options.device,
                compute_type=options.compute_type,
                cpu_threads=options.threads,
                num_workers=options.workers,
            )
        except Exception as error:
            raise ConfigurationError(f"the Whisper model {self.name!r} cannot be loaded: {error}") from error


def shared_model(name: str, options: WhisperOptions) -> SharedModel:
    """Return the model of this name and with these settings, without loading it."""
    key = (name, options.device, options.compute_type, options.threads, options.workers)
    with _sharing:
        if key not in _shared:
            _shared[key] = SharedModel(name, options)
        return _shared[key]
