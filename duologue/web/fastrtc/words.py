"""`FastRtcWords`: the messages of a transport to a FastRTC client on a WebRTC data channel."""

from __future__ import annotations

from ...transports.client import Message, Words

KIND = "fastrtc"


class FastRtcWords(Words):
    """FastRTC's messages."""

    def error(self, text: str) -> Message:
        """FastRTC's error message."""
        return {"type": "error", "data": text}

    def end(self, reason: str) -> Message:
        """FastRTC's end of a stream."""
        return {"type": "end_stream", "data": reason}
