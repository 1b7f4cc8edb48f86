"""A call in one process, which is killed, and goes on in another."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Self

from duologue.session.item import Item
from duologue.trace import BadTrace, open_store, read, state_of, verify
from tests.trace._going_on import number_in

ROOT = Path(__file__).parents[2]
LEASE_S = 0.6
"""The lease of these calls, in seconds: nobody takes them up while they go on."""
LATEST_S = 0.3
"""Seconds after which a record must be in the store, on a loaded machine."""


class Killed(NamedTuple):
    """A call whose process was killed: its name, and the questions that had been answered `LATEST_S` before."""

    name: str
    answered: list[int]


class Process:
    """A call in a process of its own, which is killed at the end of the block if it has not ended."""

    def __init__(
        self, address: str, effects: Path, questions: int = 0, name: str = "", *, lease_s: float = LEASE_S
    ) -> None:
        arguments = [address, str(effects), str(questions), str(lease_s), *([name] if name else [])]
        command = [sys.executable, "-m", "tests.trace._going_on", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        self._out = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def lines(self, count: int, *, within_s: float = 60.0) -> list[str]:
        """Wait until it has printed so many lines, and return all that it has printed."""
        assert self.process.stdout is not None
        file = self.process.stdout.fileno()
        while True:
            missing = self._out.count(b"\n") < count
            if not select.select([file], [], [], within_s if missing else 0)[0] or not (piece := os.read(file, 4096)):
                break
            self._out += piece
        whole, _, _ = self._out.rpartition(b"\n")
        found = whole.decode().split()
        assert len(found) >= count, self.ended()
        return found

    def ended(self) -> str:
        """Wait for its end, and return what it has written to its standard error."""
        out, error = self.process.communicate(timeout=60)
        self._out += out
        return error.decode()


def killed_after(wait_s: float, address: str, effects: Path, name: str = "", *, answers: int = 0) -> Killed:
    """Run a call, and kill its process with SIGKILL: `wait_s` seconds after it has begun, or had so many answers."""
    with Process(address, effects, 0, name) as process:
        process.lines(1 + answers)
        time.sleep(max(0.0, wait_s - LATEST_S))
        call, *answered = process.lines(1)
        time.sleep(min(wait_s, LATEST_S))
    return Killed(call, [int(number) for number in answered])


def taken_up(address: str, effects: Path, name: str, *, questions: int = 2) -> str:
    """Take a call up in another process, let it go on for some questions, and return its new name."""
    with Process(address, effects, questions, name) as process:
        call, *_ = process.lines(1)
        error = process.ended()
        assert process.process.returncode == 0, error
    return call


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
