"""The cost and quality of a `Resampler` for pairs of rates, on 20 ms pieces; soxr's streams for comparison.

`python -m benchmarks.resample` prints a table, with `--json` one line of JSON. `--soxr LQ MQ HQ VHQ` measures soxr's
float32 streams of those qualities as well. Columns: us is the median time per piece, max_us the longest after the
first, delay_ms the most audio that was held back after any piece, snr_db the signal to noise of a 1 kHz tone, alias_db
the level of the loudest of several tones above the target's Nyquist frequency, response_db the gain at 0.85 of the
lower Nyquist frequency, cut_lsb the most by which a sample of full-scale noise depends on how the input was cut (20 ms
pieces against one piece).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import Resampler

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
PIECE_S = 0.02
AMPLITUDE = 0.5


class Run(NamedTuple):
    output: NDArray[np.float64]
    delay_ms: float
    times_us: list[float]


class Soxr:
    """A stream of soxr with the methods of a `Resampler`."""

    def __init__(self, source: int, target: int, quality: str) -> None:
        import soxr

        self._stream: Any = soxr.ResampleStream(source, target, 1, dtype="float32", quality=quality)

    def process(self, pcm: bytes, last: bool = False) -> bytes:
        converted = self._stream.resample_chunk(np.frombuffer(pcm, "<i2").astype(np.float32), last=last)
        limited: NDArray[np.int16] = np.clip(np.rint(converted), -32768, 32767).astype("<i2")
        return limited.tobytes()

    def flush(self) -> bytes:
        return self.process(b"", last=True)


Make = Callable[[int, int], Resampler | Soxr]


def tone(frequency: float, rate: int) -> bytes:
    """Return one second of a sine."""
    t = np.arange(rate) / rate
    return np.rint(np.sin(2 * np.pi * frequency * t) * AMPLITUDE * 32767).astype("<i2").tobytes()


def noise(rate: int) -> bytes:
    """Return one second of white noise at full scale."""
    return np.random.default_rng(1).integers(-32768, 32768, rate).astype("<i2").tobytes()


def run(make: Make, source: int, target: int, pcm: bytes, piece_s: float = PIECE_S) -> Run:
    """Convert `pcm` piece by piece."""
    converter = make(source, target)
    size = 2 * round(piece_s * source)
    parts = []
    times_us = []
    taken = given = 0
    delay_s = 0.0
    for at in range(0, len(pcm), size):
        piece = pcm[at : at + size]
        start = time.perf_counter()
        part = converter.process(piece)
        times_us.append((time.perf_counter() - start) * 1e6)
        taken += len(piece) // 2
        given += len(part) // 2
        delay_s = max(delay_s, taken / source - given / target)
        parts.append(part)
    parts.append(converter.flush())
    return Run(np.frombuffer(b"".join(parts), "<i2").astype(np.float64), delay_s * 1000, times_us)


def level_db(output: NDArray[np.float64], rate: int) -> float:
    """Return the RMS level relative to the input tone, without 0.2 s at the edges."""
    middle = output[rate // 5 : -(rate // 5)]
    return 10 * math.log10(max(float(np.mean(middle**2)), 1e-3) / ((AMPLITUDE * 32767) ** 2 / 2))


def snr_db(output: NDArray[np.float64], frequency: float, rate: int) -> float:
    """Return the ratio of the best-fitting sine to the rest, without 0.2 s at the edges."""
    middle = output[rate // 5 : -(rate // 5)]
    phase = 2 * np.pi * frequency * np.arange(len(middle)) / rate
    basis = np.stack((np.sin(phase), np.cos(phase), np.ones(len(middle))), axis=1)
    fitted = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    return 10 * math.log10(float(np.sum(fitted**2)) / float(np.sum((middle - fitted) ** 2)))


def measure(make: Make, source: int, target: int) -> dict[str, float | None]:
    kilohertz = run(make, source, target, tone(1000, source))
    edge = run(make, source, target, tone(0.85 * min(source, target) / 2, source))
    above = [target / 2 * factor for factor in (1.01, 1.05, 1.2, 1.5, 1.9) if target * factor < source * 0.98]
    aliases = [level_db(run(make, source, target, tone(frequency, source)).output, target) for frequency in above]
    cut, whole = (run(make, source, target, noise(source), piece_s).output for piece_s in (PIECE_S, 1.0))
    return {
        "us": round(float(np.median(kilohertz.times_us)), 1),
        "max_us": round(max(kilohertz.times_us[1:]), 1),
        "delay_ms": round(kilohertz.delay_ms, 2),
        "snr_db": round(snr_db(kilohertz.output, 1000, target), 1),
        "alias_db": round(max(aliases), 1) if aliases else None,
        "response_db": round(level_db(edge.output, target), 2),
        "cut_lsb": float(np.max(np.abs(cut - whole))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    parser.add_argument("--soxr", nargs="*", default=[], metavar="QUALITY", help="qualities of soxr to compare with")
    options = parser.parse_args()
    makes: dict[str, Make] = {"duologue": Resampler}
    for quality in options.soxr:
        makes[f"soxr {quality}"] = partial(Soxr, quality=quality)
    results = {
        name: {f"{a}->{b}": measure(make, a, b) for a, b in itertools.permutations(RATES, 2)}
        for name, make in makes.items()
    }
    if options.json:
        print(json.dumps({"benchmark": "resample", "piece_ms": PIECE_S * 1000, "results": results}))
        return
    for name, pairs in results.items():
        print(f"\n{name}\n{'pair':>14}" + "".join(f"{column:>13}" for column in next(iter(pairs.values()))))
        for pair, row in pairs.items():
            print(f"{pair:>14}" + "".join(f"{'-' if value is None else value:>13}" for value in row.values()))


if __name__ == "__main__":
    main()
