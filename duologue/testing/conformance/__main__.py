"""Runs the suite on Duologue's engines, or updates the page with its table.

python -m duologue.testing.conformance                    run all scenarios, and print a line for each
python -m duologue.testing.conformance E4                 run the scenarios whose id begins with "E4"
python -m duologue.testing.conformance --write [PAGE]     write the table without a run, by default docs/conformance.md
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import anyio

from . import SCENARIOS, check
from .rigs import all_rigs
from .table import foreseen, table, write

PAGE = Path("docs/conformance.md")


def main(arguments: list[str]) -> int:
    """Run the command. Returns the number of scenarios that failed."""
    rigs = all_rigs()
    if arguments[:1] == ["--write"]:
        write(Path(arguments[1]) if arguments[1:] else PAGE, anyio.run(foreseen, rigs))
        return 0
    logging.disable(logging.ERROR)  # the scenarios cause errors, and check them
    results: dict[tuple[str, str], str] = {}
    for scenario in SCENARIOS.values():
        if not scenario.id.startswith(arguments[0] if arguments else ""):
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


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
