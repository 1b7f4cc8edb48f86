"""What holds of every call, whatever the pipeline, the frames, the interruptions and the order of tasks."""

from __future__ import annotations

import os
from functools import partial

import pytest

from duologue.testing.clock import sweep
from tests.processors.random_calls import RandomCall

SEEDS = 1000
PARTS = 10


async def random_call(seed: int) -> None:
    await RandomCall(seed).run()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_random_call(part: int) -> None:
    """A failure names its seed and the command that replays it."""
    chosen = os.environ.get("DUOLOGUE_SEED")
    for seed in range(part, SEEDS, PARTS) if chosen is None else [int(chosen)]:
        sweep(partial(random_call, seed), [seed], limit_s=600)
