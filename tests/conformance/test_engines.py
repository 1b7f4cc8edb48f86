"""Every engine of Duologue against every scenario of the engine contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from duologue.testing.conformance import SCENARIOS, Rig, Scenario, check, expected
from duologue.testing.conformance.rigs import all_rigs
from duologue.testing.conformance.table import foreseen, written
from tests.conformance.conftest import PROPERTY

RIGS = all_rigs()
OFTEN = {
    "Cascade",
    "RemoteCascade",
    "OpenAIRealtime",
    "OpenAIRealtime, own turns",
    "GeminiLive 3.8",
    "GeminiLive 3.8, own turns",
}
"""The others are the same engine with another family of models: one schedule shows what differs."""
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
@pytest.mark.parametrize("rig", RIGS, ids=[rig.name.replace(" ", "-") for rig in RIGS])
def test_an_engine_obeys_the_contract(
    rig: Rig, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    foreseen = anyio.run(expected, rig, scenario)
    record_property(PROPERTY, (rig.name, scenario.id, foreseen))
    assert check(rig, scenario, None if rig.name in OFTEN else 1) == foreseen


def test_the_page_has_the_current_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, anyio.run(foreseen, RIGS), RIGS), "python -m duologue.testing.conformance --write"
