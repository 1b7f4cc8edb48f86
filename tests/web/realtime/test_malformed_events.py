"""A client's events with every field replaced by odd values: each gets its answer, and the call goes on."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.protocols.openai_realtime.events import MAX_SHOWN, MAX_TEXT
from duologue.session.life import State
from duologue.transports.websocket.connection import Closed
from duologue.transports.websocket.serializers import Wired
from duologue.web.realtime.transport import RealtimeTransport
from tests.protocols.openai_realtime.test_server_session import Backend
from tests.testing.scripted.openai_client import SERVER_EVENT
from tests.web.realtime.calls import Mocks, call
from tests.web.realtime.test_openai_realtime import WEATHER

EVENTS: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "model": "m",
            "output_modalities": ["audio"],
            "instructions": "Be kind.",
            "tools": [WEATHER],
            "tool_choice": "auto",
            "max_output_tokens": 100,
            "tracing": "auto",
            "truncation": "auto",
            "prompt": None,
            "include": [],
            "reasoning": {"effort": "low"},
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "any", "language": "en", "prompt": "names"},
                    "noise_reduction": {"type": "near_field"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "idle_timeout_ms": None,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "ash", "speed": 1.0},
            },
        },
    },
    {
        "type": "response.create",
        "response": {
            "conversation": "auto",
            "instructions": "Be brief.",
            "metadata": {"a": "b"},
            "output_modalities": ["text"],
            "tools": [],
            "tool_choice": {"type": "function", "name": "get_weather"},
            "max_output_tokens": "inf",
            "prompt": None,
            "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "ash"}},
        },
    },
    {
        "type": "conversation.item.create",
        "previous_item_id": None,
        "item": {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi."},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    },
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "x"}},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 5},
    {"type": "conversation.item.delete", "item_id": "i"},
    {"type": "conversation.item.retrieve", "item_id": "i"},
    {"type": "response.cancel", "response_id": "r"},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
]
ODD: list[Any] = [
    None, True, -1, 3.5, 10**30, "", "auto", "\ud800", [], [[]], {}, {"type": []}, {"type": {}}, {"a": {"b": [None]}},
]  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in plain data but its root."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*way, key)
        yield from places(child, (*way, key))


def mutated(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for way in places(event):
        for odd in [*ODD, "missing"]:
            changed = copy.deepcopy(event)
            holder: Any = changed
            for key in way[:-1]:
                holder = holder[key]
            if odd == "missing":
                del holder[way[-1]]
            else:
                holder[way[-1]] = odd
            yield changed


class SilentWire:
    """A connection in memory on which the client sends nothing. Every event of the server is checked by the SDK."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def send(self, data: Wired) -> None:
        event = json.loads(data)
        SERVER_EVENT.validate_python(event)
        self.events.append(event)

    async def receive(self) -> Wired:
        await asyncio.get_running_loop().create_future()
        raise Closed

    async def close(self, code: int, reason: str) -> None: ...


@pytest.mark.parametrize("may_configure", [False, True])
async def test_every_odd_field_is_answered_and_the_call_goes_on(may_configure: bool) -> None:
    wire = SilentWire()
    transport = RealtimeTransport(wire, client_may_configure=may_configure)
    session = Mocks(["Yes."])(transport)
    transport.open()
    running = asyncio.create_task(session.run())
    await anyio.sleep(1)
    tools = {"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}}
    for event in [tools, *(odd for seed in EVENTS for odd in mutated(seed))]:
        before = len(wire.events)
        assert transport.serializer.parse(json.dumps(event)) is None
        transport.serializer.parse('{"type": "response.cancel"}')
        await anyio.sleep(0.001)
        assert len(wire.events) > before + (event.get("type") != "input_audio_buffer.append"), event
    kinds = {event["error"]["type"] for event in wire.events if event["type"] == "error"}
    assert kinds == {"invalid_request_error"}
    assert session.state is State.ACTIVE
    session.cancel("over")
    await running
    await transport.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_place_is_an_event_or_an_error(data: st.DataObject) -> None:
    event = copy.deepcopy(data.draw(st.sampled_from(EVENTS)))
    way = data.draw(st.sampled_from(list(places(event))))
    holder: Any = event
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = data.draw(VALUES)
    backend = Backend()
    backend.session.receive(json.dumps(event))
    assert backend.events or event["type"] == "input_audio_buffer.append"
    for came in backend.events:
        if came["type"] == "error":
            assert came["error"]["code"] in CODES
            assert len(came["error"]["message"]) <= MAX_SHOWN + 1


CODES = {
    "invalid_type", "invalid_value", "missing_required_parameter", "invalid_json", "invalid_tool_call_id",
    "item_delete_invalid_item_id", "item_retrieve_invalid_item_id", "item_truncate_invalid_item_id",
    "item_create_invalid_previous_item_id", "response_cancel_not_active", "string_above_max_length",
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"format": {"type": []}}}}},
         "invalid_type", "session.audio.input.format.type"),
        ({"type": "session.update", "session": {"type": "realtime", "max_output_tokens": 5000}},
         "invalid_value", "session.max_output_tokens"),
        ({"type": "response.create", "response": {"metadata": {"a": 1}}}, "invalid_type", "response.metadata[]"),
        ({"type": "response.create", "response": {"tool_choice": "maybe"}}, "invalid_value", "response.tool_choice"),
        ({"type": "conversation.item.create", "item": {"type": "mcp_call"}}, "invalid_value", "item.type"),
        ({"type": "conversation.item.create", "item": {"type": "function_call", "call_id": "c", "name": "f"}},
         "missing_required_parameter", "item.arguments"),
        ({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "x" * (MAX_TEXT + 1)}]}}, "invalid_value", "item.content[0].text"),
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": -1},
         "invalid_value", "audio_end_ms"),
        ({"type": "x" * 100_000}, "invalid_value", "type"),
    ],
)  # fmt: skip
def test_an_error_names_the_field(event: dict[str, Any], code: str, param: str) -> None:
    backend = Backend()
    backend.session.receive(json.dumps(event))
    error = backend.events[-1]["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert len(error["message"]) <= MAX_SHOWN + 1


@pytest.mark.parametrize(
    "message", ['{"type": NaN}', '{"a":' * 70 + "1" + "}" * 70, '{"type": "x", "a": 1e', "\ufeff{}"]
)
def test_what_is_not_json_or_too_deep_is_refused(message: str) -> None:
    backend = Backend()
    backend.session.receive(message)
    assert [event["error"]["code"] for event in backend.events] == ["invalid_json"]


async def test_half_an_emoji_is_replaced_and_no_reason_to_lose_a_message() -> None:
    mocks = Mocks()
    async with call(mocks) as client:
        content = [{"type": "input_text", "text": "Fine \ud83d"}]
        item = {"type": "message", "role": "user", "content": content}
        await client.connection.send_raw(json.dumps({"type": "conversation.item.create", "item": item}))
        await client.until("conversation.item.done")
        await client.send("response.create")
        await client.until("response.done")
        assert mocks.asked(0) == [("user", "Fine \ufffd")]
