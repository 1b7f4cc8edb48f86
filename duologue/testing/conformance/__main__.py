"""Runs the suite on Duologue's engines, also under faults, or updates the page with its tables.

python -m duologue.testing.conformance                    run all scenarios, and print a line for each
python -m duologue.testing.conformance E4                 run the scenarios whose id begins with "E4"
python -m duologue.testing.conformance --faults --seeds 200
                                                          run 200 seeds on each engine under the family of faults
python -m duologue.testing.conformance --faults=nulls,pause --engine OpenAIRealtime --first 17 --seeds 1 -v
                                                          run one seed under these faults, and print its plan
python -m duologue.testing.conformance --write [PAGE]     write the tables without a run, by default docs/conformance.md
python -m duologue.testing.conformance --faults --write [PAGE]
                                                          run 200 seeds on each engine, and write their verdicts
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import anyio

from ..scripted.manners import FAULTS
from . import SCENARIOS, check
from .rig import Rig
from .rigs import all_rigs
from .table import foreseen, table, write
from .trials import Played, play_all, scenarios_of
from .verdicts import ENGINE, FAULT, by_fault, markdown, outcomes, update

PAGE = Path("docs/conformance.md")


def main(arguments: list[str]) -> int:
    """Run the command. Returns the number of scenarios that failed."""
    parser = argparse.ArgumentParser(prog="python -m duologue.testing.conformance")
    parser.add_argument("prefix", nargs="?", default="", help="the beginning of the scenarios' ids, for example E4")
    parser.add_argument("--engine", action="append", help="the name of an engine, by default all; may be repeated")
    parser.add_argument("--faults", nargs="?", const="", help="play under faults: these, or two or three for each seed")
    parser.add_argument("--seeds", type=int, default=200, help="the number of seeds on each engine, with --faults")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="the number of processes, with --faults")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the plan and the error of each trial")
    parser.add_argument(
        "--write", nargs="?", const=PAGE, type=Path, help="write the tables, or the verdicts, into a page"
    )
    chosen = parser.parse_args(arguments)
    rigs = all_rigs()
    names = [rig.name for rig in rigs]
    if unknown := set(chosen.engine or ()) - set(names):
        parser.error(f"no engine {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    under_faults = chosen.faults is not None
    if under_faults:
        chosen.faults = tuple(chosen.faults.split(",")) if chosen.faults else None
        if unknown := set(chosen.faults or ()) - set(FAULTS):
            parser.error(f"no fault {', '.join(sorted(unknown))}: there are {', '.join(FAULTS)}")
        if chosen.write and (chosen.faults or chosen.prefix or chosen.first):
            parser.error("the page has the verdicts of all scenarios and faults, from the first seed")
    elif chosen.write:
        write(chosen.write, anyio.run(foreseen, rigs), rigs)
        return 0
    rigs = [rig for rig in rigs if rig.name in (chosen.engine or names) and scenarios_of(rig, chosen.prefix)]
    if under_faults:
        rigs = [rig for rig in rigs if rig.parts]
    if not rigs:
        parser.error(f"there is nothing to play: no scenario {chosen.prefix!r} applies, or no far end has manners")
    logging.disable(logging.ERROR)  # the scenarios cause errors, and check them
    try:
        return _with_faults(chosen, rigs, names) if under_faults else _without_faults(chosen, rigs)
    finally:
        logging.disable(logging.NOTSET)


def _without_faults(chosen: argparse.Namespace, rigs: list[Rig]) -> int:
    results: dict[tuple[str, str], str] = {}
    for scenario in SCENARIOS.values():
        if not scenario.id.startswith(chosen.prefix):
            continue
        for rig in rigs:
            try:
                verdict: str = check(rig, scenario)
            except Exception as error:
                verdict = f"FAIL {type(error).__name__}: {error}"
            results[rig.name, scenario.id] = verdict
            print(f"{rig.name:50} {scenario.id:70} {verdict}")
    print(table(results))
    return sum(verdict.startswith("FAIL") for verdict in results.values())


def _with_faults(chosen: argparse.Namespace, rigs: list[Rig], names: list[str]) -> int:
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    own = [rig.name for rig in rigs]
    results: list[Played] = []
    for one in play_all(all_rigs, own, seeds, prefix=chosen.prefix, faults=chosen.faults, jobs=chosen.jobs):
        results.append(one)
        if one.failed or chosen.verbose:
            plan = one.plan if chosen.verbose else one.plan.partition("\n")[0]
            print(f"{one.rig}, seed {one.seed}, {one.scenario}: {one.verdict}\n  {plan}", flush=True)
        if chosen.verbose and one.failed:
            print(one.details)
    print(markdown(ENGINE, outcomes(results)), markdown(FAULT, by_fault(results)), sep="\n\n")
    if chosen.write:
        update(chosen.write, results, names)
    return sum(one.failed for one in results)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
