"""Valid messages of every dialect, for the mutator."""

from __future__ import annotations

import base64
import struct
from typing import Any

AUDIO = base64.b64encode(bytes(640)).decode()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
SECRET = "SECRET-OF-THE-SERVER"
"""Is in the instructions, the tools and the results of the served agents, and must reach no client."""

QUIET = "a question of the quiet caller"
"""Is always answered at once, without a tool."""


def rtvi(kind: str, data: Any = None) -> dict[str, Any]:
    """Return an RTVI message."""
    return {"label": "rtvi-ai", "type": kind, "id": "1", **({} if data is None else {"data": data})}


PLAIN = [
    {"type": "audio", "data": AUDIO},
    {"type": "played", "ms": 120},
    {"type": "ping"},
    {"type": "text", "text": "hello"},
]
RTVI = [
    rtvi("client-ready", {"version": "2.2.0", "about": {"library": "js", "platform": "web"}}),
    rtvi("client-ready", {"version": "1.0.0"}),
    rtvi("send-text", {"content": "hello", "options": {"run_immediately": True, "audio_response": False}}),
    rtvi("send-file", {"content": "look", "file": {"format": "image/png", "source": {"type": "bytes", "bytes": PNG}}}),
    rtvi("send-file", {"file": {"format": "image/png", "source": {"type": "url", "url": "file:///etc/passwd"}}}),
    rtvi("dtmf", {"button": "1"}),
    rtvi("raw-audio", {"base64Audio": AUDIO, "sampleRate": 16_000, "numChannels": 1}),
    rtvi("raw-audio-batch", {"base64AudioBatch": [AUDIO], "sampleRate": 16_000, "numChannels": 1}),
    rtvi("client-message", {"t": "hello", "d": {"a": [1, 2]}}),
    rtvi("client-message", {"t": "duologue.approve", "d": {"call_id": "c1", "approved": True}}),
    rtvi("client-message", {"t": "duologue.transfer", "d": {"target": "Back"}}),
    rtvi("client-message", {"t": "duologue.interrupt", "d": {}}),
    rtvi("duologue.transfer", {"target": "Back", "engine": "b", "reason": "x"}),
    rtvi("duologue.approve", {"call_id": "c1", "approved": True}),
    rtvi("llm-function-call-result", {"function_name": "f", "tool_call_id": "c", "arguments": {}, "result": 1}),
    rtvi("disconnect-bot"),
]
FASTRTC = [
    {"event": "media", "media": {"payload": base64.b64encode(bytes(range(160))).decode()}},
    {"event": "ping"},
    {"event": "start", "websocket_id": "again"},
    {"event": "stop"},
]
_VAD = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500, "create_response": True}
REALTIME = [
    {
        "type": "session.update",
        "event_id": "e1",
        "session": {
            "type": "realtime",
            "instructions": "Obey.",
            "output_modalities": ["audio"],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}],
            "audio": {
                "input": {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": _VAD},
                "output": {"voice": "marin", "format": {"type": "audio/pcmu"}},
            },
        },
    },
    {"type": "input_audio_buffer.append", "audio": AUDIO},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": None,
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "c1", "output": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}],
        },
    },
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 100},
    {"type": "response.create", "response": {"instructions": "x", "conversation": "none", "metadata": {"a": "b"}}},
    {"type": "response.create"},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "output_audio_buffer.clear"},
]
START: list[Any] = [
    {"transport": "webrtc", "createDailyRoom": False, "enableDefaultIceServers": True, "body": {"a": 1}},
    {"transport": "websocket"},
]
SDP = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic:WMS *\r\n"
    "m=audio 50001 UDP/TLS/RTP/SAVPF 96 0 8\r\nc=IN IP4 127.0.0.1\r\na=sendrecv\r\na=mid:0\r\na=rtcp-mux\r\n"
    "a=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=fmtp:96 minptime=10\r\n"
    "a=candidate:1 1 udp 2130706431 127.0.0.1 50001 typ host\r\na=end-of-candidates\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\n"
    "m=application 50001 DTLS/SCTP 5000\r\nc=IN IP4 127.0.0.1\r\na=mid:1\r\na=sctpmap:5000 webrtc-datachannel 65535\r\n"
    "a=max-message-size:65536\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\n"
)
OFFER: list[Any] = [
    {"sdp": SDP, "type": "offer", "pc_id": None, "restart_pc": False, "requestData": {"a": 1}},
    {"sdp": SDP, "type": "offer", "pc_id": "guessed", "restart_pc": True},
]
FASTRTC_OFFER: list[Any] = [
    {"sdp": SDP, "type": "offer", "webrtc_id": "w1"},
    {
        "type": "ice-candidate",
        "webrtc_id": "w1",
        "candidate": {"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host"},
    },
]
PATCH: list[Any] = [
    {
        "pc_id": "guessed",
        "candidates": [{"candidate": "candidate:1 1 udp 1 10.0.0.1 9 typ host", "sdp_mid": "0", "sdp_mline_index": 0}],
    }
]


# -- protobuf ----------------------------------------------------------------------------------------------------------


def field(number: int, value: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Return a protobuf varint."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def frame_of(message: str) -> bytes:
    """Return Pipecat's protobuf frame with a JSON message."""
    return field(4, field(1, message.encode("utf-8", "replace")))


PROTOBUF = [
    field(1, field(2, b"name") + field(3, b"hello")),
    field(2, field(3, bytes(640)) + varint(4 << 3) + varint(16_000) + varint(5 << 3) + varint(1)),
    field(3, field(3, b"said")),
    frame_of('{"label":"rtvi-ai","type":"client-ready","id":"1","data":{"version":"1.0.0"}}'),
    field(5, b""),
]


# -- WAV ---------------------------------------------------------------------------------------------------------------


def wav(code: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, data: bytes = bytes(400)) -> bytes:
    """Return a WAV file."""
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(header)) + header
    body += b"LIST" + struct.pack("<I", 4) + b"INFO" + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _extensible() -> bytes:
    guid = b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    header = struct.pack("<HHIIHHHHI", 0xFFFE, 2, 48_000, 48_000 * 6, 6, 24, 22, 24, 3) + guid
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", 240) + bytes(240)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _rf64() -> bytes:
    sizes = struct.pack("<QQQI", 500, 400, 200, 0)
    return b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(sizes)) + sizes + wav()[12:]


WAVS = [
    wav(),
    wav(channels=2, rate=44_100),
    wav(bits=8),
    wav(bits=24, data=bytes(300)),
    wav(bits=32),
    wav(code=3, bits=32),
    wav(code=3, bits=64),
    wav(code=6, bits=8, rate=8_000),
    wav(code=7, bits=8, rate=8_000),
    _extensible(),
    _rf64(),
    wav()[:4] + b"\xff\xff\xff\xff" + wav()[8:],
]

# -- vendors -----------------------------------------------------------------------------------------------------------

_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "status": "in_progress",
    "output": [],
    "metadata": {"duologue": "a1"},
    "usage": None,
}
_USAGE = {
    "total_tokens": 10,
    "input_tokens": 5,
    "output_tokens": 5,
    "input_token_details": {"cached_tokens": 0, "text_tokens": 1, "audio_tokens": 4},
    "output_token_details": {"text_tokens": 1, "audio_tokens": 4},
}
_CALL = {"id": "i2", "type": "function_call", "name": "f", "call_id": "c1", "arguments": "{}", "status": "completed"}
_OF = {"response_id": "resp_1", "item_id": "i1", "output_index": 0, "content_index": 0}
OPENAI = [
    {"type": "session.created", "session": {"id": "s", "expires_at": 1, "model": "m", "voice": "marin"}},
    {"type": "session.updated", "session": {"id": "s", "expires_at": 1}},
    {"type": "error", "error": {"type": "x", "code": "y", "message": "z", "param": None, "event_id": "e"}},
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "i0"},
    {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "i0"},
    {"type": "input_audio_buffer.committed", "item_id": "i0", "previous_item_id": None},
    {"type": "conversation.item.input_audio_transcription.delta", "item_id": "i0", "delta": "hel"},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i0", "transcript": "hello"},
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i0", "error": {"message": "m"}},
    {"type": "response.created", "response": _RESPONSE},
    {"type": "response.output_text.delta", "delta": "a", **_OF},
    {"type": "response.output_audio_transcript.delta", "delta": "a", **_OF},
    {"type": "response.output_audio.delta", "delta": AUDIO, **_OF},
    {"type": "response.output_item.done", "response_id": "resp_1", "output_index": 0, "item": _CALL},
    {"type": "response.done", "response": {**_RESPONSE, "status": "completed", "usage": _USAGE, "output": [_CALL]}},
    {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "remaining": 1, "reset_seconds": 1.0}]},
]
GEMINI = [
    {"setupComplete": {"sessionId": "s"}},
    {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": AUDIO}}]}}},
    {"serverContent": {"modelTurn": {"parts": [{"text": "a", "thought": True}]}}},
    {"serverContent": {"inputTranscription": {"text": "hello", "finished": True}}},
    {"serverContent": {"outputTranscription": {"text": "hello"}}},
    {"serverContent": {"generationComplete": True}},
    {"serverContent": {"turnComplete": True, "interrupted": True, "turnCompleteReason": "X"}},
    {"toolCall": {"functionCalls": [{"id": "c1", "name": "f", "args": {"a": 1}}]}},
    {"toolCallCancellation": {"ids": ["c1"]}},
    {"goAway": {"timeLeft": "10.5s"}},
    {"sessionResumptionUpdate": {"newHandle": "h", "resumable": True}},
    {"usageMetadata": {"promptTokenCount": 1, "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}]}},
]
PARROT = [
    {"type": "text", "text": "hello", "final": True, "last": True, "words": [["hello", 0.0, 0.3]], "confidence": 0.9},
    {"type": "going-away", "left_s": 3.0},
    {"type": "error", "code": "x", "message": "y"},
    {"type": "audio", "context": "c1", "audio": AUDIO, "words": [["hello", 0.0, 0.3]]},
    {"type": "done", "context": "c1"},
]
