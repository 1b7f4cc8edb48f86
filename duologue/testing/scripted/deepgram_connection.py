"""`DeepgramConnection`: one open connection of a scripted Deepgram."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio

from ...errors import BadInput
from .deepgram_rules import check_sent, read_taken
from .deepgram_script import DeepgramBehaviour, DeepgramGot
from .manners import sleep
from .vendor import VendorConnection

REQUEST_ID = "5c0d3b7e-0000-4000-8000-000000000000"


class DeepgramConnection(VendorConnection[DeepgramBehaviour, DeepgramGot]):
    """Reads in `run`, and writes in a task of its own, in the order of the calls of `send`."""

    ending: str
    """The type of the message with which the client ends the connection."""
    unimportant: tuple[str, ...] = ()
    """Fields that the faults "nulls" and "odd-types" may spoil."""
    listens = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._outbox: asyncio.Queue[dict[str, Any] | str | bytes | float] = asyncio.Queue()

    # -- for tests ---------------------------------------------------------------------------------------------------

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

    # -- life --------------------------------------------------------------------------------------------------------

    def idle_limit_s(self) -> float | None:
        """Return the seconds without a message after which a listening connection ends."""
        return self.behaviour.idle_limit_s if self.listens else None

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing."""
        told = "Deepgram did not receive audio data or a text message within the timeout window."
        await self.close(1011, f"NET-0001: {told}")

    async def begin(self) -> None:
        """Begin to write."""
        self.start(self._write())
        self.opened()

    async def receive(self, message: str | bytes) -> None:
        """Take a message."""
        if isinstance(message, str):
            await self._receive_text(message)
        elif not self.listens:
            await self.close(1003, "MESSAGE-0000: binary messages are not accepted")
        elif not message:
            await self.close(1000, "")
        else:
            self.take_audio(message)

    async def _receive_text(self, message: str) -> None:
        try:
            fields = read_taken(self.got.path, message)
        except BadInput as error:
            self.got.refused.append(str(error))
            await self.refuse(message, str(error))
            return
        self.got.messages.append(fields)
        if fields["type"] == self.ending:
            await self.ends()
            await self.close(1000, "")
        else:
            self.take(fields)

    async def ends(self) -> None:
        """Send the last messages: the client ends the connection."""

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            if isinstance(message, float):
                await sleep(message)
            elif isinstance(message, dict):
                await self.deliver(message, message["type"], self.unimportant)
            else:
                await self.send_raw(message)
