"""The consumption of a call: `UsageTotals`, its sums, and `estimate`, what a minute of a pipeline costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..frames import Usage
from ..frames.signals import AMOUNTS
from ..processors.kernel.groups import leaves
from .prices import Price, PriceGiven, Prices

SPOKEN_CHARACTERS = 900
"""Characters of a minute of speech, for estimates."""
SPOKEN_TOKENS = 225
"""Tokens of text of a minute of speech, for estimates."""
READ_TOKENS = 8_000
"""Tokens that a text model reads in a minute of conversation, for estimates: four requests of 2,000 each."""


class UsageTotals:
    """Sums of the `Usage` signals, one for each service and model; iterating gives the sums."""

    def __init__(self) -> None:
        self.by_service: dict[tuple[str, str], Usage] = {}
        self.discarded: dict[tuple[str, str], Usage] = {}
        """The part of `by_service` that was spent on prepared answers that were thrown away."""

    def __iter__(self) -> Iterator[Usage]:
        return iter(self.by_service.values())

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
    return msgspec.structs.replace(total, **{name: getattr(total, name) + getattr(more, name) for name in AMOUNTS})


class MinuteCost(msgspec.Struct, frozen=True, kw_only=True):
    """The estimated cost of a minute of one service in US dollars.

    `input_usd` is for a minute in which the caller speaks, `output_usd` for one in which the agent speaks,
    `connection_usd` for any minute of the open connection.
    """

    service: str
    model: str
    input_usd: float = 0.0
    output_usd: float = 0.0
    connection_usd: float = 0.0
    priced: bool = True


class PerMinute(msgspec.Struct, frozen=True, kw_only=True):
    """The estimated cost of a minute of conversation in US dollars, in which each side speaks half of the time."""

    services: tuple[MinuteCost, ...] = ()

    @property
    def input_usd(self) -> float:
        """The cost of a minute in which the caller speaks, with the open connections."""
        return sum(one.input_usd + one.connection_usd for one in self.services)

    @property
    def output_usd(self) -> float:
        """The cost of a minute in which the agent speaks, with the open connections."""
        return sum(one.output_usd + one.connection_usd for one in self.services)

    @property
    def usd(self) -> float:
        """The cost of a minute of conversation."""
        return (self.input_usd + self.output_usd) / 2

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The names of the models without a price. They count as 0."""
        return tuple(one.model or one.service for one in self.services if not one.priced)


def estimate(pipeline: Any, prices: Prices | Mapping[str, PriceGiven] | str | Path | None = None) -> PerMinute:
    """Return the estimated cost of a minute of conversation with a pipeline, before or during a call.

    Raises ConfigurationError for prices that are malformed.
    """
    table = Prices.of(prices)
    named = ((leaf.name, getattr(leaf, "model", "")) for leaf in leaves(pipeline) if hasattr(leaf, "model"))
    return PerMinute(services=tuple(_minute(service, str(model), table) for service, model in named))


def _minute(service: str, model: str, prices: Prices) -> MinuteCost:
    price = prices.find(model, service)
    if price is None:
        return MinuteCost(service=service, model=model, priced=False)
    return minute_of(price, service, model)


def minute_of(price: Price, service: str, model: str) -> MinuteCost:
    """Return the estimated cost of a minute at a price: of speech, or of the text that it has."""
    heard = Usage(service=service, input_audio_s=60)
    spoken = Usage(service=service, output_audio_s=60, characters=SPOKEN_CHARACTERS)
    heard_tokens, spoken_tokens = (round(60 * rate) for rate in (price.input_tokens_per_s, price.output_tokens_per_s))
    if heard_tokens or spoken_tokens:
        heard = msgspec.structs.replace(heard, input_tokens=heard_tokens, input_audio_tokens=heard_tokens)
        spoken = msgspec.structs.replace(spoken, output_tokens=spoken_tokens, output_audio_tokens=spoken_tokens)
    else:
        heard = msgspec.structs.replace(heard, input_tokens=READ_TOKENS)
        spoken = msgspec.structs.replace(spoken, output_tokens=SPOKEN_TOKENS)
    connection = Usage(service=service, connection_s=60)
    return MinuteCost(
        service=service,
        model=model,
        input_usd=price.of(heard),
        output_usd=price.of(spoken),
        connection_usd=price.of(connection),
    )
