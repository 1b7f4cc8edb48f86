"""`FastRTCTransport`: a WebRTC client that speaks FastRTC's messages."""

from __future__ import annotations

from ...transports.client import Message
from ...transports.webrtc.transport import WebRTCTransport


class FastRTCTransport(WebRTCTransport):
    """Differs in what is said on the data channel."""

    kind = "fastrtc"

    def describe_error(self, text: str) -> Message:
        """FastRTC's error message."""
        return {"type": "error", "data": text}

    def describe_end(self, reason: str) -> Message:
        """FastRTC's end of a stream."""
        return {"type": "end_stream", "data": reason}
