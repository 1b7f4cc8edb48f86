"""Many trials: the scenarios under one plan of faults after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from ...errors import ConfigurationError
from .rig import Rig
from .suite import SCENARIOS, Scenario
from .trial import TrialVerdict, check_under_faults

AT_ONCE = 2
"""Trials that a process is given at a time."""


@dataclass(frozen=True, slots=True)
class Played:
    """The result of one trial."""

    rig: str
    scenario: str
    seed: int
    verdict: TrialVerdict | str
    """The verdict, or the error in a line."""
    plan: str
    """The faults of the plan, and where each was shown."""
    shown: frozenset[str]
    """The names of the faults that were shown."""
    details: str = ""
    """The error with its trace and the call, "" if the trial passed."""

    @property
    def failed(self) -> bool:
        """True if a rule was broken, or a promise without a fault that explains it."""
        return bool(self.details)


def scenarios_of(rig: Rig, prefix: str = "") -> list[Scenario]:
    """Return the scenarios that apply to a rig, in order."""
    return [one for one in SCENARIOS.values() if one.id.startswith(prefix) and one.faults <= rig.faults]


def scenario_of(rig: Rig, seed: int, prefix: str = "") -> Scenario:
    """Return the scenario that a seed plays: they take turns. Raises ConfigurationError if none applies to the rig."""
    own = scenarios_of(rig, prefix)
    if not own:
        raise ConfigurationError(f"no scenario of {rig.name} begins with {prefix!r}")
    return own[seed % len(own)]


def play(rig: Rig, seed: int, prefix: str = "", faults: tuple[str, ...] | None = None) -> Played:
    """Run the scenario of a seed under the plan of the seed. Returns its result, also if it fails."""
    scenario = scenario_of(rig, seed, prefix)
    try:
        verdict, manners = check_under_faults(rig, scenario, seed, faults)
    except Exception as error:
        plan = next((note for note in getattr(error, "__notes__", ()) if note.startswith("Manners(")), "")
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        details = "".join(traceback.format_exception(error))
        return Played(rig.name, scenario.id, seed, problem, plan, frozenset(), details)
    return Played(rig.name, scenario.id, seed, verdict, str(manners), frozenset(manners.names))


def play_all(
    make_rigs: Callable[[], Sequence[Rig]],
    names: Sequence[str],
    seeds: Iterable[int],
    *,
    prefix: str = "",
    faults: tuple[str, ...] | None = None,
    jobs: int = 1,
) -> Iterator[Played]:
    """Yield the result of each seed on each rig with one of these names, in order, with `jobs` processes."""
    one = partial(_play_named, make_rigs, prefix, faults)
    tasks = [(name, seed) for name in names for seed in seeds]
    if jobs == 1:
        yield from map(one, tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, tasks, chunksize=AT_ONCE)


def _play_named(
    make_rigs: Callable[[], Sequence[Rig]], prefix: str, faults: tuple[str, ...] | None, task: tuple[str, int]
) -> Played:
    name, seed = task
    rig = next(rig for rig in make_rigs() if rig.name == name)
    return play(rig, seed, prefix, faults)
