"""`DeepgramConnection`: one open connection of a scripted Deepgram."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import anyio
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...errors import BadInput
from .deepgram_rules import check_sent, read_taken
from .deepgram_script import DeepgramBehaviour, DeepgramGot
from .manners import UNKNOWN, Manners, Part, sleep

RARELY = 0.1
"""The probability of an unknown message before a message."""
REQUEST_ID = "5c0d3b7e-0000-4000-8000-000000000000"


class DeepgramConnection:
    """Reads in `run`, and writes in a task of its own, in the order of the calls of `send`."""

    part: Part
    ending: str
    """The type of the message with which the client ends the connection."""
    unimportant: tuple[str, ...] = ()
    """Fields that the faults "nulls" and "odd-types" may spoil."""
    listens = False

    def __init__(
        self,
        socket: ServerConnection,
        got: DeepgramGot,
        behaviour: DeepgramBehaviour,
        manners: Manners,
        failures: list[Exception],
    ) -> None:
        self.got, self.behaviour, self.manners = got, behaviour, manners
        self._socket, self._failures = socket, failures
        self._frozen = False
        self._outbox: asyncio.Queue[dict[str, Any] | str | bytes | float] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for tests ---------------------------------------------------------------------------------------------------

    def drop(self, code: int = 0, reason: str = "") -> None:
        """Close the connection; a `code` of 0 breaks it off."""
        if code:
            self.start(self._socket.close(code, reason))
        else:
            self._socket.transport.abort()

    def go_half_open(self) -> None:
        """Stop reading and writing, and do not close."""
        self._frozen = True
        self._socket.transport.pause_reading()

    def raw(self, message: dict[str, Any] | str | bytes) -> None:
        """Send a message as it is, without a check: for example one of an unknown type, or one that is not JSON."""
        self._outbox.put_nowait(json.dumps(message) if isinstance(message, dict) else message)

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Send the first messages."""

    def take_audio(self, pcm: bytes) -> None:
        """Take audio."""

    def take(self, message: dict[str, Any]) -> None:
        """Take a message other than audio."""

    async def refuse(self, message: str, reason: str) -> None:
        """Refuse a message that Deepgram cannot read."""
        raise NotImplementedError

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message. It must be one of the SDK's."""
        message = {"type": kind, **fields}
        check_sent(self.got.path, message)
        self._outbox.put_nowait(message)

    def send_audio(self, pcm: bytes) -> None:
        """Send audio."""
        self._outbox.put_nowait(pcm)

    def wait(self, seconds: float) -> None:
        """Send nothing for some seconds, after the messages that wait; `inf` means for ever."""
        if seconds:
            self._outbox.put_nowait(seconds)

    def forget_unsent(self) -> None:
        """Drop all messages that were not written yet."""
        while not self._outbox.empty():
            self._outbox.get_nowait()

    async def written(self) -> None:
        """Wait until all messages are written."""
        while not self._outbox.empty():
            await anyio.sleep(0.001)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in a task that ends with the connection. An error in it is one of the script."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectionClosed:
            pass
        except Exception as error:
            self._failures.append(error)

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self.start(self._write())
        self.opened()
        try:
            while True:
                try:
                    async with asyncio.timeout(self.behaviour.idle_limit_s if self.listens else None):
                        message = await self._socket.recv()
                except TimeoutError:
                    told = "Deepgram did not receive audio data or a text message within the timeout window."
                    await self._socket.close(1011, f"NET-0001: {told}")
                    return
                if not await self._took(message):
                    return
        except ConnectionClosed:
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def _took(self, message: str | bytes) -> bool:
        """Take a message. Returns False at the end of the connection."""
        if isinstance(message, bytes):
            if not self.listens:
                await self._socket.close(1003, "MESSAGE-0000: binary messages are not accepted")
                return False
            if not message:
                await self._socket.close(1000)
                return False
            self.take_audio(message)
            return True
        try:
            fields = read_taken(self.got.path, message)
        except BadInput as error:
            self.got.refused.append(str(error))
            await self.refuse(message, str(error))
            return True
        self.got.messages.append(fields)
        if fields["type"] == self.ending:
            await self.ends()
            await self._socket.close(1000)
            return False
        self.take(fields)
        return True

    async def ends(self) -> None:
        """Send the last messages: the client ends the connection."""

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            if self._frozen:
                await anyio.sleep_forever()
            if isinstance(message, float):
                await sleep(message)
                continue
            for part in await self._mannered(message) if isinstance(message, dict) else [message]:
                with suppress(ConnectionClosed):
                    await self._socket.send(part)

    async def _mannered(self, message: dict[str, Any]) -> list[str]:
        """Return a message under the plan of faults."""
        manners, kind = self.manners, message["type"]
        if pause_s := manners.pause_s(self.part, f"before {kind}"):
            await anyio.sleep(pause_s)
        if manners.draw("nulls", self.part, kind):
            message = dict.fromkeys(self.unimportant) | message
            message |= dict.fromkeys(self.unimportant)
        if manners.draw("odd-types", self.part, kind):
            message = message | {name: ["odd", 7] for name in self.unimportant}
        messages = [message]
        if manners.draw("unknown-events", self.part, f"before {kind}", RARELY):
            messages.insert(0, {"type": UNKNOWN, "high": []})
        return [json.dumps(one) for one in messages]
