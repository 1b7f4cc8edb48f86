"""Many calls over WebSockets: the lateness of the agent's audio at the callers, and the server's cost of a call.

The server is a separate process on one core, with webrtcvad and mock services; the callers are here, on another core.
Each caller asks (2 s of speech, then silence), listens to the answer (4 s), and asks again a second after it, with a
chunk of PCM every 20 ms in both directions. They implement the protocol without a library, to keep the load within one
core. Lateness is that of a chunk at the caller, compared with an exact pace from the first chunk of the answer on. A
chunk makes a gap if the caller had no audio left to play; later chunks are measured from the new beginning.
`callers_late_ms_p99` is the lateness of the callers' own clock: on a machine with other work it is a part of all other
figures. `core_waited_for` is the part of the time in which the server had work and other programs had its core: if it
is not near 0, the lateness is theirs. With `--base64 1` the audio to the callers is sent as JSON.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys

import anyio
import psutil

from benchmarks._call import CHUNK, speech
from benchmarks._report import arguments, cpu_s, percentile, report
from duologue.transports.playout.base import PlayoutSettings
from duologue.transports.playout.pacer import Beat, Pacer

WARM_UP_S = 5.0
CHUNK_S = 0.02
LEAD_CHUNKS = round(PlayoutSettings().lead_ms / 1000 / CHUNK_S)
PAUSE_S = 1.0
"""Seconds without audio after which the answer is over and the next question follows."""
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_UPGRADE = (
    "GET /ws?format={format} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frames(pcm: bytes) -> list[bytes]:
    """Return PCM as WebSocket messages of 20 ms, masked, as a client's messages must be, with a mask of zeros."""
    header = bytes((0x80 | _BINARY, 0x80 | 126)) + struct.pack(">H", CHUNK) + bytes(4)
    return [header + pcm[place : place + CHUNK] for place in range(0, len(pcm), CHUNK)]


class Caller(asyncio.Protocol):
    """One client."""

    def __init__(self, question: list[bytes], silence: bytes, format: str) -> None:
        self.measuring = False
        self.late_s: list[float] = []
        self.gaps = 0
        self.chunks = 0
        self.answers = 0
        self.lost = False
        self._question, self._silence, self._format = question, silence, format
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._upgraded = False
        self._place = len(question)
        self._first_at = 0.0
        self._count = 0
        self._last_at: float | None = None
        self._beat: Beat | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_UPGRADE.format(format=self._format).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """End the caller: the connection was refused, or either side has closed it."""
        self.lost = True
        if self._beat is not None:
            self._beat.cancel()

    def data_received(self, data: bytes) -> None:
        """Take the complete messages."""
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:  # refused: the caller is lost
                self._transport.close()
                return
            self._upgraded, self._buffer = True, rest
            self._loop.call_later(0.5, self._ask)
            self._beat = Pacer.get().every_20ms(self._speak, self._loop.time())
        buffer = self._buffer
        place = 0
        while len(buffer) - place >= 2:
            size, start = buffer[place + 1], place + 2
            if size == 126:
                if len(buffer) < place + 4:
                    break
                size, start = int.from_bytes(buffer[place + 2 : place + 4]), place + 4
            if len(buffer) < start + size:
                break
            kind = buffer[place] & 0x0F
            if kind == _BINARY or buffer.startswith(b'{"type":"audio"', start):
                self._heard()
            elif kind == _PING:
                payload = buffer[start : start + size]
                self._transport.write(bytes((0x80 | _PONG, 0x80 | size)) + bytes(4) + payload)
            place = start + size
        self._buffer = buffer[place:]

    def _heard(self) -> None:
        now = self._loop.time()
        if self._last_at is None:
            self._first_at, self._count = now, 0
        elif self.measuring:
            due = self._first_at + max(0, self._count + 1 - LEAD_CHUNKS) * CHUNK_S
            self.late_s.append(max(0.0, now - due))
            self.chunks += 1
        missing_s = now - self._first_at - self._count * CHUNK_S
        if missing_s > 0:  # the caller had no audio left to play: the rest is played later by this time
            self.gaps += self.measuring
            self._first_at += missing_s
        self._last_at = now
        self._count += 1

    def _ask(self) -> None:
        self._place = 0

    def _speak(self) -> None:
        if self._last_at is not None and self._loop.time() - self._last_at > PAUSE_S:
            self._last_at = None
            self.answers += 1
            self._place = 0
        if self._place < len(self._question):
            self._transport.write(self._question[self._place])
            self._place += 1
        else:
            self._transport.write(self._silence)

    def hang_up(self) -> None:
        """Close the connection. Does nothing for a caller that is lost."""
        if self._beat is None or self.lost:
            self._transport.close()
            return
        self._beat.cancel()
        self._transport.write(bytes((0x80 | _CLOSE, 0x80)) + bytes(4))


class Server:
    """The server's process. Linux only."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        return cpu_s(self._process.pid)

    def waited_s(self) -> float:
        """Return the seconds for which it had work, while its core did the work of other programs."""
        with open(f"/proc/{self._process.pid}/schedstat") as figures:
            return int(figures.read().split()[1]) / 1e9

    def memory_mb(self) -> float:
        """Return the memory that belongs to the process alone."""
        uss: int = self._seen.memory_full_info().uss
        return round(uss / 1024 / 1024, 1)


async def measure(calls: int, seconds: float, base64: bool, core: int) -> dict[str, float]:
    """Return the figures of this number of calls, of a server on `core`."""
    command = [sys.executable, "-m", "benchmarks._websocket_server", str(calls), str(core)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    server, dice = Server(process), random.Random(1)
    question, silence = frames(speech()), frames(bytes(CHUNK))[0]
    callers: list[Caller] = []

    async def call(delay_s: float) -> None:
        await anyio.sleep(delay_s)
        caller = Caller(question, silence, "json" if base64 else "binary")
        callers.append(caller)
        await asyncio.get_running_loop().create_connection(lambda: caller, "127.0.0.1", port)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(call, dice.uniform(0.0, WARM_UP_S))
        await anyio.sleep(2 * WARM_UP_S)
        for caller in callers:
            caller.measuring = True
        memory_mb, loop = server.memory_mb(), asyncio.get_running_loop()
        cpu, waited, began = server.cpu_s(), server.waited_s(), loop.time()
        Pacer.get().lateness.reset()
        await anyio.sleep(seconds)
        cpu, waited, wall = server.cpu_s() - cpu, server.waited_s() - waited, loop.time() - began
        lost = sum(caller.lost for caller in callers)
        figures = {
            "calls": calls,
            "seconds": round(wall, 1),
            "lost": lost,
            "answers": sum(caller.answers for caller in callers),
            "chunks": sum(caller.chunks for caller in callers),
            "gaps": sum(caller.gaps for caller in callers),
            **_late([late_s for caller in callers for late_s in caller.late_s]),
            "callers_late_ms_p99": round(Pacer.get().lateness.percentile(99) * 1000, 1),
            "cpu_s_per_call_minute": round(cpu / (calls * wall / 60), 3),
            "core_used": round(cpu / wall, 3),
            "core_waited_for": round(waited / wall, 3),
            "memory_mb_start": memory_mb,
            "memory_mb_end": server.memory_mb(),
        }
        for caller in callers:
            caller.hang_up()
        while not all(caller.lost for caller in callers):
            await anyio.sleep(0.1)
        return figures
    finally:
        process.stdin.close()
        await process.wait()


def _late(late_s: list[float]) -> dict[str, float]:
    return {
        "late_ms_p50": round(percentile(late_s, 50) * 1000, 1),
        "late_ms_p99": round(percentile(late_s, 99) * 1000, 1),
        "late_ms_max": round(max(late_s, default=0.0) * 1000, 1),
    }


if __name__ == "__main__":
    cores = sorted(os.sched_getaffinity(0))
    options = arguments("Many calls over WebSockets.", {"calls": 200, "seconds": 60.0, "base64": 0})
    os.sched_setaffinity(0, set(cores[1:]) or set(cores))
    report(anyio.run(measure, options.calls, options.seconds, bool(options.base64), cores[0]), as_json=options.json)
