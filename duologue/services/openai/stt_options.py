"""The options of OpenAI's speech-to-text services, and the values that its models refuse.

Sources: the types of the `openai` package and the guides to speech-to-text and Realtime transcription of
platform.openai.com, as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args

from ...errors import ConfigurationError, check_range
from ..expected import expecting, in_a_text
from .options import SAMPLE_RATE, TRANSCRIPTION_FAMILIES, ModelFamily, language_code, refused_options

DEFAULT_STT_MODEL = "gpt-transcribe"
MAX_TRANSCRIPT = 100_000
"""The most characters of a transcript."""
STREAMED_ONLY = r"gpt-live-transcribe.*|gpt-realtime-whisper.*"
"""Models of the Realtime API only."""
NOT_STREAMED = r"whisper-1.*"
"""Models whose transcription of a file comes as a whole."""
NoiseReduction = Literal["near_field", "far_field"]
Delay = Literal["minimal", "low", "medium", "high", "xhigh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAISTTOptions:
    """Options of `OpenAISTT`. Raises ConfigurationError for a value that no model takes."""

    language: str = ""
    """The caller's language for agents without one: an ISO 639-1 code ("en"), "" for any."""
    languages: tuple[str, ...] = ()
    """The languages that the caller may speak, for agents without one (gpt-transcribe, gpt-live-transcribe)."""
    prompt: str = ""
    """A text that tells the model what to expect (not for gpt-realtime-whisper and gpt-4o-transcribe-diarize)."""
    keywords: tuple[str, ...] = ()
    """Words and phrases to expect (gpt-transcribe, gpt-live-transcribe)."""
    noise_reduction: NoiseReduction | None = None
    """The microphone whose noise is removed before the model hears the audio: at the mouth, or across the room."""
    delay: Delay | None = None
    """How long the model waits before it writes (gpt-realtime-whisper): later texts have fewer errors."""

    def __post_init__(self) -> None:
        check_literal(self, noise_reduction=NoiseReduction, delay=Delay)
        check_words(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIFileSTTOptions:
    """Options of `OpenAIFileSTT`. Raises ConfigurationError for a value that no model takes."""

    language: str = ""
    """The caller's language for agents without one: an ISO 639-1 code ("en"), "" for any."""
    languages: tuple[str, ...] = ()
    """The languages that the caller may speak, for agents without one (gpt-transcribe)."""
    prompt: str = ""
    """A text that tells the model what to expect (not for gpt-4o-transcribe-diarize)."""
    keywords: tuple[str, ...] = ()
    """Words and phrases to expect (gpt-transcribe)."""
    temperature: float | None = None
    """The randomness of the text, from 0 to 1; None leaves it to the model."""

    def __post_init__(self) -> None:
        check_range(self, **({} if self.temperature is None else {"temperature": (0, 1)}))
        check_words(self)


def transcription_session(model: str, options: OpenAISTTOptions, language: str) -> dict[str, Any]:
    """Return all settings of a session. `language` is the agent's, "" for one without a language."""
    transcription: dict[str, Any] = {"model": model}
    if code := language_code(language) or options.language:
        transcription["language"] = code
    elif options.languages:
        transcription["languages"] = list(options.languages)
    if options.prompt:
        transcription["prompt"] = options.prompt
    if options.keywords:
        transcription["keywords"] = list(options.keywords)
    if options.delay is not None:
        transcription["delay"] = options.delay
    return {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
                "transcription": transcription,
                "noise_reduction": {"type": options.noise_reduction} if options.noise_reduction else None,
                "turn_detection": None,
            }
        },
    }


def check_model(model: str, options: object, families: Iterable[ModelFamily]) -> None:
    """Raise ConfigurationError for a missing model, or for an option that the model is known to refuse."""
    if not model:
        raise ConfigurationError("OpenAI needs the name of a model")
    refused = refused_options(model, families)
    for field in fields(options):  # type: ignore[arg-type]
        if getattr(options, field.name) and field.name in refused:
            raise ConfigurationError(f"{field.name}: {model} does not take it: {refused[field.name]}")


def check_literal(options: object, **choices: Any) -> None:
    """Raise ConfigurationError for a value that is not one of the literals of its option. None is always one."""
    for name, literal in choices.items():
        value = getattr(options, name)
        if value is not None and value not in get_args(literal):
            raise ConfigurationError(f"{name} is {value!r}: it is one of {', '.join(get_args(literal))}")


S = TypeVar("S", "OpenAISTTOptions", "OpenAIFileSTTOptions")


def check_words(options: OpenAISTTOptions | OpenAIFileSTTOptions) -> None:
    """Raise ConfigurationError for a language without an ISO 639-1 code, or for an empty keyword."""
    for code in (options.language, *options.languages):
        if not re.fullmatch("[a-z]{2}", code) and (code or code in options.languages):
            raise ConfigurationError(f"the language {code!r} is not an ISO 639-1 code of two letters, such as 'en'")
    if not all(isinstance(word, str) and word.strip() for word in options.keywords):
        raise ConfigurationError(f"keywords is {options.keywords!r}: it is a tuple of words and phrases")


MAX_KEYWORDS = 100
"""The most keywords that are added for a vocabulary."""
PROMPT_CHARACTERS = 600
"""The length of a prompt up to which terms are added: a model reads about 224 tokens of it."""


def with_terms(model: str, options: S, terms: Sequence[str]) -> tuple[S, int]:
    """Return the options with terms to expect, and the number of them added: as keywords, else in the prompt."""
    refused = refused_options(model, TRANSCRIPTION_FAMILIES)
    if "keywords" not in refused:
        return expecting(options, "keywords", terms, most=MAX_KEYWORDS, longest=100)
    if "prompt" in refused:
        return options, 0
    prompt, count = in_a_text(options.prompt, terms, PROMPT_CHARACTERS)
    return replace(options, prompt=prompt), count
