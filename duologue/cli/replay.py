"""`duologue replay`: runs a recorded call again, and shows what is different."""

from __future__ import annotations

import inspect
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from ..errors import ConfigurationError
from ..session.logs import printable
from ..testing.replaying.run import Make, Replay, replay
from ..testing.replaying.script import Script
from ..trace.reader import Records
from ..trace.shown import shown_lines
from .target import find_object
from .trace import seconds_of


def run_replay(file: Path, since: str, pipeline: str, engine: str, *, diff: bool) -> int:
    """Replay a file. Returns 0 if the logs are the same, 1 if they differ.

    Prints the call from the time `since` on, or with `diff` only what is different.
    """
    begin_s = seconds_of(since)
    script = Script(file)
    target = pipeline or script.made_by
    if pipeline and engine:
        raise ConfigurationError("a replay has a pipeline or an engine, not both")
    if not target and not engine:
        raise ConfigurationError(
            f"{file} does not say which function makes its session: name it by --pipeline module:function, or record "
            'with Trace(replay="module:function")'
        )
    make = _maker(target) if not engine else None
    for line in script.missing:
        print(f"missing: {line}", file=sys.stderr)
    folder = tempfile.mkdtemp(prefix="duologue-replay-")
    logger = logging.getLogger("duologue")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the errors of the call are in its trace
    try:
        return _result(replay(file, make, engine=engine, folder=folder), begin_s, diff=diff)
    finally:
        logger.setLevel(level)
        shutil.rmtree(folder, ignore_errors=True)


def _maker(target: str) -> Make:
    _, found = find_object(target)
    if not callable(found) or not inspect.signature(found).parameters:
        raise ConfigurationError(f"{target} is not a function that takes the call's transport and makes its session")
    make: Make = found
    return make


def _result(again: Replay, since: float, *, diff: bool) -> int:
    if not diff:
        for line in shown_lines(Records(again.path), since=since, kinds=frozenset({"item", "heard"}), words=True):
            print(line)
    if again.identical:
        print("identical: the log is that of the recorded call")
        return 0
    text = again.diff(since)
    print(text or _first(again))
    print("different")
    return 1


def _first(again: Replay) -> str:
    found = again.first_difference
    if found is None:
        return ""
    before, after = (printable(line.decode(errors="replace"))[:300] for line in found)
    return f"the first different record:\n- {before}\n+ {after}"
