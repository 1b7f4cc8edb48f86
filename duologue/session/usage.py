"""The consumption of a call, and its cost at prices that are given as data.

The prices are in US dollars, of November 2026. Services that run in the process cost nothing. The prices of Gemini's
live models are a published estimate for the paid tier, per minute of audio, not checked against a bill. They are a
lower bound: with every answer the provider charges for the whole conversation again. Other models have no price here:
their consumption counts as 0, and `Cost.unpriced` names them. Give your own prices with
`cost(session.usage, {**PRICES, "my-model": Price(…)})`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from ..frames import Usage

MILLION = 1_000_000
_AMOUNTS = tuple(name for name in Usage.__struct_fields__ if name.endswith(("_tokens", "_s")) or name == "characters")


class UsageTotals:
    """Sums of the `Usage` signals, one for each service and model; iterating gives the sums."""

    def __init__(self) -> None:
        self.by_service: dict[tuple[str, str], Usage] = {}
        self.discarded: dict[tuple[str, str], Usage] = {}
        """The part of `by_service` that was spent on prepared answers that were thrown away."""

    def __iter__(self) -> Iterator[Usage]:
        return iter(self.by_service.values())

    def follow(self, on: Callable[[type[Usage], Callable[[Usage], None]], object]) -> None:
        """Count the reports of a session. `on` registers the listener."""
        on(Usage, self.add)

    def add(self, usage: Usage) -> None:
        """Count one report."""
        _add(self.by_service, usage)
        if usage.discarded:
            _add(self.discarded, usage)


def _add(sums: dict[tuple[str, str], Usage], usage: Usage) -> None:
    key = (usage.service, usage.model)
    sums[key] = add_usage(sums.get(key, Usage(service=usage.service, model=usage.model)), usage)


def add_usage(total: Usage, more: Usage) -> Usage:
    """Return `total` with the amounts of `more` added: the counts of tokens and characters, and the seconds."""
    return msgspec.structs.replace(total, **{name: getattr(total, name) + getattr(more, name) for name in _AMOUNTS})


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of a model in US dollars: per million tokens, per minute of audio, per million characters.

    `cached_input` is for tokens that the provider had cached; None charges them like the others.
    """

    text_input: float = 0.0
    text_output: float = 0.0
    audio_input: float = 0.0
    audio_output: float = 0.0
    cached_input: float | None = None
    input_minute: float = 0.0
    output_minute: float = 0.0
    characters: float = 0.0

    def of(self, used: Usage) -> float:
        """Return the cost of this consumption in US dollars."""
        audio_in, audio_out = used.input_audio_tokens, used.output_audio_tokens
        text_in = max(0, used.input_tokens - audio_in)
        cached_usd = 0.0
        if self.cached_input is not None:
            # Providers do not report which of these tokens are audio: assume text first, which is cheaper.
            cached_text = min(used.cached_tokens, text_in)
            cached_audio = min(used.cached_tokens - cached_text, audio_in)
            text_in, audio_in = text_in - cached_text, audio_in - cached_audio
            cached_usd = (cached_text + cached_audio) * self.cached_input
        tokens = (
            cached_usd
            + text_in * self.text_input
            + audio_in * self.audio_input
            + max(0, used.output_tokens - audio_out) * self.text_output
            + audio_out * self.audio_output
            + used.characters * self.characters
        )
        minutes = used.input_audio_s * self.input_minute + used.output_audio_s * self.output_minute
        return tokens / MILLION + minutes / 60


Prices = Mapping[str, Price]
"""Prices by the name of the model, or of the service where it has only one model."""

_FREE = Price()
_GEMINI_LIVE = Price(input_minute=0.005, output_minute=0.018)

PRICES: Prices = {
    "pocketsphinx": _FREE,
    "rules": _FREE,
    "espeak-ng": _FREE,
    "SphinxSTT": _FREE,
    "RulesLLM": _FREE,
    "EspeakTTS": _FREE,
    "gemini-2.5-flash-native-audio-preview-12-2025": _GEMINI_LIVE,
    "gemini-3.1-flash-live-preview": _GEMINI_LIVE,
}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a call in US dollars. `by_service` has None for a model without a price; `unpriced` names it."""

    usd: float
    by_service: dict[tuple[str, str], float | None]
    unpriced: tuple[str, ...] = ()


def cost(totals: Iterable[Usage], prices: Prices = PRICES) -> Cost:
    """Return the cost of the consumption in `totals`, for example `session.usage`, by (service, model).

    A model without a price counts as 0 and is named in `unpriced`.
    """
    by_service: dict[tuple[str, str], float | None] = {}
    for used in totals:
        price = prices.get(used.model) or prices.get(used.service)
        by_service[used.service, used.model] = None if price is None else price.of(used)
    return Cost(
        usd=sum(usd for usd in by_service.values() if usd is not None),
        by_service=by_service,
        unpriced=tuple(model or service for (service, model), usd in by_service.items() if usd is None),
    )
