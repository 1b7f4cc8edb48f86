"""Deepgram's models, voices and limits as data, and the options of its services, checked when they are made.

Sources: developers.deepgram.com (listen, Flux, speak, Flux TTS, rate limits) and the types of `deepgram-sdk` 7.17, as
of November 2026. Models and voices change often: of those that are not listed, the form of the name is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ...errors import ConfigurationError, check_range
from ..pieces import Feeding, check_feeding
from .pronunciations import check_pronunciations

IDLE_LIMIT_S = 10.0
"""Seconds without audio or `KeepAlive` after which a listening connection is closed (1011 NET-0001)."""
KEYTERM_WORDS = 500
"""The most words of all keyterms: the limit is 500 tokens, and a word is at least one."""
MAX_TAG = 128
"""The longest tag, in characters."""
EOT_THRESHOLD = 0.7
EOT_TIMEOUT_MS = 5000
"""Flux's own threshold and time-out of an end of a turn."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*|multi")
_NOVA = re.compile(r"(nova|enhanced|base|whisper)([-\w]*)|[a-z]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FLUX_MODELS = ("flux-general-en", "flux-general-multi")


def check_texts(name: str, texts: object, longest: int = 1000) -> None:
    """Raise ConfigurationError, naming the option, unless it is a tuple of texts with something in each."""
    if isinstance(texts, str) or not isinstance(texts, tuple):
        raise ConfigurationError(f"{name} is {texts!r}: it is a tuple of texts")
    for text in texts:
        if not isinstance(text, str) or not text.strip() or len(text) > longest:
            raise ConfigurationError(f"{name} has {text!r}: each is a text of 1 to {longest} characters")


def check_keyterms(keyterms: tuple[str, ...]) -> None:
    """Raise ConfigurationError for keyterms that Deepgram would refuse."""
    check_texts("keyterms", keyterms)
    words = sum(len(term.split()) for term in keyterms)
    if words > KEYTERM_WORDS:
        raise ConfigurationError(f"keyterms have {words} words: Deepgram takes {KEYTERM_WORDS}")


def check_language(name: str, language: str) -> None:
    """Raise ConfigurationError for a language that is not written as Deepgram writes it."""
    if not _LANGUAGE.fullmatch(language):
        raise ConfigurationError(f"{name} is {language!r}: it is a BCP-47 tag such as en or pt-BR, or 'multi'")


def check_hints(hints: tuple[str, ...], allowed: bool, where: str) -> None:
    """Raise ConfigurationError for language hints that the model does not take."""
    check_texts("language_hints", hints, 35)
    if hints and not allowed:
        raise ConfigurationError(f"language_hints are for {where}")
    for hint in hints:
        check_language("language_hints", hint)


def present(**fields: object) -> dict[str, object]:
    """Return the fields that are set: neither None nor an empty text or tuple. Tuples become lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value is not None and value != "" and value != ()
    }


Options = TypeVar("Options", bound=Any)


def changed(options: Options, change: Mapping[str, Any], changeable: tuple[str, ...]) -> Options:
    """Return the options with a change. Raises ConfigurationError for one that needs a new connection."""
    for name in change:
        if name not in changeable:
            raise ConfigurationError(f"{name} cannot change in a call: {', '.join(changeable)} can")
    return replace(options, **change)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepgramSTTOptions:
    """Options of `DeepgramSTT`. Raises ConfigurationError for a value that Deepgram would refuse.

    None leaves a setting to the vendor.
    """

    model: str = "nova-3"
    language: str = ""
    """The language for agents without one: a BCP-47 tag, "multi" for several at once; "" is the model's default."""
    keyterms: tuple[str, ...] = ()
    """Words and names that the model should expect, at most 500 words in all. For models of the family nova-3."""
    keywords: tuple[str, ...] = ()
    """The same for older models, each `word` or `word:intensifier`."""
    language_hints: tuple[str, ...] = ()
    """Languages to expect. For nova-3 with the language "multi"."""
    smart_format: bool = True
    """True: punctuation, and numbers, dates and addresses as they are written."""
    punctuate: bool | None = None
    numerals: bool | None = None
    profanity_filter: bool | None = None
    dictation: bool | None = None
    redact: tuple[str, ...] = ()
    """Kinds of data to leave out of the text, such as "pci", "pii" or "numbers"."""
    replace: tuple[str, ...] = ()
    """Replacements, each `find:replacement`."""
    interim_results: bool = True
    endpointing_ms: int | None = None
    """Milliseconds of silence after which a segment is final; 0 for never, None for the vendor's default of 10.

    The caller's turn ends by the framework's own detection in any case, with the message `Finalize`.
    """
    tag: tuple[str, ...] = ()
    """Labels in the usage reports, each at most 128 characters."""
    mip_opt_out: bool | None = None
    """True: the audio is not used for the vendor's Model Improvement Program."""

    def __post_init__(self) -> None:
        if not _NOVA.fullmatch(self.model):
            hint = "use DeepgramFluxSTT" if self.model.startswith("flux") else "it is nova-3 or nova-2-phonecall, e.g."
            raise ConfigurationError(f"model is {self.model!r}: {hint}")
        if self.language:
            check_language("language", self.language)
        nova_3 = self.model.startswith("nova-3")
        check_keyterms(self.keyterms)
        if self.keyterms and not nova_3:
            raise ConfigurationError(f"keyterms: {self.model} does not take them; it has keywords")
        check_texts("keywords", self.keywords)
        if self.keywords and nova_3:
            raise ConfigurationError(f"keywords: {self.model} does not take them; it has keyterms")
        check_hints(self.language_hints, nova_3 and self.language in ("", "multi"), "nova-3 with language='multi'")
        check_texts("redact", self.redact)
        check_texts("replace", self.replace)
        check_texts("tag", self.tag, MAX_TAG)
        for pair in self.replace:
            if ":" not in pair:
                raise ConfigurationError(f"replace has {pair!r}: each is find:replacement")
        if self.endpointing_ms is not None:
            check_range(self, endpointing_ms=(0, 60_000))

    def query(self, language: str, sample_rate: int) -> dict[str, object]:
        """Return the arguments of the SDK's `connect` for a language, "" for that of these options."""
        endpointing = "false" if self.endpointing_ms == 0 else self.endpointing_ms
        return present(
            model=self.model,
            language=language or self.language,
            encoding="linear16",
            sample_rate=sample_rate,
            channels=1,
            keyterm=self.keyterms,
            keywords=self.keywords,
            language_hint=self.language_hints,
            smart_format=self.smart_format,
            punctuate=self.punctuate,
            numerals=self.numerals,
            profanity_filter=self.profanity_filter,
            dictation=self.dictation,
            redact=self.redact,
            replace=self.replace,
            interim_results=self.interim_results,
            endpointing=endpointing,
            tag=self.tag,
            mip_opt_out=self.mip_opt_out,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepgramFluxOptions:
    """Options of `DeepgramFluxSTT`. Raises ConfigurationError for a value that Deepgram would refuse.

    None leaves a setting to the vendor.
    """

    model: str = "flux-general-en"
    """flux-general-en, or flux-general-multi for ten languages."""
    eot_threshold: float | None = None
    """The probability at which a turn ends, from 0.5 to 1; 1 for never, and None for 0.7."""
    eager_eot_threshold: float | None = None
    """The probability at which a turn has perhaps ended, from 0.3 to 0.9, at most `eot_threshold`. None: this is not
    reported."""
    eot_timeout_ms: int | None = None
    """Milliseconds of silence that end a turn in any case, from 500 to 60,000; None for 5000."""
    keyterms: tuple[str, ...] = ()
    """Words and names that the model should expect, at most 500 words in all."""
    language_hints: tuple[str, ...] = ()
    """Languages to expect, by default that of the agent. For flux-general-multi."""
    numerals: bool | None = None
    profanity_filter: bool | None = None
    redact: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    mip_opt_out: bool | None = None

    def __post_init__(self) -> None:
        if self.model not in FLUX_MODELS:
            raise ConfigurationError(f"model is {self.model!r}: it is {' or '.join(FLUX_MODELS)}")
        for name, bounds in _FLUX_BOUNDS.items():
            if getattr(self, name) is not None:
                check_range(self, **{name: bounds})
        threshold = EOT_THRESHOLD if self.eot_threshold is None else self.eot_threshold
        eager = self.eager_eot_threshold
        if eager is not None and eager > threshold:
            raise ConfigurationError(f"eager_eot_threshold is {eager}: it is at most eot_threshold, {threshold}")
        check_keyterms(self.keyterms)
        check_hints(self.language_hints, self.model == "flux-general-multi", "flux-general-multi")
        check_texts("redact", self.redact)
        check_texts("tag", self.tag, MAX_TAG)

    @property
    def ends_within_s(self) -> float:
        """Seconds of silence after which a turn has ended."""
        return (EOT_TIMEOUT_MS if self.eot_timeout_ms is None else self.eot_timeout_ms) / 1000

    def query(self, language: str, sample_rate: int) -> dict[str, object]:
        """Return the arguments of the SDK's `connect`. Without hints the agent's language is one."""
        return present(
            model=self.model,
            encoding="linear16",
            sample_rate=sample_rate,
            eot_threshold=self.eot_threshold,
            eager_eot_threshold=self.eager_eot_threshold,
            eot_timeout_ms=self.eot_timeout_ms,
            keyterm=self.keyterms,
            language_hint=self.hints(language),
            numerals=self.numerals,
            profanity_filter=self.profanity_filter,
            redact=self.redact,
            tag=self.tag,
            mip_opt_out=self.mip_opt_out,
        )

    def hints(self, language: str) -> tuple[str, ...]:
        """Return the language hints: those of the options, else the agent's language."""
        if self.model != "flux-general-multi" or not language:
            return self.language_hints
        return self.language_hints or (language.partition("-")[0].lower(),)


_FLUX_BOUNDS: dict[str, tuple[float, float]] = {
    "eot_threshold": (0.5, 1.0),
    "eager_eot_threshold": (0.3, 0.9),
    "eot_timeout_ms": (500, 60_000),
}


MAX_TEXT = 2000
"""The most characters of one `Speak` message."""
FLUSHES_PER_MINUTE = 20
"""The number of `Flush` messages that Aura obeys in 60 s."""
AURA_RATES = (8_000, 16_000, 24_000, 32_000, 48_000)
FLUX_RATES = (*AURA_RATES, 44_100)
AURA_VOICES = {
    "en": "aura-2-thalia-en",
    "es": "aura-2-celeste-es",
    "de": "aura-2-viktoria-de",
    "nl": "aura-2-rhea-nl",
    "fr": "aura-2-agathe-fr",
    "it": "aura-2-livia-it",
    "ja": "aura-2-izanami-ja",
}
"""A voice for each language that Aura speaks, for agents without one."""
FLUX_VOICES = {"en": "flux-alexis-en"}
"""The same for Flux TTS."""


def check_offered_rate(sample_rate: int, rates: tuple[int, ...]) -> None:
    """Raise ConfigurationError for a sample rate that Deepgram does not offer."""
    if sample_rate not in rates:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}: it is one of {', '.join(map(str, sorted(rates)))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepgramTTSOptions:
    """Options of `DeepgramTTS`. Raises ConfigurationError for a value that Deepgram would refuse.

    None leaves a setting to the vendor.
    """

    voice: str = ""
    """The voice for agents without one, such as aura-2-thalia-en; "" for one of the agent's language."""
    sample_rate: int = 24_000
    speed: float | None = None
    """The speed relative to the usual one, from 0.7 to 1.5. Not all languages have it."""
    pronunciations: Mapping[str, str] = field(default_factory=dict)
    """Words and their pronunciation in IPA: `{"dupilumab": "duːˈpɪljuːmæb"}`. For the English and Spanish Aura-2."""
    mip_opt_out: bool | None = None

    def __post_init__(self) -> None:
        check_offered_rate(self.sample_rate, AURA_RATES)
        check_pronunciations(self.pronunciations)
        if self.speed is not None:
            check_range(self, speed=(0.7, 1.5))

    def query(self) -> dict[str, object]:
        """Return the arguments of the SDK's `connect` apart from the voice."""
        return present(
            encoding="linear16", sample_rate=self.sample_rate, speed=self.speed, mip_opt_out=self.mip_opt_out
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepgramFluxTTSOptions:
    """Options of `DeepgramFluxTTS`. Raises ConfigurationError for a value that Deepgram would refuse.

    None leaves a setting to the vendor.
    """

    voice: str = ""
    """The voice for agents without one, such as flux-alexis-en; "" for one of the agent's language."""
    sample_rate: int = 24_000
    speed: float | None = None
    """The speed relative to the usual one, from 0.5 to 1.5 in steps of 0.05."""
    expressivity: int | None = None
    """From -2 (calm) to 2 (animated)."""
    feeding: Feeding = "words"
    """How a sentence is sent while it is written. Flux speaks a turn while its text comes."""
    pronunciations: Mapping[str, str] = field(default_factory=dict)
    """Words and their pronunciation in IPA. Deepgram refuses them together with a `speed`."""
    tag: tuple[str, ...] = ()
    mip_opt_out: bool | None = None

    def __post_init__(self) -> None:
        check_offered_rate(self.sample_rate, FLUX_RATES)
        check_feeding(self.feeding)
        check_pronunciations(self.pronunciations)
        if self.pronunciations and self.speed not in (None, 1.0):
            raise ConfigurationError("pronunciations: Flux takes none together with a speed")
        if self.speed is not None:
            check_range(self, speed=(0.5, 1.5))
            if abs(self.speed * 20 - round(self.speed * 20)) > 1e-6:
                raise ConfigurationError(f"speed is {self.speed!r}: it is a multiple of 0.05")
        if self.expressivity is not None:
            check_range(self, expressivity=(-2, 2))
            if int(self.expressivity) != self.expressivity:
                raise ConfigurationError(f"expressivity is {self.expressivity!r}: it is a whole number")
        check_texts("tag", self.tag, MAX_TAG)

    def query(self) -> dict[str, object]:
        """Return the arguments of the SDK's `connect` apart from the voice."""
        return present(
            encoding="linear16",
            sample_rate=self.sample_rate,
            speed=self.speed,
            expressivity=self.expressivity,
            tag=self.tag,
            mip_opt_out=self.mip_opt_out,
        )
