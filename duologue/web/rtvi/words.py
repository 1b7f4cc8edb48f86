"""`RtviWords`: a transport's own messages to a client that speaks RTVI."""

from __future__ import annotations

from ...transports.client import Message, Words
from .messages import LABEL, envelope


class RtviWords(Words):
    """RTVI's `error` message, and the `peerLeft` of Pipecat's small-webrtc transport."""

    def error(self, text: str) -> Message:
        """Return RTVI's error message. It does not end the call."""
        return envelope("error", {"error": text, "fatal": False})

    def end(self, reason: str) -> Message:
        """Return a signalling message, not RTVI's: clients of small-webrtc expect it on the same channel."""
        return {"type": "signalling", "message": {"type": "peerLeft"}}

    def owns(self, message: Message) -> bool:
        """Return True for a message with RTVI's label."""
        return message.get("label") == LABEL
