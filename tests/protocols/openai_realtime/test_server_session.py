"""Whatever a client sends, a server session answers with events that the SDK knows, and goes on."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.protocols.openai_realtime.response import ServerItem, ServerResponse
from duologue.protocols.openai_realtime.session import RealtimeServerSession
from tests.testing.scripted.openai_client import SERVER_EVENT


class Backend:
    """Answers with a word and a tenth of a second of silence; the answer to every other question goes on."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.session = RealtimeServerSession(self.send, self, model="m", tag="t", expires_at=0)
        self.asked = 0

    def send(self, event: dict[str, Any]) -> None:
        SERVER_EVENT.validate_python(event)
        self.events.append(event)

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None: ...

    def audio(self, pcm: bytes, rate: int) -> None: ...

    def cleared(self) -> None: ...

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None: ...

    def created(self, item: ServerItem, place: int) -> None: ...

    def deleted(self, item: ServerItem) -> None: ...

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None: ...

    def check_response(self, asked: dict[str, Any]) -> None: ...

    def respond(self, response: ServerResponse) -> None:
        self.asked += 1
        response.say("word")
        response.voice(bytes(4800))
        response.call("c1", "f", "{}")
        if self.asked % 2:
            response.finish()

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        return None


KINDS = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
    "else",
]
WORDS = [
    "realtime",
    "message",
    "function_call",
    "function_call_output",
    "item_reference",
    "user",
    "assistant",
    "system",
    "input_text",
    "input_audio",
    "output_text",
    "server_vad",
    "semantic_vad",
    "audio/pcm",
    "audio/pcmu",
    "root",
    "none",
    "text",
    "audio",
    "function",
    "c1",
    "item_t_0003",
    "AAAA",
    "",
]
NAMES = [
    "type", "session", "audio", "input", "output", "format", "rate", "turn_detection", "voice", "speed", "tools",
    "name", "item", "id", "role", "content", "text", "call_id", "arguments", "item_id", "content_index", "audio_end_ms",
    "previous_item_id", "response", "conversation", "metadata", "instructions", "output_modalities", "threshold",
    "max_output_tokens", "response_id", "event_id", "transcription", "eagerness", "silence_duration_ms",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5000) | st.floats(-1, 2) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
EVENTS = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5),
)


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=12))
def test_no_event_of_a_client_breaks_the_session(events: list[dict[str, Any]]) -> None:
    backend = Backend()
    backend.session.open()
    for event in events:
        before = len(backend.events)
        backend.session.receive(json.dumps(event))
        assert len(backend.events) > before or event["type"] == "input_audio_buffer.append"
    assert len({event["event_id"] for event in backend.events}) == len(backend.events)


@pytest.mark.parametrize("message", ["", "[]", "1", "{", b"\xff", "[" * 100_000, '{"type": 7}', '{"type": []}'])
def test_what_is_no_event_gets_an_error(message: str | bytes) -> None:
    backend = Backend()
    backend.session.receive(message)
    assert [event["type"] for event in backend.events] == ["error"]
