"""`replay`: runs a recorded call again."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ...processors.kernel.node import Node
from ...session.life import Outcome
from ...session.session import Session
from ...trace.export import CallSummary
from ...trace.reader import Records
from ...trace.trace import Trace
from .. import clock
from .comparing import first_difference, report, words_and_tools
from .entering import Entering, ReplayTransport
from .replaying import Replaying
from .script import Script

Make = Callable[[Any], Any]
"""Takes the transport of a call, and returns its session or pipeline: `def` or `async def`."""
MORE_S = 7_200.0
"""Seconds that a replay may last longer than the recorded call."""


class Replay:
    """A call that was run again. `path` is the file of its trace, `recorded` that of the recorded call."""

    def __init__(self, script: Script, recorded: Path, path: Path, outcome: Outcome, differences: list[str]) -> None:
        self.recorded, self.path, self.outcome = recorded, path, outcome
        self.differences = differences
        """What it asked otherwise than the recorded call: requests that were not made, answers that are missing."""
        self.missing = script.missing
        """What the trace does not have, such as audio without consent."""
        self._ended = script.ended

    @property
    def identical(self) -> bool:
        """True if the logs of both calls are the same, to the byte."""
        return not self.differences and self.first_difference is None

    @property
    def same_words(self) -> bool:
        """True if both sides said, and the tools got and returned, the same, and nothing was asked otherwise.

        For a call that was recorded on a real clock: its times cannot be the same to the bit.
        """
        return not self.differences and not words_and_tools(CallSummary(self.recorded), CallSummary(self.path))

    @property
    def first_difference(self) -> tuple[bytes, bytes] | None:
        """The first records of the logs that differ, None for the same logs."""
        return first_difference(Records(self.recorded), Records(self.path), until=not self._ended)

    def diff(self, since: float = 0.0) -> str:
        """Return what is different from `since` (session time) on, to read: words heard, tools, timing, cost."""
        asked = ["asked otherwise:", *(f"  {line}" for line in self.differences)] if self.differences else []
        return "\n".join([*report(self.recorded, self.path, since), *asked])


class _ReplayTrace(Trace):
    """The trace of a replay."""

    def __init__(self, folder: str, script: Script, entering: Entering, *, live: bool) -> None:
        super().__init__(folder)
        self._script, self._entering, self._live = script, entering, live
        self.replaying: Replaying | None = None

    def begin(self, session: Session[Any]) -> None:
        super().begin(session)
        self.boundary = self.replaying = Replaying(self._script, session, self._entering, live=self._live)
        self.replaying.begin()


def replay(
    path: str | os.PathLike[str],
    make: Make | None = None,
    *,
    engine: str = "",
    folder: str | os.PathLike[str] | None = None,
) -> Replay:
    """Run a recorded call again, on a virtual clock, and return what came of it.

    `make(transport)` makes the session or the pipeline, as for `duologue serve`. The caller, the providers and the
    tools are those of the recorded call: no request goes out, and no tool runs. The trace of the replay goes into
    `folder`, by default a temporary one. Call it outside of an event loop, or in a thread.

    In the place of `make`, `engine` is "openai", "gemini" or "cascade": that engine takes the call, with a scripted
    provider on loopback that understands and says the words of the recorded call.

    Raises BadTrace for a file that is not a trace, CannotReplay for one that does not have what entered the call, and
    ConfigurationError unless either `make` or `engine` is given.
    """
    if (make is None) == (not engine):
        raise ConfigurationError("a replay takes a function that makes the session, or the name of an engine")
    script = Script(path)
    into = str(folder) if folder is not None else tempfile.mkdtemp(prefix="duologue-replay-")
    run = partial(clock.run, start_s=script.began, began_wall=script.began_wall, limit_s=script.until + MORE_S)
    work = partial(_stood_in, engine) if make is None else partial(_replayed, make)
    # A replay in a thread has nothing to do with the event loop of the thread before.
    again: Replay = Context().run(run, work, Path(path), script, into)
    return again


async def _stood_in(engine: str, path: Path, script: Script, folder: str) -> Replay:
    from .stand_in import stand_in

    async with stand_in(path, engine) as make:
        return await _replayed(make, path, script, folder, live=True)


async def _replayed(make: Make, path: Path, script: Script, folder: str, *, live: bool = False) -> Replay:
    transport = ReplayTransport(script)
    made: Any = make(transport)
    if inspect.isawaitable(made):
        made = await made
    session = Session(made) if isinstance(made, Node) else made
    trace = _ReplayTrace(folder, script, Entering(transport), live=live)
    session.trace = trace
    outcome = await session.run()
    assert trace.replaying is not None
    trace.replaying.conclude()
    return Replay(script, path, Path(folder) / f"{trace.call}.jsonl", outcome, trace.replaying.differences)
