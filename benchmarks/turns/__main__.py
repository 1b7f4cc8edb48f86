"""Print how well the ear takes turns, on labelled callers in virtual time; see docs/turns.md.

    python -m benchmarks.turns --set dev
    python -m benchmarks.turns --set held-out --json
    python -m benchmarks.turns --only endpoints --settings silence_ms=400 --lines clean,babble
    python -m benchmarks.turns --quick

All figures have bootstrap confidence intervals of 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from duologue.cli.lab.turns.endpoints import TurnResult
from duologue.cli.lab.turns.figures import (
    Figure,
    as_json,
    echo_figures,
    interruption_figures,
    sound_figures,
    turn_figures,
)
from duologue.cli.lab.turns.rooms import ADVERSE
from duologue.cli.lab.turns.scripts import SETS
from duologue.cli.lab.turns.settings import EarSettings, parse_settings
from duologue.cli.lab.turns.suite import PARTS, Measured, Part, cpu_ms, jobs, measure

BASELINES = ("silence_ms=400", "silence_ms=600", "silence_ms=800", "silence_ms=1000")
TAU_VOICE = {
    "yields %": "yields %",
    "response rate %": "response rate %",
    "response time ms": "response time ms",
    "backchannels ignored %": "backchannels ignored %",
    "not-for-it ignored %": "not-for-it ignored %",
    "interrupts the caller %": "interrupts the caller %",
}
"""The interaction metrics of tau-voice, by the names of our figures."""

Table = dict[str, dict[str, Figure]]


def options() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description="Turn-taking on labelled callers.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--set", dest="which", choices=SETS, default="dev", help="default dev")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given several times")
    parser.add_argument("--settings", nargs="*", default=[], help="like silence_ms=600; without, the defaults")
    parser.add_argument("--lines", default="", help="lines of the endpoints, like clean,babble; without, all")
    parser.add_argument("--quick", action="store_true", help="a third of the turns, two lines")
    parser.add_argument("--compare", nargs="*", default=list(BASELINES), help="other settings, each in quotes")
    parser.add_argument("--no-baselines", action="store_true", help="compare with nothing")
    parser.add_argument("--no-cpu", action="store_true", help="without the work of the ear")
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core, at most 4")
    return parser.parse_args()


def tables(results: Measured) -> dict[str, Table]:
    """Return the tables: the figures of each line, language and kind of turn."""
    found: dict[str, Table] = {}
    if results.turns:
        by_line = {line: turn_figures(turns) for line, turns in results.turns.items()}
        adverse = [turn for line in ADVERSE for turn in results.turns.get(line, ())]
        if adverse:
            by_line["all adverse"] = turn_figures(adverse)
        found["endpoints"] = by_line
        clean = results.turns.get("clean", [])
        found["endpoints by language, clean"] = grouped(clean, lambda turn: turn.language)
        found["endpoints by kind of turn, clean"] = grouped(clean, lambda turn: turn.kind)
    heard = {line: [one for one in events if one.kind != "interruption"] for line, events in results.events.items()}
    found["sounds and backchannels"] = {line: sound_figures(events) for line, events in heard.items() if events}
    meant = {line: [one for one in events if one.kind == "interruption"] for line, events in results.events.items()}
    found["interruptions"] = {line: interruption_figures(events) for line, events in meant.items() if events}
    found["echo"] = {line: echo_figures(echoes) for line, echoes in results.echoes.items()}
    return {name: table for name, table in found.items() if table}


def grouped(turns: Sequence[TurnResult], key: Callable[[TurnResult], str]) -> Table:
    """Return the figures of turns by their language or kind."""
    return {
        name: turn_figures([turn for turn in turns if key(turn) == name]) for name in dict.fromkeys(map(key, turns))
    }


def tau_voice(found: Mapping[str, Table]) -> dict[str, Figure]:
    """Return the interaction metrics of tau-voice, on a clean line."""
    clean = [table["clean"] for table in found.values() if "clean" in table]
    return {shown: row[name] for shown, name in TAU_VOICE.items() for row in clean if name in row}


def compared(found: Mapping[str, Mapping[str, Table]]) -> dict[str, Table]:
    """Return tables that set settings side by side: each as a column, on a clean line and under the stronger echo."""
    side_by_side: dict[str, Table] = {}
    for label, own in found.items():
        for title, table in own.items():
            line = next((line for line in ("clean", "-20 dB") if line in table), None)
            if line is not None and len(found) > 1:
                side_by_side.setdefault(f"{title}, settings compared", {})[label] = table[line]
    return {title: table for title, table in side_by_side.items() if len(table) > 1}


def print_table(title: str, table: Table, file: Any = None) -> None:
    """Print a table: a column for each line, a row for each figure."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [[title, *table], *([name, *(str(row[name]) for row in table.values())] for name in names)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=file)
    print(file=file)


def main() -> None:
    """Measure and print."""
    chosen = options()
    parts: Sequence[Part] = chosen.only or PARTS
    settings = parse_settings(" ".join(chosen.settings))
    lines = [line.strip() for line in chosen.lines.split(",") if line.strip()]
    began = time.monotonic()
    calls = jobs(chosen.which, settings, parts, quick=chosen.quick, lines=lines)
    others = [one for one in map(parse_settings, () if chosen.no_baselines else chosen.compare) if one != settings]
    for one in others:
        own = parts if chosen.compare != list(BASELINES) else [part for part in parts if part == "endpoints"]
        calls += jobs(chosen.which, one, own, quick=chosen.quick, lines=("clean",))
    measured = measure(calls, chosen.processes)
    results = measured[settings]
    found = tables(results)
    found |= compared({one.label: tables(measured[one]) for one in (settings, *others) if one in measured})
    work = None if chosen.no_cpu else cpu_ms(chosen.which, settings)
    took_s = time.monotonic() - began
    if chosen.json:
        print(json.dumps(_plain(chosen, settings, work, found, took_s)))
        return
    print(f"set {chosen.which}, settings: {settings.label}, {took_s:.0f} s\n")
    for title, table in found.items():
        print_table(title, table)
    print_table("tau-voice interaction metrics, clean", {"value": tau_voice(found)})
    if work is not None:
        print(f"CPU of the ear: {work:.0f} ms per minute of audio")


def _plain(
    chosen: argparse.Namespace, settings: EarSettings, work: float | None, found: Mapping[str, Table], took_s: float
) -> dict[str, Any]:
    return {
        "set": chosen.which,
        "settings": settings.label,
        "seconds": round(took_s, 1),
        "figures": {title: {line: as_json(row) for line, row in table.items()} for title, table in found.items()},
        "tau_voice": as_json(tau_voice(found)),
        "cpu_ms_per_minute": None if work is None else round(work, 1),
    }


if __name__ == "__main__":
    main()
