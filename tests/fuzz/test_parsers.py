"""No hostile input makes a parser raise anything but BadInput."""

from __future__ import annotations

import math
import time

import pytest

from duologue.errors import BadInput
from tests.fuzz.mutation import Mutator
from tests.fuzz.parsers import TARGETS, fuzz
from tests.fuzz.samples import REALTIME

INPUTS = 600
SHARE = 0.5
"""The part of the seconds that is spent here; the rest is spent at the doors."""
MAX_GROWTH_MB = 30.0
MAX_S = 5.0
"""CPU seconds for one input: far beyond any, and far below what would stop a server."""


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_unexpected(name: str, fuzz_seconds: float) -> None:
    seconds = SHARE * fuzz_seconds / len(TARGETS)
    seed = int(time.time()) if fuzz_seconds else 1
    finding = fuzz(name, seed=seed, inputs=10**12 if fuzz_seconds else INPUTS, seconds=seconds or math.inf)
    assert not finding.unexpected, f"{dict(finding.unexpected)}, seeds {finding.seeds[:5]}"
    assert finding.inputs > finding.refused, "no valid input is among them"
    assert finding.slowest_s < MAX_S
    assert finding.memory_growth_mb < MAX_GROWTH_MB


def test_a_seed_makes_the_same_inputs() -> None:
    def made(seed: int) -> list[str]:
        mutator = Mutator(seed)
        return [mutator.message(REALTIME) for _ in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_what_a_parser_should_not_raise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def target(mutator: Mutator) -> None:
        if mutator.chance(0.5):
            raise BadInput("refused")
        if mutator.chance(0.1):
            raise TypeError("unhashable")

    monkeypatch.setitem(TARGETS, "WAV", target)
    finding = fuzz("WAV", inputs=200)
    assert finding.inputs == 200
    assert 50 < finding.refused < 150
    assert list(finding.unexpected) == ["TypeError: unhashable"]
    with pytest.raises(TypeError):
        target(Mutator(finding.seeds[0]))
