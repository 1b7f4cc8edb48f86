"""`Vendors`: the scripted vendors of a cascade in a process of their own, which is this module as a program.

A transcript comes 100 ms after the end of an utterance, the first token 150 ms after the request, and the first audio
80 ms after a text. Nothing else waits. The process tells how late each of these timers was.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVarTuple, Unpack

from benchmarks._report import cpu_s
from duologue.services.cascade import Cascade
from duologue.services.vendors import Kind, find
from duologue.testing.scripted.server import Asked, Speak
from duologue.testing.scripted.vendors import Delays, ScriptedCascade

Ts = TypeVarTuple("Ts")

TRANSCRIPT_S, FIRST_TOKEN_S, FIRST_AUDIO_S = 0.1, 0.15, 0.08
NOMINAL_S = TRANSCRIPT_S + FIRST_TOKEN_S + FIRST_AUDIO_S
TOLD_FROM_S = 0.05
"""Timers shorter than this are not told: they pace the audio."""
PACE = 5.0
TRANSCRIPT = "what is the weather in paris today"
ANSWER = "It is sunny in Paris today, with a light wind. Tomorrow it may rain in the evening."
NAMES: dict[Kind, str] = {"stt": "deepgram", "llm": "openai", "tts": "elevenlabs"}


class Vendors:
    """The process with the servers; an async context manager. Linux only, because of `cpu_s`."""

    def __init__(self, names: dict[Kind, str] | None = None) -> None:
        self.names = names or NAMES
        self.given: dict[str, dict[str, Any]] = {}
        """The arguments of each service's class."""
        self.late: list[tuple[float, float]] = []
        """The time at which each timer was due, on the clock of the event loops, and how late it was, in seconds."""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks._vendors", *self.names.values()]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        self.given = json.loads(await self._process.stdout.readline())
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        await self._process.wait()
        self._reader.cancel()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            due, late = json.loads(line)
            self.late.append((due, late))

    def cpu_s(self) -> float:
        """Return the CPU time in seconds that the process has used."""
        assert self._process is not None
        return cpu_s(self._process.pid)

    def late_s(self, since: float, until: float) -> float:
        """Return by how many seconds together the timers were late that were due between two times."""
        return sum(late for due, late in self.late if since <= due <= until)

    def cascade(self) -> Cascade:
        """Return a new engine on these vendors."""
        stt, llm, tts = (find(kind, name).load()(**self.given[kind]) for kind, name in self.names.items())
        return Cascade(stt, llm, tts)


class _Loop(asyncio.SelectorEventLoop):
    """Tells when each timer of the script was due, and how late it was."""

    told: Callable[[float, float], None] = staticmethod(lambda due, late: None)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call a function at a time, and tell how late the call was."""
        if when - self.time() < TOLD_FROM_S - 0.01:
            return super().call_at(when, callback, *args, context=context)

        def fire() -> None:
            self.told(when, self.time() - when)
            callback(*args)

        return super().call_at(when, fire, context=context)


async def _serve(stt: str, llm: str, tts: str) -> None:
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or os.sched_getaffinity(0))
    delays = Delays(transcript_s=TRANSCRIPT_S, first_token_s=FIRST_TOKEN_S, first_audio_s=FIRST_AUDIO_S, pace=PACE)
    async with ScriptedCascade(stt, llm, tts, _answer, _transcript, delays=delays) as servers:
        given = servers.arguments()
        for arguments in given.values():
            arguments.pop("options", None)
        print(json.dumps(given), flush=True)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        loop.told = lambda due, late: print(json.dumps((due, late)), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


def _answer(asked: Asked) -> list[Any]:
    return [Speak(ANSWER)]


def _transcript(pcm: bytes, rate: int) -> str:
    return TRANSCRIPT


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3]))
