"""What holds of every call, whatever the pipeline, the frames, the interruptions and the order of tasks."""

from __future__ import annotations

import os
from functools import partial

import pytest

from duologue.testing.clock import sweep
from tests.processors.random_calls import RandomCall, Theme

SEEDS: dict[Theme, int] = {"anything": 800, "forks": 400, "switches": 400}
PARTS = 4


async def random_call(seed: int, theme: Theme) -> None:
    await RandomCall(seed, theme).run()


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("theme", SEEDS)
def test_a_random_call(theme: Theme, part: int) -> None:
    """A failure names its seed and the command that replays it."""
    chosen = os.environ.get("DUOLOGUE_SEED")
    for seed in range(part, SEEDS[theme], PARTS) if chosen is None else [int(chosen)]:
        sweep(partial(random_call, seed, theme), [seed], limit_s=600)
