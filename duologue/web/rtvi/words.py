"""`RtviWords`: the messages of a transport to a client that speaks RTVI."""

from __future__ import annotations

from ...transports.client import Message, Words
from .messages import LABEL, envelope


class RtviWords(Words):
    """RTVI's `error`, and the `peerLeft` of Pipecat's small-webrtc transport."""

    def error(self, text: str) -> Message:
        """RTVI's error message. The call goes on, or its end is sent apart."""
        return envelope("error", {"error": text, "fatal": False})

    def end(self, reason: str) -> Message:
        """A signalling message, which is not RTVI's: clients of small-webrtc expect it on the same channel."""
        return {"type": "signalling", "message": {"type": "peerLeft"}}

    def owns(self, message: Message) -> bool:
        """Returns True for RTVI's label."""
        return message.get("label") == LABEL
