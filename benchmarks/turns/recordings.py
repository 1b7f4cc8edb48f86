"""Endpoints of people: the recordings of `tests/data`, whose parts were labelled by ear and by level.

    python -m benchmarks.turns.recordings --settings silence_ms=600

They are few, and their figures have no intervals: each pause and each end is printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np

from duologue.audio.wav import read_wav
from duologue.cli.lab.turns.endpoints import SpokenTurn, play_turns
from duologue.cli.lab.turns.recogniser import MANNERS
from duologue.cli.lab.turns.rooms import CONDITIONS, Room
from duologue.cli.lab.turns.scripts import ScriptTurn
from duologue.cli.lab.turns.settings import parse_settings
from duologue.cli.lab.turns.voices import RATE, Samples, SpokenWord
from duologue.testing.clock import run

DATA = Path(__file__).parents[2] / "tests" / "data"
Part = tuple[float, float, str]
RECORDINGS: dict[str, tuple[tuple[float, float], tuple[Part, ...]]] = {
    "jfk": (
        (2.25, 3.2),
        (
            (0.28, 2.13, "And so my fellow Americans"),
            (3.25, 3.67, "ask"),
            (3.95, 4.3, "not"),
            (5.38, 7.6, "what your country can do for you"),
            (8.15, 10.2, "ask what you can do for your country"),
        ),
    ),
    "hello_world": ((0.05, 0.2), ((0.24, 1.02, "hello world"),)),
    "weather_question": ((0.05, 0.4), ((0.44, 1.65, "what is the weather in paris"),)),
}
"""For each recording a stretch of its background, and its parts: start and end in seconds, and the words."""


class RecordedRoom(Room):
    """The background of a recording, over and over."""

    def __init__(self, noise: Samples) -> None:
        super().__init__(CONDITIONS["clean"], "dev", "en", 0.0, 0)
        self._noise = np.tile(noise, 1 + RATE // len(noise))

    def carried(self, samples: Samples, gain_db: float = 0.0) -> bytes:
        """Return the recording as it is."""
        return self._sent(samples)


def recorded(name: str) -> tuple[ScriptTurn, SpokenTurn, RecordedRoom]:
    """Return a recording as a turn, from its first part to the end of its last."""
    (first, last), parts = RECORDINGS[name]
    pcm, _, _ = read_wav(DATA / f"{name}.wav")
    samples: Samples = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
    start = parts[0][0]
    words = []
    for begins, ends, text in parts:
        tokens = text.split()
        places = np.cumsum([0, *(len(token) + 1 for token in tokens)])
        marks = begins - start + (ends - begins) * places / places[-1]
        words += [SpokenWord(token, float(marks[at]), float(marks[at + 1])) for at, token in enumerate(tokens)]
    pauses = tuple(round(1000 * (after[0] - before[1])) for before, after in itertools.pairwise(parts))
    turn = ScriptTurn("recording", "Please go on.", tuple(text for _, _, text in parts), pauses)
    sound = SpokenTurn(
        samples[round(start * RATE) : round(parts[-1][1] * RATE)],
        tuple((begins - start, ends - start) for begins, ends, _ in parts),
        tuple(words),
    )
    return turn, sound, RecordedRoom(samples[round(first * RATE) : round(last * RATE)])


def main() -> None:
    """Play all recordings and print their outcomes."""
    parser = argparse.ArgumentParser(description="Endpoints of recorded people.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--settings", nargs="*", default=[], help="like silence_ms=600; without, the defaults")
    chosen = parser.parse_args()
    settings = parse_settings(" ".join(chosen.settings))
    found = {}
    for name in RECORDINGS:
        turn, sound, room = recorded(name)
        (result,) = run(partial(play_turns, [(turn, sound)], settings, room, MANNERS["plain"], "en", 0))
        found[name] = {
            "cut_pauses_s": [round(length, 2) for length, cut in result.pauses if cut],
            "pauses_s": [round(length, 2) for length, _ in result.pauses],
            "cuts_inside": result.cuts_inside,
            "decision_ms": None if result.decision_s is None else round(1000 * result.decision_s),
        }
    if chosen.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name, ", ".join(f"{key} {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
