"""The services of vendors by name, with the extra and the key that each needs. None is imported before it is loaded.

find("stt", "deepgram").load()      # DeepgramSTT
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from ..errors import ConfigurationError

Kind = Literal["stt", "llm", "tts", "engine"]
"""The place of a service: one of the three of a cascade, or a whole engine."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A service that this package has."""

    kind: Kind
    name: str
    """The name on a command line, unique for its kind."""
    home: str
    """The module below `duologue.services` and the class, as "deepgram:DeepgramSTT"."""
    extra: str
    keys: tuple[str, ...] = ()
    """The environment variables that may hold its key; () for a service in the process."""
    needs: str = ""
    """The required first argument of the class: the file or folder of a model; "" for none."""

    @property
    def key(self) -> str:
        """The variable that holds the key; "" if none is set."""
        return next((key for key in self.keys if os.environ.get(key)), "")

    @property
    def module(self) -> str:
        """The module of the class."""
        return f"{__package__}.{self.home.partition(':')[0]}"

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return self.home.partition(":")[2]

    def load(self) -> type[Any]:
        """Return the class. Raises MissingExtra without its extra."""
        kind: type[Any] = getattr(import_module(self.module), self.class_name)
        return kind


_DEEPGRAM = ("deepgram", ("DEEPGRAM_API_KEY",))
_ELEVENLABS = ("elevenlabs", ("ELEVENLABS_API_KEY",))
_CARTESIA = ("remote", ("CARTESIA_API_KEY",))
_OPENAI = ("openai", ("OPENAI_API_KEY",))
_GOOGLE = ("google", ("GOOGLE_API_KEY", "GEMINI_API_KEY"))

OFFERS: tuple[Offer, ...] = (
    Offer("stt", "deepgram", "deepgram:DeepgramSTT", *_DEEPGRAM),
    Offer("stt", "deepgram-flux", "deepgram:DeepgramFluxSTT", *_DEEPGRAM),
    Offer("stt", "elevenlabs", "elevenlabs:ElevenLabsSTT", *_ELEVENLABS),
    Offer("stt", "openai", "openai:OpenAISTT", *_OPENAI),
    Offer("stt", "openai-file", "openai:OpenAIFileSTT", *_OPENAI),
    Offer("stt", "assemblyai", "assemblyai:AssemblyAISTT", "remote", ("ASSEMBLYAI_API_KEY",)),
    Offer("stt", "cartesia", "cartesia:CartesiaSTT", *_CARTESIA),
    Offer("stt", "whisper", "whisper:WhisperSTT", "whisper", needs="the folder or the name of a model"),
    Offer("stt", "sphinx", "local:SphinxSTT", "local"),
    Offer("llm", "openai", "openai:OpenAILLM", *_OPENAI),
    Offer("llm", "openai-responses", "openai:OpenAIResponsesLLM", *_OPENAI),
    Offer("llm", "gemini", "google:GeminiLLM", *_GOOGLE),
    Offer("tts", "elevenlabs", "elevenlabs:ElevenLabsTTS", *_ELEVENLABS),
    Offer("tts", "elevenlabs-http", "elevenlabs:ElevenLabsHTTPTTS", *_ELEVENLABS),
    Offer("tts", "deepgram", "deepgram:DeepgramTTS", *_DEEPGRAM),
    Offer("tts", "deepgram-flux", "deepgram:DeepgramFluxTTS", *_DEEPGRAM),
    Offer("tts", "openai", "openai:OpenAITTS", *_OPENAI),
    Offer("tts", "cartesia", "cartesia:CartesiaTTS", *_CARTESIA),
    Offer("tts", "piper", "piper:PiperTTS", "piper", needs="the file of a voice"),
    Offer("tts", "espeak", "local:EspeakTTS", "local"),
    Offer("engine", "openai", "openai:OpenAIRealtime", *_OPENAI),
    Offer("engine", "gemini", "google:GeminiLive", *_GOOGLE),
)
"""All services. A service of this package is named here once: for the command line, `duologue doctor` and the tests."""


def offered(kind: Kind) -> dict[str, Offer]:
    """Return the services of a kind by name."""
    return {offer.name: offer for offer in OFFERS if offer.kind == kind}


def find(kind: Kind, name: str) -> Offer:
    """Return a service by name. Raises ConfigurationError, with the names that there are, for an unknown one."""
    offers = offered(kind)
    if name not in offers:
        raise ConfigurationError(f"there is no {kind} {name!r}: there are {', '.join(offers)}")
    return offers[name]
