"""`duologue latency`: the latency of each answer by stages, of ten scripted questions or of recorded calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

from ..errors import BadInput
from ..processors.processor import Processor
from ..services.openai import OpenAIRealtime
from ..session.call_events import TurnTimed
from ..session.latency import STAGES, TARGETS_MS, LatencyMeter, TurnLatency
from ..session.logs import printable
from ..testing.call import Call
from ..testing.clock import run as run_virtual
from ..trace import read
from ..trace.store import SUFFIX
from .demo import Demo, cascade
from .guard import writing
from .local_model import serving

PROMPTS = (
    "hello there",
    "where is my order",
    "four five six seven",
    "okay thank you",
    "can I speak to billing please",
    "how much do I owe",
    "can I pay next week",
    "okay thank you",
    "can I speak to reception please",
    "thank you goodbye",
)


MAX_TURNS = 100_000
"""Turns of recorded calls that are counted: the latest."""
SHOWN_TURNS = 50
"""Turns in the table: the latest."""
TABLE_WIDTH = 120


class Questions(Demo):
    """The demo's call with these questions. Each is asked after the caller has heard the answer to the one before."""

    async def _script(self, call: Call) -> None:
        await call.hears()
        for prompt in PROMPTS:
            await call.says(prompt)
            await call.hears(pause_s=1.0)
        call.caller.hang_up()


def run_latency(out: Path, *, native: bool = False, virtual: bool = False) -> int:
    """Ask all questions. Returns the exit code: 0 if all were answered.

    On the virtual clock computation takes no time: the figures consist of waits only.
    """
    console = Console()
    call = (run_virtual if virtual else anyio.run)(_ask, out, console, native)
    answers = len(list(call.meter))
    print_owners(call.meter, console)
    console.print(
        f"{answers} of {len(PROMPTS)} questions were answered, after {call.meter.median_ms():.0f} ms (median)."
    )
    for name in ("latency.csv", "latency.png"):
        console.print(f"  {out / name}")
    return 0 if answers == len(PROMPTS) else 1


def run_recorded(files: Sequence[Path], out: Path) -> int:
    """Show the latencies of recorded calls, and write the files. Returns the exit code: 0 if there is an answer.

    A folder stands for the traces in it: those that cannot be read are named, and left out. Raises BadInput for a file
    that is not a trace, and if there is none.
    """
    console, meter = Console(), LatencyMeter(limit=MAX_TURNS)
    traces = [trace for file in files for trace in _traces_in(file)]
    left_out = 0
    for trace in traces:
        try:
            turns = recorded_turns(trace, trace.stem if len(traces) > 1 else "")
        except BadInput as error:
            if trace in files:
                raise
            left_out += 1
            print(printable(f"left out: {error}"), file=sys.stderr)
            continue
        meter.turns += turns
        del meter.turns[:-MAX_TURNS]
    answers, calls = len(meter.turns), len(traces) - left_out
    print_owners(meter, console)
    console.print(f"{answers} answers in {calls} calls, after {meter.median_ms():.0f} ms (median).")
    with writing(out):
        meter.write_csv(out / "latency.csv")
        meter.write_picture(out / "latency.png")
    for name in ("latency.csv", "latency.png"):
        console.print(f"  {out / name}")
    return 0 if answers else 1


def _traces_in(file: Path) -> list[Path]:
    if not file.exists():
        raise BadInput(f"there is no {file}")
    traces = sorted(file.glob(f"*{SUFFIX}")) if file.is_dir() else [file]
    if not traces:
        raise BadInput(f"{file} holds no trace: their names end in {SUFFIX}")
    return traces


def recorded_turns(trace: Path, call: str = "") -> list[TurnLatency]:
    """Return the latencies of the turns of a recorded call. Raises BadTrace for a file that is not a trace."""
    found = []
    for record in read(trace):
        if record.kind == "event" and isinstance(facts := record.facts, dict) and facts.get("event") == "turn_timed":
            try:
                found.append(TurnLatency.recorded(msgspec.convert(facts, TurnTimed, strict=True), call))
            except msgspec.ValidationError as error:
                raise BadInput(f"{trace}: record {record.seq} is not a turn's latency: {error}") from error
    return found


def print_owners(meter: LatencyMeter, console: Console) -> None:
    """Print each turn's stages with the one that owns the time, then the medians, the shares and the targets."""
    turns = list(meter)
    if not turns:
        return
    heads = [stage.replace("_", " ") for stage in STAGES]
    table = Table("turn", *heads, "total ms", "owns the time", box=None, padding=(0, 2))
    for turn in turns[-SHOWN_TURNS:]:
        times = [f"{ms:.0f}" for ms in turn.stages_ms.values()]
        table.add_row(f"{turn.call} {turn.turn}".lstrip(), *times, f"{turn.total_ms:.0f}", _named(turn.owner))
    sums = {stage: sum(turn.stages_ms[stage] for turn in turns) for stage in STAGES}
    total, owner = sum(sums.values()) or 1.0, max(sums, key=lambda stage: sums[stage])
    medians = {stage: median(turn.stages_ms[stage] for turn in turns) for stage in STAGES}
    medians["total"] = meter.median_ms()
    table.add_section()
    table.add_row("median", *(_beside(stage, medians[stage]) for stage in (*STAGES, "total")), "")
    table.add_row("share", *(f"{100 * sums[stage] / total:.0f} %" for stage in STAGES), "", _named(owner))
    table.add_row("target", *(f"{TARGETS_MS[s]:.0f}" if s in TARGETS_MS else "" for s in (*STAGES, "total")), "")
    Console(file=console.file, width=max(console.width, TABLE_WIDTH)).print(table)
    where = "In all turns" if len(turns) > 1 else "In this turn"
    console.print(f"{where}, {_named(owner)} owns the most: {100 * sums[owner] / total:.0f} % of the time.")


def _beside(stage: str, ms: float) -> str:
    late = stage in TARGETS_MS and ms > TARGETS_MS[stage]
    return f"[red]{ms:.0f}[/red]" if late else f"{ms:.0f}"


def _named(stage: str) -> str:
    return stage.replace("_", " ")


async def _ask(out: Path, console: Console, native: bool) -> Questions:
    async def ask(engine: Processor) -> Questions:
        call = Questions(out, console, engine)
        await call.run()
        return call

    if not native:
        return await ask(cascade())
    async with serving() as url:
        return await ask(OpenAIRealtime(api_key="none", base_url=url))
