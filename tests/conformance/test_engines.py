"""Every engine of Duologue against every scenario of the engine contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from duologue.testing.conformance import SCENARIOS, Rig, Scenario, check, expected
from duologue.testing.conformance.rigs import all_rigs
from duologue.testing.conformance.rigs.mixes import MIXES, MixRig
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
"""The others differ from these in a model or in a vendor: one schedule shows what differs."""
WHOLE = {"+".join(mix) for mix in MIXES[:2]}
"""The mixes that play every scenario here. The others share them out; the suite's command plays all on each."""
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def cells() -> Iterator[Any]:
    """Yield the cells of the table to play, as parameters."""
    shared = [rig.name for rig in RIGS if isinstance(rig, MixRig) and rig.name not in WHOLE]
    for rig in RIGS:
        for number, scenario in enumerate(SCENARIOS.values()):
            if rig.name not in shared or shared.index(rig.name) == number % len(shared):
                yield pytest.param(rig, scenario, id=f"{rig.name.replace(' ', '-')}-{scenario.id}")


@pytest.mark.parametrize(("rig", "scenario"), list(cells()))
def test_an_engine_obeys_the_contract(
    rig: Rig, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    foreseen = anyio.run(expected, rig, scenario)
    record_property(PROPERTY, (rig.name, scenario.id, foreseen))
    assert check(rig, scenario, None if rig.name in OFTEN else 1) == foreseen


def test_the_page_has_the_current_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, anyio.run(foreseen, RIGS), RIGS), "python -m duologue.testing.conformance --write"
