"""`Entering`: the caller and the application of a replay: what they did enters again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from ...processors.kernel.groups import leaves
from ...processors.tools import Tools
from ...processors.tools.run import ToolRun
from ...session.boundary import as_code_of
from ...session.session import Session
from ...trace.recording import control_entries
from ...transports.base import TransportInput, TransportOutput
from ...transports.playout.base import PlayoutSettings
from .script import Given, Script
from .values import value_of

T = TypeVar("T")


class ReplayTransport:
    """Both ends of a pipeline that is replayed. Its caller is in the file, and nobody hears the agent."""

    def __init__(self, script: Script) -> None:
        told = script.playout
        self.sample_rate = int(told.get("sample_rate", 16_000))
        settings = PlayoutSettings(**told["settings"]) if "settings" in told else None
        self._input, self._output = _Input(str(script.begun.get("session_id", ""))), _Output(self.sample_rate, settings)

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline."""
        return self._output


class _Input(TransportInput):
    def __init__(self, call_id: str) -> None:
        super().__init__()
        self.call_id = call_id


class _Output(TransportOutput):
    def write(self, chunk: bytes) -> None:
        """Nobody hears it."""


class Entering:
    """Lets in what the caller and the application did."""

    def __init__(self, transport: ReplayTransport) -> None:
        self._transport = transport
        self._boundary: Any = None
        self._calls: dict[str, Callable[..., Any]] = {}
        self._letting_in = False
        self._works: set[asyncio.Task[Any]] = set()

    def begin(self, boundary: Any, session: Session[Any]) -> None:
        """Begin with a session that starts to run."""
        self._boundary = boundary
        head, tail = self._transport.input(), self._transport.output()
        self._calls = {
            "audio": head.feed,
            "frame": head.feed_frame,
            "mark": head.mark,
            "hang_up": head.hang_up,
            "disconnect": tail.disconnect,
            "progress": partial(_progress, session),
            "tools changed": partial(_sync_tools, session),
            **control_entries(boundary, session),
        }

    def outside(self, run: Callable[[], T]) -> T:
        """Ignore what comes from outside: it is in the file."""
        return run() if self._letting_in else None  # type: ignore[return-value]

    def enter(self, given: Given) -> None:
        """Let in what is due."""
        call = self._calls.get(given.name) or self._setter(given.name)
        if call is None:
            self._boundary.diverge(f"{given.name} entered the recorded call, and cannot enter this one")
            return
        if given.name == "audio":
            work = partial(call, given.data["pcm"], given.data["rate"])
        else:
            values = map(value_of, given.data["values"])
            work = partial(call, *values, **{k: value_of(v) for k, v in given.data.get("named", {}).items()})
        self._letting_in = True
        with as_code_of(self._boundary):
            try:
                result = work()
                if inspect.iscoroutine(result):
                    self._begin(result)
            except Exception as error:
                self._boundary.diverge(f"{given.name}: {type(error).__name__}: {error}")
            finally:
                self._letting_in = False

    def _setter(self, name: str) -> Callable[..., Any] | None:
        """Return what sets a setting, such as "playback.volume="."""
        part, _, setting = name.removesuffix("=").partition(".")
        return partial(setattr, self._calls[part], setting) if name.endswith("=") and part in self._calls else None

    def _begin(self, work: Any) -> None:
        """Begin a coroutine at once, as a task of the application did, and let a task of its own finish it."""
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        task = asyncio.ensure_future(_finish(work, waits_for))
        self._works.add(task)
        task.add_done_callback(self._works.discard)


def _sync_tools(session: Session[Any]) -> None:
    """Give the engine the tools that a source has now."""
    first = next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Tools)), None)
    if first is not None:
        first.sources_changed()


def _progress(session: Session[Any], call_id: str, text: str) -> None:
    """Take the progress of a tool call."""
    call = session.calls.get(call_id)
    runner = call.runner if call is not None else None
    if isinstance(runner, ToolRun):
        runner.progress.take(text)


@coroutine
def _rest(work: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        value = yield waits_for
        try:
            waits_for = work.send(value)
        except StopIteration as done:
            return done.value


async def _finish(work: Any, waits_for: Any) -> None:
    await _rest(work, waits_for)
