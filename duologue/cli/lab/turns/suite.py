"""The whole bench: which callers are played on which lines, in several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Literal, get_args

from ....testing.clock import run
from .echo import ECHOES_DB, EchoResult, play_echo, work_ms
from .endpoints import Person, TurnResult, callers, play_endpoints
from .events import EventResult, play_events
from .rooms import ADVERSE
from .settings import EarSettings

Part = Literal["endpoints", "sounds", "interruptions", "echo"]
PARTS: tuple[Part, ...] = get_args(Part)
RECOGNISERS = ("terse", "final texts only", "shaky")
"""The manners of the recogniser that are played on a clean line, beside the plain one."""
UNDER_ECHO = "under echo"
"""A clean line on which the agent hears itself at -20 dB."""
QUICK_SHARE = 3
Found = list[TurnResult] | list[EventResult] | list[EchoResult]


@dataclass(frozen=True, slots=True)
class Measured:
    """All results, by the name of the line or the manner of the recogniser."""

    turns: dict[str, list[TurnResult]] = field(default_factory=dict)
    events: dict[str, list[EventResult]] = field(default_factory=dict)
    echoes: dict[str, list[EchoResult]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnPlay:
    """One call."""

    part: Part
    name: str
    """The line, the manner of the recogniser, or the echo."""
    caller: Person
    settings: EarSettings
    seed: int = 0

    def run(self) -> Found:
        """Play it, in virtual time."""
        caller, settings, seed = self.caller, self.settings, self.seed
        if self.part == "endpoints":
            line, manner = ("clean", self.name) if self.name in RECOGNISERS else (self.name, "plain")
            return run(partial(play_endpoints, caller, settings, line, manner, seed))
        if self.part == "echo":
            return [run(partial(play_echo, caller, settings, float(self.name.removesuffix(" dB")), seed))]
        kinds = ("interruption",) if self.part == "interruptions" else ("sound", "backchannel", "aside")
        line, echo_db = ("clean", ECHOES_DB[0]) if self.name == UNDER_ECHO else (self.name, None)
        return run(partial(play_events, caller, kinds, settings, line, seed, echo_db))


def jobs(
    which: str, settings: EarSettings, parts: Sequence[Part], *, quick: bool, lines: Sequence[str] = ()
) -> list[TurnPlay]:
    """Return the calls of a set. `lines` are the lines and manners of the endpoints, by default all.

    Sounds and interruptions are played on a clean line, and unless `lines` is only that at 20 dB.
    """
    people = callers(which, QUICK_SHARE if quick else 1)
    few = people[:: 3 if quick else 1]
    lines = lines or (("clean", "10 dB") if quick else ("clean", *RECOGNISERS, *ADVERSE))
    others = ("clean",) if quick or tuple(lines) == ("clean",) else ("clean", "20 dB")
    found: list[TurnPlay] = []
    for part in parts:
        if part == "endpoints":
            found += [TurnPlay(part, line, one, settings) for line in lines for one in people]
        elif part == "echo":
            found += [TurnPlay(part, f"{echo_db:g} dB", one, settings) for echo_db in ECHOES_DB for one in few[::2]]
        else:
            also = (UNDER_ECHO,) if part == "interruptions" else ()
            found += [TurnPlay(part, line, one, settings) for line in (*others, *also) for one in few]
    return found


def play(found: Sequence[TurnPlay], processes: int = 0) -> Iterator[tuple[TurnPlay, Found]]:
    """Play all calls and yield their results in order. `processes` is by default the number of cores, at most 4."""
    processes = min(processes or min(os.cpu_count() or 1, 4), len(found))
    if processes <= 1:
        yield from ((job, job.run()) for job in found)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from zip(found, pool.map(TurnPlay.run, found), strict=True)


def measure(found: Sequence[TurnPlay], processes: int = 0) -> dict[EarSettings, Measured]:
    """Play all calls. Returns the results of each settings."""
    measured: dict[EarSettings, Measured] = {}
    for job, results in play(found, processes):
        own = measured.setdefault(job.settings, Measured())
        for result in results:
            if isinstance(result, TurnResult):
                own.turns.setdefault(job.name, []).append(result)
            elif isinstance(result, EventResult):
                own.events.setdefault(job.name, []).append(result)
            else:
                own.echoes.setdefault(job.name, []).append(result)
    return measured


def cpu_ms(which: str, settings: EarSettings) -> float:
    """Return the CPU time of the ear in milliseconds for each minute of audio."""
    return run(partial(work_ms, callers(which)[0], settings))
