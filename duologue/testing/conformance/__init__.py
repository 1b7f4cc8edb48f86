"""The engine conformance suite: one set of scenarios for every engine, native or cascade.

    from duologue.testing.conformance import SCENARIOS, check

    @pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
    def test_my_engine(scenario):
        check(MyRig(), scenario)

A `Rig` starts an engine and gives access to the record of its far end. The rigs for Duologue's own engines are in
`duologue.testing.conformance.rigs`; each needs the extras of its engine, and all need `local` for the caller's voice.
"""

from __future__ import annotations

from . import scenarios as scenarios
from .rig import Conditions, FarEnd, Fault, Rig
from .suite import POINTS, SCENARIOS, Scenario, Verdict, check, expected, run, scenario
from .trial import TrialVerdict, check_under_faults

__all__ = [
    "POINTS",
    "SCENARIOS",
    "Conditions",
    "FarEnd",
    "Fault",
    "Rig",
    "Scenario",
    "TrialVerdict",
    "Verdict",
    "check",
    "check_under_faults",
    "expected",
    "run",
    "scenario",
]
