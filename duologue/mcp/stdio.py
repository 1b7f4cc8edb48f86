"""The process of a server, and its messages over stdin and stdout."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .lines import Lines, LoggedLines, one_line
from .package import SessionMessage, get_default_environment, wire

log = logging.getLogger("duologue.mcp")

END_S = 2.0
"""The time that a process has to end once its stdin has closed, and once more after SIGTERM, in seconds."""

Incoming = MemoryObjectSendStream[SessionMessage | Exception]
Outgoing = MemoryObjectReceiveStream[SessionMessage]
Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@dataclass(frozen=True, slots=True)
class Program:
    """The program of a server."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    """Variables beside the few that the package lets a server have, such as PATH and HOME."""
    cwd: str | None = None


class ServerProcess:
    """The process of one connection.

    Lines of stdout that are not messages are logged and counted, and those of stderr are logged, a few at a time.
    `why` has the end of the process and its last output.
    """

    def __init__(self, name: str, program: Program) -> None:
        self._name = name
        self._program = program
        self._process: Process | None = None
        self._said = LoggedLines(log, f"MCP server {name!r} says")
        self._printed = LoggedLines(log, f"MCP server {name!r} prints what is not a message", logging.WARNING)
        self._last_said = ""
        self.ended = anyio.Event()
        """Set when stdout has ended: the server has gone."""

    @property
    def why(self) -> str:
        """The state of the process for an error: its exit code, its last words, its lines that were not messages."""
        code = self._process.returncode if self._process is not None else None
        parts = [f"its process ended with exit code {code}"] if code is not None else []
        if self._last_said and self.ended.is_set():
            parts.append(f"its last words: {self._last_said}")
        if self._printed.count:
            parts.append(f"it has printed {self._printed.count} lines that are not messages, like {self._printed.last}")
        return "; ".join(parts)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Streams]:
        """Start the process, and give the streams of its messages. At the end the process has ended.

        Raises OSError if it cannot be started.
        """
        program = self._program
        process = self._process = await anyio.open_process(
            [program.command, *program.args],
            env={**get_default_environment(), **(program.env or {})},
            cwd=program.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        arrived, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process.stdout, arrived)
                tasks.start_soon(self._listen, process.stderr)
                tasks.start_soon(self._write, process, to_send)
                try:
                    yield incoming, outgoing
                finally:
                    incoming.close()
                    outgoing.close()
                    with anyio.CancelScope(shield=True):
                        await _end(process, self._name)
                    tasks.cancel_scope.cancel()
        finally:
            for stream in (arrived, incoming, outgoing, to_send):
                stream.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(END_S):
                await process.aclose()

    async def _read(self, stdout: ByteReceiveStream, arrived: Incoming) -> None:
        lines = Lines()
        try:
            async with arrived:
                async for line in _lines(stdout, lines):
                    message = self._parsed(line)
                    if message is not None:
                        await arrived.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the connection has gone: the rest is read and dropped, so that the process can end
        finally:
            self.ended.set()
        async for _ in _lines(stdout, lines):
            pass

    def _parsed(self, line: bytes | None) -> SessionMessage | None:
        if line is not None and not line.strip():
            return None
        try:
            if line is not None:
                return SessionMessage(wire.jsonrpc_message_adapter.validate_json(line, by_name=False))
            self._printed.add("a line that is too long")
        except ValueError:
            self._printed.add(repr(one_line((line or b"").decode(errors="replace"))))
        return None

    async def _listen(self, stderr: ByteReceiveStream) -> None:
        async for line in _lines(stderr, Lines(64 * 1024)):
            if text := one_line((line or b"a line that is too long").decode(errors="replace")):
                self._last_said = text
                self._said.add(text)

    async def _write(self, process: Process, to_send: Outgoing) -> None:
        assert process.stdin is not None
        async with to_send:
            async for message in to_send:
                data = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await process.stdin.send(data.encode() + b"\n")
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    self.ended.set()
                    return


async def _lines(stream: ByteReceiveStream, lines: Lines) -> AsyncIterator[bytes | None]:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        while True:
            for line in lines.feed(await stream.receive()):
                yield line


async def _end(process: Process, name: str) -> None:
    """End the process and its children: close stdin, then send SIGTERM, then SIGKILL."""
    assert process.stdin is not None
    with anyio.move_on_after(END_S), contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    for send in (None, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if send is not None:
            _signal(process, send)
        if await _has_ended(process):
            break
    else:
        log.warning("MCP server %r: its process %d cannot be ended and is left behind", name, process.pid)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # children that stayed behind


async def _has_ended(process: Process) -> bool:
    # `wait` also waits for the pipes, which a child may hold.
    with anyio.move_on_after(END_S):
        while process.returncode is None:
            await anyio.sleep(0.01)
    return process.returncode is not None


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        elif process.returncode is None:
            process.send_signal(number)
