"""Prices as data, the sums of a call's consumption, and what a minute costs before the call."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytest

from duologue import Cascade, ConfigurationError, Pipeline
from duologue.frames import Usage
from duologue.frames.signals import AMOUNTS
from duologue.session.prices import Price, Prices
from duologue.session.usage import UsageTotals, estimate
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


def used(**amounts: Any) -> Usage:
    return Usage(service="S", model="m", **amounts)


@pytest.mark.parametrize(
    ("price", "amounts", "usd"),
    [
        (Price(text_input=2), {"input_tokens": 500_000}, 1.0),
        (Price(text_output=8), {"output_tokens": 500_000}, 4.0),
        (Price(text_input=2, audio_input=30), {"input_tokens": 1_000_000, "input_audio_tokens": 100_000}, 1.8 + 3.0),
        (Price(text_output=4, audio_output=60), {"output_tokens": 100_000, "output_audio_tokens": 50_000}, 0.2 + 3.0),
        (Price(text_input=2, cached_text_input=0.5), {"input_tokens": 1_000_000, "cached_tokens": 400_000}, 1.2 + 0.2),
        (Price(text_input=2), {"input_tokens": 1_000_000, "cached_tokens": 400_000}, 2.0),
        (Price(text_input=2, image_input=5), {"input_tokens": 300_000, "input_image_tokens": 100_000}, 0.4 + 0.5),
        (Price(text_input=2), {"input_tokens": 300_000, "input_image_tokens": 100_000}, 0.6),
        (Price(text_output=8), {"output_tokens": 500_000, "thought_tokens": 400_000}, 4.0),
        (Price(input_minute=0.06), {"input_audio_s": 90}, 0.09),
        (Price(output_minute=0.24), {"output_audio_s": 30}, 0.12),
        (Price(connection_minute=0.05), {"connection_s": 90}, 0.075),
        (Price(characters=15), {"characters": 2_000}, 0.03),
    ],
)
def test_each_unit_has_its_price(price: Price, amounts: dict[str, int], usd: float) -> None:
    assert Prices.of({"m": price}).cost(used(**amounts)) == pytest.approx(usd)


def test_cached_tokens_of_each_modality_have_their_price() -> None:
    price = Price(text_input=4, cached_text_input=0.4, audio_input=32, cached_audio_input=0.5)
    told = used(input_tokens=1_000_000, input_audio_tokens=400_000, cached_tokens=500_000, cached_audio_tokens=300_000)
    assert price.of(told) == pytest.approx(0.4 * 4 + 0.2 * 0.4 + 0.1 * 32 + 0.3 * 0.5)


def test_cached_tokens_without_details_are_text_first_and_never_more_than_there_are() -> None:
    price = Price(text_input=1, audio_input=10, cached_text_input=0.1, cached_audio_input=0.2)
    told = used(input_tokens=2_000_000, input_audio_tokens=1_000_000, cached_tokens=1_500_000)
    assert price.of(told) == pytest.approx(0.1 + 0.5 * 10 + 0.5 * 0.2)
    assert price.of(used(input_tokens=1_000_000, cached_tokens=9_000_000)) == pytest.approx(0.1)
    assert price.of(used(input_tokens=1_000_000, input_audio_tokens=9_000_000)) == pytest.approx(10)
    assert price.of(used(output_tokens=1_000, output_audio_tokens=9_000)) == 0


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_price_of_the_package_has_a_date_a_source_and_a_unit() -> None:
    table = Prices.of(None)
    assert table.date is not None
    assert len(table.entries) > 30
    for name, price in table:
        assert price.source, name
        assert isinstance(price.date, datetime.date), name
        assert price.date <= table.date
        assert set(price.unit) == price.units, name


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("gpt-realtime", "gpt-realtime"),
        ("gpt-realtime-2025-08-28", "gpt-realtime"),
        ("gpt-realtime-mini-2025-10-06", "gpt-realtime-mini"),
        ("gpt-realtime-2.1", "gpt-realtime-2.1"),
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("models/gemini-2.5-flash-native-audio-preview-12-2025", "gemini-2.5-flash-native-audio"),
        ("gemini-3.1-flash-live-preview", "gemini-3.1-flash-live"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("openai/gpt-5.4", "gpt-5.4"),
        ("aura-2-thalia-en", "aura-2"),
        ("nova-3-medical", "nova-3"),
        ("sonic-3.5", "sonic"),
        ("gpt-realtime-3", None),
        ("gpt-realtime-miniature", None),
        ("gpt-5.4-pro", None),
        ("gpt", None),
        ("", None),
    ],
)
def test_a_version_of_a_model_has_its_price_and_another_model_has_not(model: str, entry: str | None) -> None:
    table = Prices.of(None)
    assert table.find(model) == (table.entries[entry] if entry is not None else None)


def test_the_models_that_are_used_by_default_have_prices() -> None:
    for model in (
        *("gpt-realtime-2.1", "gpt-5.4-mini", "gpt-transcribe", "gpt-4o-mini-tts", "gemini-3.8-live"),
        *("gemini-3.8-flash", "nova-3", "flux-general-en", "universal-3-6-pro", "scribe_v2_realtime"),
        *("eleven_flash_v2_5", "sonic-3.5", "ink-2"),
    ):
        assert Prices.of(None).find(model) is not None, model


def test_a_service_without_a_known_model_is_found_by_its_name() -> None:
    prices = Prices.of({"Ears": Price(input_minute=1)})
    assert prices.cost(Usage(service="Ears", model="large-v9", input_audio_s=60)) == 1
    assert prices.cost(Usage(service="EspeakTTS", model="espeak-ng", characters=1_000)) == 0


def test_prices_of_a_mapping_or_a_file_go_before_those_of_the_package(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('date = 2027-01-02\n[models."gpt-realtime"]\nunit = ["million tokens"]\ntext_output = 2\n')
    told = Usage(service="S", model="gpt-realtime-2027-01-01", output_tokens=1_000_000)
    for given in (str(file), file, {"gpt-realtime": Price(text_output=2)}, {"gpt-realtime": {"text_output": 2}}):
        prices = Prices.of(given)
        assert prices.cost(told) == 2
        assert prices.find("gpt-realtime-2.1") is not None
    assert Prices.of(file).date == datetime.date(2027, 1, 2)


@pytest.mark.parametrize(
    ("price", "told"),
    [
        ({"text_input": -1}, "the price of 'm': text_input is -1"),
        ({"text_input": math.nan}, "the price of 'm': text_input is nan"),
        ({"audio_output": math.inf}, "the price of 'm': audio_output is inf"),
        ({"characters": "15"}, "the price of 'm': .*characters"),
        ({"text_imput": 1}, "the price of 'm': .*text_imput"),
        (Price(text_input="4"), "the price of 'm': text_input is '4'"),  # type: ignore[arg-type]
        (Price(text_input=None), "the price of 'm': text_input is None"),  # type: ignore[arg-type]
        (Price(cached_text_input=-0.1), "the price of 'm': cached_text_input is -0.1"),
        (4.0, "the price of 'm': "),
        ({"text_input": 1e308}, "the price of 'm': text_input is 1e\\+308"),
        (Price(connection_minute=1e308), "the price of 'm': connection_minute is 1e\\+308"),
        (Price(text_input=10**400), "the price of 'm': text_input is a huge integer"),
        (Price(family="no"), "the price of 'm': family is 'no'"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_price_is_refused_by_its_name(price: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Prices.of({"m": price})


@pytest.mark.parametrize(
    "content",
    [
        "not toml [",
        "[models.m]\ntext_input = 1\n",  # without its unit
        '[models.m]\nunit = ["minute"]\ntext_input = 1\n',
        '[models.m]\nunit = ["million tokens"]\ntext_input = nan\n',
        "models = 3\n",
        'date = "yesterday"\n',
        "currency = 'EUR'\n",
        "\x00",
    ],
)
def test_a_wrong_file_is_refused_by_its_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"prices\.toml|'m'"):
        Prices.of(file)
    with pytest.raises(ConfigurationError, match="nowhere"):
        Prices.of(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="not int"):
        Prices.of(3)  # type: ignore[arg-type]


# -- consumption -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("amount", [-1, -0.5, math.nan, math.inf, "12", None, b"1", True, [1]])
def test_an_amount_that_is_none_counts_as_nothing_and_is_named(name: str, amount: Any) -> None:
    told = used(**{name: amount})
    assert getattr(told, name) == 0
    assert told.faults == (name,)


def test_consumption_is_summed_by_service_and_model() -> None:
    sums = UsageTotals()
    for _ in range(2):
        sums.add(Usage(service="Ears", model="a", input_audio_s=60, connection_s=1))
    sums.add(Usage(service="Mouth", model="b", characters=1_000_000, discarded=True))
    assert {one.service: (one.input_audio_s, one.connection_s, one.characters) for one in sums} == {
        "Ears": (120, 2, 0),
        "Mouth": (0, 0, 1_000_000),
    }
    assert list(sums.discarded) == [("Mouth", "b")]


def test_the_cost_of_a_minute_is_known_before_the_call() -> None:
    engine = Cascade(MockSTT([]), MockLLM(), MockTTS())
    prices = {
        "MockSTT": Price(input_minute=0.006, connection_minute=0.002),
        "MockLLM": Price(text_input=1, text_output=4),
        "MockTTS": Price(characters=50),
    }
    minute = estimate(Pipeline([engine]), prices)
    assert minute.input_usd == pytest.approx(0.006 + 0.002 + 0.008)
    assert minute.output_usd == pytest.approx(0.002 + 225 * 4e-6 + 900 * 50e-6)
    assert minute.usd == pytest.approx((minute.input_usd + minute.output_usd) / 2)
    assert minute.unpriced == ()
    assert estimate(Pipeline([engine])).unpriced
