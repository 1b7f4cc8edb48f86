from __future__ import annotations

import pytest

from duologue.frames import Usage
from duologue.session.prices import Price
from duologue.session.usage import UsageTotals


def totals(*used: Usage) -> UsageTotals:
    sums = UsageTotals()
    for usage in used:
        sums.add(usage)
    return sums


def test_nothing_costs_nothing() -> None:
    assert cost(UsageTotals()).usd == 0
    assert cost(UsageTotals()).unpriced == ()


@pytest.mark.parametrize(
    ("price", "used", "usd"),
    [
        (Price(text_input=2), {"input_tokens": 500_000}, 1.0),
        (Price(text_output=8), {"output_tokens": 500_000}, 4.0),
        (Price(text_input=2, audio_input=30), {"input_tokens": 1_000_000, "input_audio_tokens": 100_000}, 1.8 + 3.0),
        (Price(text_output=4, audio_output=60), {"output_tokens": 100_000, "output_audio_tokens": 50_000}, 0.2 + 3.0),
        (Price(text_input=2, cached_input=0.5), {"input_tokens": 1_000_000, "cached_tokens": 400_000}, 1.2 + 0.2),
        (Price(text_input=2), {"input_tokens": 1_000_000, "cached_tokens": 400_000}, 2.0),
        (Price(input_minute=0.06), {"input_audio_s": 90}, 0.09),
        (Price(output_minute=0.24), {"output_audio_s": 30}, 0.12),
        (Price(characters=15), {"characters": 2_000}, 0.03),
    ],
)
def test_each_unit_has_its_price(price: Price, used: dict[str, int], usd: float) -> None:
    sums = totals(Usage(service="S", model="m", **used))  # type: ignore[arg-type]
    assert cost(sums, {"m": price}).usd == pytest.approx(usd)


def test_cached_tokens_are_text_first_and_never_more_than_there_are() -> None:
    price = Price(text_input=1, audio_input=10, cached_input=0.1)
    used = Usage(service="S", model="m", input_tokens=2_000_000, input_audio_tokens=1_000_000, cached_tokens=1_500_000)
    assert cost(totals(used), {"m": price}).usd == pytest.approx(0.5 * 10 + 1.5 * 0.1)
    too_many = Usage(service="S", model="m", input_tokens=1_000_000, cached_tokens=9_000_000)
    assert cost(totals(too_many), {"m": price}).usd == pytest.approx(0.1)


def test_services_are_summed_and_told_apart() -> None:
    sums = totals(
        Usage(service="Ears", model="a", input_audio_s=60),
        Usage(service="Ears", model="a", input_audio_s=60),
        Usage(service="Mouth", model="b", characters=1_000_000),
    )
    found = cost(sums, {"a": Price(input_minute=0.01), "b": Price(characters=3)})
    assert found.by_service == {("Ears", "a"): pytest.approx(0.02), ("Mouth", "b"): pytest.approx(3)}
    assert found.usd == pytest.approx(3.02)


def test_an_unknown_model_counts_as_nothing_and_is_flagged() -> None:
    sums = totals(Usage(service="New", model="new-1", input_tokens=10), Usage(service="RulesLLM", model="rules"))
    found = cost(sums)
    assert found.usd == 0
    assert found.unpriced == ("new-1",)
    assert found.by_service == {("New", "new-1"): None, ("RulesLLM", "rules"): 0}


def test_a_service_without_a_model_is_found_by_its_name() -> None:
    assert cost(totals(Usage(service="Ears", input_audio_s=60)), {"Ears": Price(input_minute=1)}).usd == 1


def test_prices_can_be_overridden() -> None:
    sums = totals(Usage(service="RulesLLM", model="rules", output_tokens=1_000_000))
    assert cost(sums, {**PRICES, "rules": Price(text_output=2)}).usd == 2
