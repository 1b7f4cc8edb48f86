"""Hostile inputs at all doors of a server, and in all parsers: what they broke, and who got in.

`inputs` are shared out: half to the doors of `duologue serve`, in a process of its own, by hostile clients in a third
one; half to the parsers in this process. A quiet caller calls the server meanwhile. The exit status is 1 for a crash,
an unexpected exception or line in the log, a way in, growing memory, or a question of the quiet caller that was not
answered. `tests/fuzz` has the inputs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks._report import arguments, percentile, report
from tests.fuzz.doors import Seen, fuzz_doors
from tests.fuzz.parsers import TARGETS, Finding, fuzz

MAX_GROWTH_MB = 30.0


def parsers(inputs: int, seed: int) -> dict[str, Finding]:
    """Feed every parser with its share of inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {name: fuzz(name, seed=seed, inputs=max(1, inputs // len(TARGETS))) for name in TARGETS}


def main(inputs: int, seed: int) -> dict[str, Any]:
    """Return all figures."""
    with tempfile.TemporaryDirectory() as directory:
        seen: Seen = asyncio.run(fuzz_doors(Path(directory), seed=seed, inputs=inputs // 2))
    found = parsers(inputs - inputs // 2, seed)
    wrong = list(seen.wrong)
    for name, finding in found.items():
        wrong += [f"{name}: {error} ({count} times)" for error, count in finding.unexpected.items()]
        if finding.memory_growth_mb > MAX_GROWTH_MB:
            wrong.append(f"{name}: memory has grown by {finding.memory_growth_mb:.1f} MB")
    answers_ms = [1000 * answer_s for answer_s in seen.answers_s]
    return {
        "inputs": seen.inputs + sum(finding.inputs for finding in found.values()),
        "by_door": seen.by_door,
        "ends_of_connections": seen.ends,
        "by_parser": {name: finding.inputs for name, finding in found.items()},
        "parsers_refused": {name: finding.refused for name, finding in found.items()},
        "parsers_slowest_ms": {name: round(1000 * finding.slowest_s, 1) for name, finding in found.items()},
        "parsers_memory_growth_mb": {name: round(finding.memory_growth_mb, 2) for name, finding in found.items()},
        "server_crashed": seen.crashed,
        "ways_in": seen.ways_in,
        "unexpected_in_log": seen.unexpected,
        "tracebacks_in_log": seen.tracebacks,
        "warnings_in_log": seen.warnings,
        "server_memory_mb": seen.memory_mb,
        "server_memory_growth_mb": seen.memory_growth_mb,
        "server_memory_settled_mb": seen.memory_settled_mb,
        "server_threads_left": seen.threads_left,
        "server_threads": seen.threads,
        "server_descriptors_left": seen.descriptors_left,
        "quiet_caller_asked": seen.asked,
        "quiet_caller_answered": len(answers_ms),
        "quiet_caller_ms_p50": round(percentile(answers_ms, 50)),
        "quiet_caller_ms_max": round(max(answers_ms, default=0.0)),
        "wrong": wrong,
    }


if __name__ == "__main__":
    options = arguments("Hostile inputs.", {"inputs": 1_000_000, "seed": 1})
    figures = main(options.inputs, options.seed)
    report(figures, as_json=options.json)
    sys.exit(bool(figures["wrong"]))
