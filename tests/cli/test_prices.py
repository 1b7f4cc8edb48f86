"""`duologue prices`, and the date of the prices in `duologue doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue.cli.app import app
from duologue.session.prices import Prices


def output_of(*arguments: str, status: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_the_whole_table_is_printed_with_dates_and_sources() -> None:
    printed = output_of("prices")
    table = Prices.of(None)
    assert f"Prices of {table.date}" in printed
    for name, price in table:
        assert f"\n{name}" in printed
        assert price.source in printed


def test_the_price_of_a_version_of_a_model() -> None:
    printed = output_of("prices", "--model", "gpt-realtime-2.1")
    assert "USD per million tokens: text input 4, cached text input 0.4, audio input 32" in printed
    assert "0.0192 while the caller speaks, 0.0768 while the agent speaks" in printed
    assert "2026-12-01" in printed
    assert "not verified" in output_of("prices", "--model", "nova-3-medical")
    assert "free" in output_of("prices", "--model", "EspeakTTS")
    assert "while it is connected" in output_of("prices", "--model", "flux-general-en")


def test_prices_of_a_file_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('date = 2027-01-01\n[models.mine]\nunit = ["minute"]\nconnection_minute = 0.5\nsource = "mine"\n')
    printed = output_of("prices", "--model", "mine-2027-02-02", "--prices", str(file))
    assert "Prices of 2027-01-01" in printed
    assert "connection minute 0.5" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "gpt-99"], "there is no price of 'gpt-99'"),
        (["--prices", "nowhere"], "prices of nowhere"),
    ],
)
def test_bad_input_is_named(arguments: list[str], told: str) -> None:
    assert told in output_of("prices", *arguments, status=2)


def test_the_doctor_tells_the_date() -> None:
    assert f"prices of {Prices.of(None).date}" in CliRunner().invoke(app, ["doctor"]).output
