"""The time of `import duologue` in a fresh interpreter, and the heavy modules that it must not import."""

from __future__ import annotations

import subprocess
import sys

from benchmarks._report import arguments, percentile, report

HEAVY = ("numpy", "soxr", "_webrtcvad", "pocketsphinx", "typer", "rich", "matplotlib", "openai", "aiortc")

PROGRAM = """
import sys, time
began = time.perf_counter()
import duologue
took = time.perf_counter() - began
print(took * 1000, *(name for name in {heavy!r} if name in sys.modules))
"""


def measure(runs: int) -> dict[str, object]:
    """Return the median over fresh interpreters, in milliseconds, and the heavy modules that were imported."""
    times, brought = [], set()
    for _ in range(runs + 1):
        output = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(heavy=HEAVY)], check=True, capture_output=True, text=True
        ).stdout.split()
        times.append(float(output[0]))
        brought.update(output[1:])
    return {"import_ms": round(percentile(times[1:], 50), 1), "runs": runs, "heavy_modules": sorted(brought)}


if __name__ == "__main__":
    options = arguments("The time of `import duologue`.", {"runs": 9})
    report(measure(options.runs), as_json=options.json)
