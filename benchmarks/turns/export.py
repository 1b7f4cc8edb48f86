"""The callers of the turn benchmark as sound files, for other ears; and the figures of what those decided.

    python -m benchmarks.turns.export write FOLDER --set held-out --lines clean,babble
    PYTHON_OF_THE_PEER benchmarks/turns/peers.py pipecat FOLDER
    python -m benchmarks.turns.export score FOLDER

In each file a caller says all their turns, with `GAP_S` between them. `labels.json` has the times of their parts. A
peer writes the times of its decisions, in seconds from the file's start, to `PEER.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.turns.__main__ import print_table
from duologue.audio.wav import WavWriter
from duologue.cli.lab.turns.endpoints import TurnResult, callers, judged, spoken
from duologue.cli.lab.turns.figures import turn_figures
from duologue.cli.lab.turns.rooms import CONDITIONS, Room
from duologue.cli.lab.turns.scripts import SETS

LEAD_S = 1.5
GAP_S = 5.0
LABELS = "labels.json"


def write(folder: Path, which: str, lines: list[str]) -> None:
    """Write the sound files and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for line in lines:
        for caller in callers(which):
            room = Room(CONDITIONS[line], which, caller.language, caller.level_dbfs, caller.seed)
            background, rate = room.background(), room.sample_rate
            pcm, turns = background[: 2 * int(LEAD_S * rate)], []
            for turn in caller.turns:
                sound, start = spoken(turn, caller.voice, caller.pace), len(pcm) / (2 * rate)
                pcm += room.carried(sound.samples)
                parts = [[start + first, start + last] for first, last in sound.parts]
                turns.append({"kind": turn.kind, "parts": parts})
                pcm += background[: 2 * int(GAP_S * rate)]
            name = f"{line.replace(' ', '_')}-{caller.seed}.wav"
            with WavWriter(folder / name, rate) as file:
                file.write(pcm)
            labels[name] = {"line": line, "language": caller.language, "turns": turns}
    (folder / LABELS).write_text(json.dumps(labels))


def score(folder: Path) -> None:
    """Print the figures of all peers that have been here."""
    labels = json.loads((folder / LABELS).read_text())
    for path in sorted(folder.glob("*.json")):
        if path.name == LABELS:
            continue
        decided: dict[str, list[float]] = json.loads(path.read_text())
        results: dict[str, list[TurnResult]] = {}
        for name, label in labels.items():
            results.setdefault(label["line"], []).extend(_results(label, decided.get(name, [])))
        table = {line: turn_figures(found) for line, found in results.items()}
        for row in table.values():
            for unknown in ("response rate %", "response time ms", "interrupts the caller %"):
                del row[unknown]
        print_table(path.stem, table)


def _results(label: dict[str, list[dict[str, list[list[float]]]]], decided: list[float]) -> list[TurnResult]:
    turns = label["turns"]
    starts = [turn["parts"][0][0] for turn in turns]
    found = []
    for turn, start, following in zip(turns, starts, [*starts[1:], float("inf")], strict=True):
        parts = [(first, last) for first, last in turn["parts"]]
        ends = [at for at in decided if start < at < following]
        found.append(judged(str(label["language"]), str(turn["kind"]), parts, ends))
    return found


def main() -> None:
    """Write or score."""
    parser = argparse.ArgumentParser(description="The callers of the turn benchmark for other ears.")
    parser.add_argument("what", choices=("write", "score"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", dest="which", choices=SETS, default="held-out")
    parser.add_argument("--lines", default="clean")
    chosen = parser.parse_args()
    if chosen.what == "write":
        write(chosen.folder, chosen.which, [line.strip() for line in chosen.lines.split(",")])
    else:
        score(chosen.folder)


if __name__ == "__main__":
    main()
