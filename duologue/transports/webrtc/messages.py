"""The messages of a call over WebRTC, on the data channel of the current connection."""

from __future__ import annotations

import logging
from collections import deque

import msgspec

from ...errors import BadInput
from ...frames.text import from_json, to_json
from ..client import Message, byte_size
from ..pace import Allowance
from .peer import Peer

log = logging.getLogger("duologue")

MAX_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes of messages that a client may send at once, beyond its rate."""
BURST_S = 3.0
"""A client may send as many messages at once as in this many seconds."""
MAX_WAITING_MESSAGES = 1_000
"""Messages that wait for the data channel. Beyond that the oldest messages are dropped."""


class TooManyMessages(Exception):
    """A client exceeds its message rate."""


class IncomingMessages:
    """Reads a client's messages: JSON objects of at most `message_bytes`, on average `messages_per_s` of them.

    `bytes_per_s` is the average size of all of them, beyond the first 16 MiB.
    """

    def __init__(self, message_bytes: int, messages_per_s: int, bytes_per_s: int) -> None:
        self._message_bytes = message_bytes
        self._bytes = Allowance(bytes_per_s, MAX_BYTES_AT_ONCE)
        self._allowance = Allowance(messages_per_s, messages_per_s * BURST_S)

    def read(self, data: str | bytes, now: float) -> Message | None:
        """Return the message, or None for a message of the connection itself: a ping, or signalling.

        Raises BadInput for a malformed message, and TooManyMessages.
        """
        if not self._allowance.take(1, now):
            raise TooManyMessages("client sends too many messages")
        if not self._bytes.take(size := byte_size(data), now):
            raise TooManyMessages("client sends too many bytes")
        if size > self._message_bytes:
            raise BadInput(f"a message of {size} bytes: at most {self._message_bytes} are taken")
        if isinstance(data, str) and data.startswith("ping"):
            return None
        try:
            message = from_json(data)
        except msgspec.DecodeError as error:
            raise BadInput("a message is not JSON") from error
        if not isinstance(message, dict):
            raise BadInput(f"a message is not a JSON object but {type(message).__name__}")
        return None if message.get("type") == "signalling" else message


class OutgoingMessages:
    """Sends messages over the current connection, or keeps them until its data channel is open."""

    def __init__(self, id: str) -> None:
        self.dropped = 0
        """Number of messages that were dropped."""
        self._id = id
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING_MESSAGES)

    def send(self, message: Message, peer: Peer | None) -> None:
        """Send a JSON object."""
        text = to_json(message)
        if peer is None or not peer.can_send:
            self.dropped += len(self._waiting) == MAX_WAITING_MESSAGES
            self._waiting.append(text)
        elif not peer.send(text):
            if not self.dropped:
                log.warning("call %s: the client does not take its messages: some are dropped", self._id)
            self.dropped += 1

    def channel_opened(self, peer: Peer) -> None:
        """Send the messages that wait."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for text in waiting:
            self.dropped += not peer.send(text)
