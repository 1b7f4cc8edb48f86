"""Every engine under the family of faults: a sample of the seeds of `--faults` of the suite's command."""

from __future__ import annotations

import pytest

from duologue.testing.conformance import Rig
from duologue.testing.conformance.rigs import all_rigs
from duologue.testing.conformance.trials import play

RIGS = all_rigs()
SEEDS = range(0, 200, 40)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rig", RIGS, ids=[rig.name.replace(" ", "-") for rig in RIGS])
def test_an_engine_keeps_the_rules_under_faults(rig: Rig, seed: int) -> None:
    played = play(rig, seed)
    assert not played.failed, f"{played.scenario}\n{played.plan}\n{played.details}"


def test_an_answer_that_an_earlier_call_of_the_scenario_lost_is_not_owed_by_a_later_one() -> None:
    rig = next(rig for rig in RIGS if rig.name == "deepgram-flux+gemini+openai")
    assert play(rig, 10).verdict == "weakened"
