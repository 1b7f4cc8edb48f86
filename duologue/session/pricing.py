"""What a call has cost: prices as data, and the sum of what was consumed.

The prices are in US dollars, put down in November 2026. What runs in the process costs nothing. For Gemini's live
models they are a published ballpark of the paid tier, per minute of audio, which nobody has checked against a bill: a
floor, for the provider counts the conversation so far again with every answer. Other models have no price here: what
they consume counts as 0, and is named. Give your own: `cost(session.usage, {**PRICES, "my-model": Price(…)})`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..frames import Usage
from .usage import UsageTotals

MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes, in US dollars: per million tokens, per minute of audio, per million characters.

    `cached_input` is for tokens that the provider had kept; None takes them at the price of the others.
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
        """What this much costs."""
        audio_in, audio_out = used.input_audio_tokens, used.output_audio_tokens
        text_in = max(0, used.input_tokens - audio_in)
        kept_cost = 0.0
        if self.cached_input is not None:
            # Nobody tells which of them are audio: the cheaper ones are taken to be.
            kept_text = min(used.cached_tokens, text_in)
            kept_audio = min(used.cached_tokens - kept_text, audio_in)
            text_in, audio_in = text_in - kept_text, audio_in - kept_audio
            kept_cost = (kept_text + kept_audio) * self.cached_input
        tokens = (
            kept_cost
            + text_in * self.text_input
            + audio_in * self.audio_input
            + max(0, used.output_tokens - audio_out) * self.text_output
            + audio_out * self.audio_output
            + used.characters * self.characters
        )
        minutes = used.input_audio_s * self.input_minute + used.output_audio_s * self.output_minute
        return tokens / MILLION + minutes / 60


Prices = Mapping[str, Price]
"""By the name of the model, or of the service for those that have only one."""

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
    """What a call has cost. `by_service` has a None for what has no price, and `unpriced` names it."""

    usd: float
    by_service: dict[tuple[str, str], float | None]
    unpriced: tuple[str, ...] = ()


def cost(totals: UsageTotals, prices: Prices = PRICES) -> Cost:
    """The cost of what was consumed, by (service, model). What has no price counts as 0 and is flagged."""
    by_service: dict[tuple[str, str], float | None] = {}
    for (service, model), used in totals.by_service.items():
        price = prices.get(model) or prices.get(service)
        by_service[service, model] = None if price is None else price.of(used)
    return Cost(
        usd=sum(usd for usd in by_service.values() if usd is not None),
        by_service=by_service,
        unpriced=tuple(model or service for (service, model), usd in by_service.items() if usd is None),
    )
