"""`Scenario`: how scenarios are registered, matched with rigs, and run."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ...agents.engine import Capabilities
from ...errors import ConfigurationError
from .. import clock
from .call import latest
from .rig import Fault, Rig

Verdict = Literal["holds", "cannot", "n/a"]
"""The rule holds; the engine declares that it cannot do it, and refuses it; or the fault cannot happen to it."""

VERSION = 1
"""The version of the suite. It increases when a scenario demands more: see `Capabilities.conformance`."""

POINTS = {
    "E1": "responses in brackets",
    "E2": "nothing after an interruption",
    "E3": "transcripts of both sides",
    "E4": "tools",
    "E5": "configuration, all or nothing",
    "E6": "knows the conversation",
    "E7": "usage",
    "E8": "connection faults",
    "E9": "capabilities are kept to",
    "E10": "only what was heard",
}
"""The points of the engine contract."""

Test = Callable[["Rig", random.Random], Awaitable[None]]
Can = Callable[[Capabilities], bool]


@dataclass(frozen=True)
class Scenario:
    """One rule for every engine. `id` is the point of the contract and a name: "E4.a-call-is-made-once"."""

    id: str
    test: Test
    faults: frozenset[Fault]
    """Faults that the far end must be able to produce; a scenario is not applicable without them."""
    can: Can
    """Returns True for the capabilities of an engine to which the rule applies."""
    refused: Test | None
    """Checks that an engine without the ability refuses the request or reports an error."""
    seeds: int
    """The number of schedules in which the scenario runs by default."""

    @property
    def point(self) -> str:
        """The point of the contract: "E1" to "E10"."""
        return self.id.partition(".")[0]

    @property
    def summary(self) -> str:
        """The rule in one sentence: the first line of the function's docstring."""
        return (self.test.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")


SCENARIOS: dict[str, Scenario] = {}
"""All scenarios, by id."""


def scenario(
    point: str,
    *,
    faults: Iterable[Fault] = (),
    can: Can = lambda capabilities: True,
    refused: Test | None = None,
    seeds: int = 1,
) -> Callable[[Test], Test]:
    """Register an async function of a rig and a source of random numbers as a scenario.

    Raises ConfigurationError for an unknown point, a missing docstring, and a name that is taken.
    """

    def register(test: Test) -> Test:
        name = getattr(test, "__name__", "").replace("_", "-")
        scenario_id = f"{point}.{name}"
        if point not in POINTS:
            raise ConfigurationError(f"scenario {name}: the contract has no point {point!r}")
        if not test.__doc__:
            raise ConfigurationError(f"scenario {scenario_id} has no docstring")
        if scenario_id in SCENARIOS:
            raise ConfigurationError(f"two scenarios are named {scenario_id}")
        SCENARIOS[scenario_id] = Scenario(scenario_id, test, frozenset(faults), can, refused, seeds)
        return test

    return register


async def expected(rig: Rig, scenario: Scenario) -> Verdict:
    """Return the verdict of a scenario on a rig whose engine keeps the contract."""
    if not scenario.faults <= rig.faults:
        return "n/a"
    async with rig.start([]) as far:
        return "holds" if scenario.can(far.capabilities) else "cannot"


async def run(rig: Rig, scenario: Scenario, seed: int = 0) -> Verdict:
    """Run one scenario on one rig, in the schedule of the event loop. Raises the scenario's error if it fails.

    For an engine that declares that it lacks the ability, `refused` of the scenario is run instead. Raises
    ConfigurationError if the scenario has none.
    """
    return await run_test(rig, scenario, random.Random(f"{scenario.id} {seed}"))


async def run_test(rig: Rig, scenario: Scenario, source: random.Random) -> Verdict:
    """Run one scenario on one rig with a source of random numbers. See `run`."""
    verdict = await expected(rig, scenario)
    if verdict == "n/a":
        return verdict
    test = scenario.test if verdict == "holds" else scenario.refused
    if test is None:
        raise ConfigurationError(f"scenario {scenario.id} does not say how {rig.name} is to refuse what it cannot do")
    latest.set(None)
    try:
        await test(rig, source)
    except Exception as problem:
        error: BaseException = problem
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]  # raised by the call's task group
        error.add_note(str(latest.get() or ""))
        raise error from None
    return verdict


def check(rig: Rig, scenario: Scenario, schedules: int | None = None) -> Verdict:
    """Run a scenario under the virtual clock, in `schedules` different schedules, by default `Scenario.seeds`.

    Raises the scenario's error if it fails.
    """
    seeds = min(schedules or scenario.seeds, scenario.seeds)
    if seeds == 1 or clock.run(expected, rig, scenario) != "holds":
        return clock.run(run, rig, scenario, limit_s=LIMIT_S)
    verdicts: list[Verdict] = []

    async def one() -> None:
        verdicts.append(await run(rig, scenario, len(verdicts)))

    clock.sweep(one, range(seeds), limit_s=LIMIT_S)
    return verdicts[0]


LIMIT_S = 600.0
"""The most virtual seconds that a scenario may take."""
