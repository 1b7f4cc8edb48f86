"""Messages on the data channel of a WebRTC client: `IncomingMessages` and `OutgoingMessages`."""

from __future__ import annotations

import json
import logging
from collections import deque

from ...errors import BadInput
from ..websocket.limits import Allowance
from ..words import Message, byte_size
from .peer import Peer

log = logging.getLogger("duologue")

BURST_S = 3.0
"""Seconds whose messages a client may send at once."""
MAX_WAITING_MESSAGES = 1_000
"""Messages that wait for the data channel. Beyond that the oldest are dropped."""


class TooManyMessages(Exception):
    """A client sends more messages than it may."""


class IncomingMessages:
    """Reads a client's messages: JSON objects of at most `message_bytes`, on average `messages_per_s` of them."""

    def __init__(self, message_bytes: int, messages_per_s: int) -> None:
        self._message_bytes, self._messages_per_s = message_bytes, messages_per_s
        self._allowance = Allowance(messages_per_s, messages_per_s * BURST_S)

    def read(self, data: str | bytes, now: float) -> Message | None:
        """The message, or None for one of the connection's own: a ping, or signalling.

        Raises BadInput for a malformed message, and TooManyMessages.
        """
        if not self._allowance.take(1, now):
            raise TooManyMessages(f"more than {self._messages_per_s} messages a second")
        if (size := byte_size(data)) > self._message_bytes:
            raise BadInput(f"a message of {size} bytes: at most {self._message_bytes} are taken")
        if isinstance(data, str) and data.startswith("ping"):
            return None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadInput("a message is not JSON") from error
        if not isinstance(message, dict):
            raise BadInput(f"a message is not a JSON object but {type(message).__name__}")
        return None if message.get("type") == "signalling" else message


class OutgoingMessages:
    """Sends messages over the current connection, or keeps them until its data channel is open."""

    def __init__(self, id: str) -> None:
        self.dropped = 0
        """Messages that were dropped."""
        self._id = id
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING_MESSAGES)

    def send(self, message: Message, peer: Peer | None) -> None:
        """Send a JSON object."""
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
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
