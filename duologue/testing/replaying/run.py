"""`replay`: runs a recorded call again."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...processors.kernel.node import Node
from ...session.life import Outcome
from ...session.session import Session
from ...trace.reader import Records
from ...trace.trace import Trace
from .. import clock
from .comparing import first_difference
from .entering import Entering, ReplayTransport
from .replaying import Replaying
from .script import Script

Make = Callable[[Any], Any]
"""Takes the transport of a call, and returns its session or pipeline: `def` or `async def`."""
MORE_S = 7_200.0
"""Seconds that a replay may last longer than the recorded call."""


class Replay:
    """A call that was run again. `path` is the file of its trace, `recorded` that of the recorded call."""

    def __init__(self, recorded: Path, path: Path, outcome: Outcome, differences: list[str]) -> None:
        self.recorded, self.path, self.outcome = recorded, path, outcome
        self.differences = differences
        """What it did otherwise than the recorded call: requests that were not made, answers that are missing."""

    @property
    def identical(self) -> bool:
        """True if the logs of both calls are the same, to the byte."""
        return not self.differences and self.first_difference is None

    @property
    def first_difference(self) -> tuple[bytes, bytes] | None:
        """The first records of the logs that differ, None for the same logs."""
        return first_difference(Records(self.recorded), Records(self.path))


class _ReplayTrace(Trace):
    """The trace of a replay."""

    def __init__(self, folder: str, script: Script, entering: Entering) -> None:
        super().__init__(folder)
        self._script, self._entering = script, entering
        self.replaying: Replaying | None = None

    def begin(self, session: Session[Any]) -> None:
        super().begin(session)
        self.boundary = self.replaying = Replaying(self._script, session, self._entering)
        self.replaying.begin()


def replay(path: str | os.PathLike[str], make: Make, *, folder: str | os.PathLike[str] | None = None) -> Replay:
    """Run a recorded call again, on a virtual clock, and return what came of it.

    `make` makes the session or the pipeline, around the transport that it is given. The trace of the replay goes into
    `folder`, by default a temporary one. Raises BadTrace and CannotReplay for a file that cannot be replayed.
    """
    script = Script(path)
    into = str(folder) if folder is not None else tempfile.mkdtemp(prefix="duologue-replay-")
    return clock.run(
        _replayed,
        Path(path),
        script,
        make,
        into,
        start_s=script.began,
        began_wall=script.began_wall,
        limit_s=script.until + MORE_S,
    )


async def _replayed(path: Path, script: Script, make: Make, folder: str) -> Replay:
    transport = ReplayTransport(script)
    made: Any = make(transport)
    if inspect.isawaitable(made):
        made = await made
    session = Session(made) if isinstance(made, Node) else made
    trace = _ReplayTrace(folder, script, Entering(transport))
    session.trace = trace
    outcome = await session.run()
    assert trace.replaying is not None
    return Replay(path, Path(folder) / f"{trace.call}.jsonl", outcome, trace.replaying.differences)
