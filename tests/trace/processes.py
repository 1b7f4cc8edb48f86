"""A call in one process, which is killed, and goes on in another."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from duologue.session.item import Item
from duologue.trace import BadTrace, open_store, read, state_of, verify
from tests.trace._going_on import LEASE_S, number_in

ROOT = Path(__file__).parents[2]
LATEST_S = 0.3
"""Seconds after which a record must be in the store, on a loaded machine."""


class Killed(NamedTuple):
    """A call whose process was killed: its name, and the questions that had been answered `LATEST_S` before."""

    name: str
    answered: list[int]


def started(address: str, effects: Path, questions: int, name: str = "") -> subprocess.Popen[str]:
    """Start a call in a process of its own."""
    command = [sys.executable, "-m", "tests.trace._going_on", address, str(effects), str(questions), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def killed_after(wait_s: float, address: str, effects: Path, name: str = "") -> Killed:
    """Run a call, and kill its process with SIGKILL after `wait_s` seconds of the call."""
    with started(address, effects, 0, name) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        call = process.stdout.readline().strip()
        assert call, process.stderr.read()
        time.sleep(max(0.0, wait_s - LATEST_S))
        answered = _printed(process)
        time.sleep(min(wait_s, LATEST_S))
        process.kill()
    return Killed(call, answered)


def _printed(process: subprocess.Popen[str]) -> list[int]:
    """Read the numbers that are there now."""
    assert process.stdout is not None
    file, text = process.stdout.fileno(), b""
    while select.select([file], [], [], 0)[0] and (piece := os.read(file, 4096)):
        text += piece
    whole, _, _ = text.rpartition(b"\n")
    return [int(line) for line in whole.split()]


def taken_up(address: str, effects: Path, name: str, *, questions: int = 2) -> str:
    """Take a call up in another process, let it go on for some questions, and return its new name."""
    with started(address, effects, questions, name) as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out.split()[0]


def check_killed(address: str, killed: Killed) -> list[Item]:
    """The trace of a killed call can be read and proved, and has every turn that was due. Returns its log."""
    store = open_store(address)
    result = verify(store, killed.name)
    assert (result.ok, result.ended) == (True, False), result.problems
    items = list(state_of(read(store, killed.name)).log)
    answers = {number_in(item.text) for item in items if item.role == "agent" and item.kind == "message" and item.text}
    assert answers >= set(killed.answered), f"answers {set(killed.answered) - answers} are missing"
    return items


def check_taken_up(address: str, before: list[Item], name: str, effects: Path, *, questions: int = 2) -> None:
    """The resumed call has every turn of the call before, each answered once, and has run no tool twice."""
    store = open_store(address)
    result = verify(store, name)
    assert (result.ok, result.ended) == (True, True), result.problems
    items = list(state_of(read(store, name)).log)
    has = {item.id: item.text for item in items}
    for item in before:
        if item.text and item.status != "in_progress":
            assert item.kind == "tool_result" or has.get(item.id) == item.text, f"{item} is missing"
    asked = Counter(number_in(item.text) for item in items if item.role == "caller" and item.text)
    numbers = list(range(1, max(asked) + 1))
    assert asked == Counter(numbers), "a question is missing"
    assert len(numbers) >= questions
    answers = Counter(number_in(i.text) for i in items if i.role == "agent" and i.kind == "message" and i.text)
    assert answers == Counter(numbers), f"{answers} are the answers to {len(numbers)} questions"
    ran = Counter(int(line) for line in effects.read_text().split())
    assert set(ran) <= set(numbers)
    assert max(ran.values()) == 1, f"tools ran twice: {ran}"
    not_known = sum("not known" in item.text for item in items if item.role == "agent")
    assert len(ran) >= len(numbers) - not_known
    calls = Counter(item.call_id for item in items if item.kind == "tool_call")
    assert calls == Counter(item.call_id for item in items if item.kind == "tool_result"), "a call without a result"


def kill_and_take_up(wait_s: float, address: str, effects: Path) -> dict[str, int]:
    """Kill a call after `wait_s` seconds, take it up in another process, check it, and return its figures."""
    killed = killed_after(wait_s, address, effects)
    try:
        before = check_killed(address, killed)
    except BadTrace:
        if wait_s > LATEST_S:
            raise
        return {"empty": 1}
    time.sleep(LEASE_S)
    name = taken_up(address, effects, killed.name)
    check_taken_up(address, before, name, effects)
    after = list(state_of(read(open_store(address), name)).log)
    return {
        "turns": sum(item.role == "caller" for item in after),
        "not_known": sum("not known" in item.text for item in after if item.role == "agent"),
    }
