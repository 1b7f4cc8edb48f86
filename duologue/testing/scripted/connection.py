"""`ScriptedConnection`: one connection to a scripted server, with its queue, its faults, and the common acts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NoReturn

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...errors import BadInput
from ..tones import pieces, tone
from .manners_filter import MannersFilter
from .server import (
    SCRIPTED_RATE,
    SPEECH_CHARACTERS_PER_S,
    Act,
    Asked,
    Close,
    Got,
    HalfOpen,
    Raw,
    ScriptedServer,
    Speak,
    Twice,
    Wait,
)


class ScriptedConnection:
    """A connection. A test's call takes effect after the messages that were sent before it."""

    def __init__(self, server: ScriptedServer[Any], socket: ServerConnection, got: Got) -> None:
        self.got = got
        self.server = server
        self.socket = socket
        self.over = False
        """True once the connection reads nothing more, and sends only the messages in its queue."""
        self._out: asyncio.Queue[str | bytes | Close | HalfOpen | Wait] = asyncio.Queue()
        self._filter = self.mannered()
        self._twice = False
        self._timers: set[asyncio.Handle] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for tests -------------------------------------------------------------------------------------------------

    def close(self, code: int = 1011, reason: str = "") -> None:
        """Close the connection, or break it off if `code` is 0."""
        self._flush()
        self._post(Close(code, reason))
        self._stop()

    def go_half_open(self) -> None:
        """Stop reading and writing, and do not close."""
        self._flush()
        self._post(HalfOpen())
        self._stop()

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send a message, unchanged but for the server's manners."""
        if self._filter is not None and isinstance(message, dict):
            for part in self._filter.send(message):
                self._post(part if isinstance(part, Wait) else self.encode(part))
        else:
            self._post(self.encode(message) if isinstance(message, dict) else message)

    def mannered(self) -> MannersFilter | None:
        """Return the filter that shows the server's faults on this connection, None without any."""
        return None

    def send_late(self, delay_s: float, message: dict[str, Any]) -> None:
        """Send a message after a delay, unless the connection is over by then."""
        self.later(delay_s, lambda: self._post(self.encode(message)))

    def send_twice(self) -> None:
        """Send the next message twice."""
        self._twice = True

    # -- life ------------------------------------------------------------------------------------------------------

    def encode(self, message: dict[str, Any]) -> str | bytes:
        """Return a message as the provider encodes it."""
        return json.dumps(message)

    @abstractmethod
    async def serve(self) -> None:
        """Set the session up, and take the client's messages while it is not `over`."""

    async def run(self) -> None:
        """Serve the connection until it ends."""
        writer = asyncio.create_task(self._write())
        try:
            await self.serve()
            await self.socket.wait_closed()
        except ConnectionClosed:
            pass
        except Exception as error:
            self.fail(error)
            await self.socket.wait_closed()
        finally:
            self._stop()
            writer.cancel()
            await asyncio.gather(writer, *self._tasks, return_exceptions=True)

    def end(self) -> None:
        """Break the connection off, because the server ends."""
        self._stop()
        self.socket.transport.abort()

    def fail(self, error: Exception) -> None:
        """Record an error of the script, which must not look like a fault of the provider, and close."""
        self.server.failures.append(error)
        self.close(1011, "The script failed.")

    async def set_up_delay(self) -> None:
        """Wait for `Behaviour.setup_delay_s` before a session is set up, or until the connection ends."""
        delay_s = self.server.behaviour.setup_delay_s
        if delay_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.socket.wait_closed(), None if math.isinf(delay_s) else delay_s)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Call `act` after a delay, unless the connection is over by then."""

        def fire() -> None:
            self._timers.discard(timer)
            act()

        if not self.over and not math.isinf(delay_s):
            loop = asyncio.get_running_loop()
            timer = loop.call_later(delay_s, fire) if delay_s > 0 else loop.call_soon(fire)
            self._timers.add(timer)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _stop(self) -> None:
        self.over = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()

    def _flush(self) -> None:
        for message in () if self._filter is None else self._filter.flush():
            self._post(self.encode(message))

    def _post(self, frame: str | bytes | Close | HalfOpen | Wait) -> None:
        if self.over:
            return
        self._out.put_nowait(frame)
        if self._twice and isinstance(frame, str | bytes):
            self._twice = False
            self._out.put_nowait(frame)

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._out.get()
                if delay_s := self.server.behaviour.delay_s:
                    await asyncio.sleep(delay_s)
                if isinstance(frame, Wait):
                    await asyncio.sleep(frame.seconds)
                elif isinstance(frame, HalfOpen):
                    self.socket.transport.pause_reading()
                elif not isinstance(frame, Close):
                    await self.socket.send(frame)
                elif frame.code in (0, 1006):
                    self.socket.transport.abort()
                else:
                    await self.socket.close(frame.code, frame.reason.encode()[:123].decode(errors="ignore"))
        except ConnectionClosed:
            pass
        except Exception as error:
            self.server.failures.append(error)
            self.socket.transport.abort()

    # -- the model -------------------------------------------------------------------------------------------------

    def asked(self, **changes: Any) -> Asked:
        """Return a request to the model, with the session's state."""
        got = self.got
        asked = {
            "instructions": got.instructions,
            "voice": got.voice,
            "tools": got.tools,
            "history": tuple(got.history),
        }
        return Asked(connection=got.number, **{**asked, **changes})

    async def perform(self, act: Act) -> None:
        """Carry out an act that is the same on every wire. Raises BadInput for other acts."""
        match act:
            case Wait(seconds):
                await (forever() if math.isinf(seconds) else asyncio.sleep(seconds))
            case Close(code, reason):
                self.close(code, reason)
            case HalfOpen():
                self.go_half_open()
            case Raw(message):
                self.send(message)
            case Twice():
                self.send_twice()
            case _:
                raise BadInput(f"a script says {act!r}, which is not an act of this wire")

    async def spoken(self, act: Speak, words: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the words and the audio of each piece of a speech, at its pace."""
        seconds = len(act.text) / SPEECH_CHARACTERS_PER_S if act.seconds is None else act.seconds
        parts = list(pieces(act.audio or tone(seconds, SCRIPTED_RATE), SCRIPTED_RATE, act.chunk_ms)) or [b""]
        loop = asyncio.get_running_loop()
        began, said = loop.time(), 0
        for number, part in enumerate(parts):
            if act.pace and number:
                await asyncio.sleep(began + number * act.chunk_ms / 1000 / act.pace - loop.time())
            upto = round(len(words) * (number + 1) / len(parts))
            yield "".join(words[said:upto]), part
            said = upto


async def forever() -> NoReturn:
    """Wait until the task is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
