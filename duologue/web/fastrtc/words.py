"""`FastRtcWords`: a transport's own messages to a FastRTC client on a WebRTC data channel."""

from __future__ import annotations

from ...transports.client import Message, Words

KIND = "fastrtc"


class FastRtcWords(Words):
    """FastRTC's messages."""

    def error(self, text: str) -> Message:
        """Return FastRTC's error message."""
        return {"type": "error", "data": text}

    def end(self, reason: str) -> Message:
        """Return FastRTC's message for the end of a stream."""
        return {"type": "end_stream", "data": reason}
