"""Wire messages of OpenAI Realtime for tests, held against the SDK's own types."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any, get_args

from openai.types.realtime.realtime_client_event import RealtimeClientEvent
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from duologue.agents.engine import EngineConfig
from duologue.services.native.dialect import Event
from duologue.services.openai.dialect import OpenAIDialect
from duologue.services.openai.options import OpenAIRealtimeOptions

_CLIENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeClientEvent)
SERVER_MESSAGES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(RealtimeServerEvent)[0])
    if "type" in model.model_fields
}
_ids = count(1)


def sent(message: str) -> dict[str, Any]:
    """A client's message, once it has been held against the SDK's types: nothing missing, wrong or unknown."""
    _assert_known(_CLIENT.validate_json(message, strict=True))
    plain: dict[str, Any] = json.loads(message)
    return plain


def _assert_known(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} has no {value.model_extra}"
        for field in value.model_fields_set:
            _assert_known(getattr(value, field))
    elif isinstance(value, list):
        for entry in value:
            _assert_known(entry)


def told(kind: str, /, **fields: Any) -> bytes:
    """A server's message, held against the SDK's types, with an id of its own."""
    plain = {"type": kind, "event_id": f"event_{next(_ids)}", **fields}
    SERVER_MESSAGES[kind].model_validate(plain)
    return json.dumps(plain).encode()


def opened(
    config: EngineConfig | None = None, options: OpenAIRealtimeOptions | None = None, model: str = "gpt-realtime-2.1"
) -> OpenAIDialect:
    """A dialect of a connection that is set up."""
    dialect = OpenAIDialect(model, config or EngineConfig(), options or OpenAIRealtimeOptions(), now=lambda: 1000.0)
    dialect.setup()
    dialect.read(session_created())
    dialect.read(session_updated())
    return dialect


def read(dialect: OpenAIDialect, *messages: bytes) -> list[Event]:
    """The events of some messages."""
    return [event for message in messages for event in dialect.read(message)]


def session_created(**fields: Any) -> bytes:
    return told("session.created", session={"type": "realtime", "id": "sess_1", **fields})


def session_updated() -> bytes:
    return told("session.updated", session={"type": "realtime"})


def error(
    code: str | None, message: str = "No.", *, about: str | None = None, kind: str = "invalid_request_error"
) -> bytes:
    return told("error", error={"type": kind, "code": code, "message": message, "param": None, "event_id": about})


def created(response: str = "resp_1", tag: str = "") -> bytes:
    return told("response.created", response={"id": response, "metadata": {"tag": tag} if tag else None})


def audio(pcm: bytes, response: str = "resp_1", item: str = "item_1") -> bytes:
    delta = base64.b64encode(pcm).decode()
    return told("response.output_audio.delta", delta=delta, **_place(response, item))


def words(delta: str, response: str = "resp_1", item: str = "item_1") -> bytes:
    return told("response.output_audio_transcript.delta", delta=delta, **_place(response, item))


def _place(response: str, item: str) -> dict[str, Any]:
    return {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}


def call(call_id: str, name: str, arguments: str, **fields: Any) -> dict[str, Any]:
    """An item."""
    return {
        "type": "function_call",
        "id": f"item_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    } | fields


def item_done(item: dict[str, Any], response: str = "resp_1") -> bytes:
    return told("response.output_item.done", response_id=response, output_index=0, item=item)


def done(response: str = "resp_1", status: str = "completed", **fields: Any) -> bytes:
    return told("response.done", response={"id": response, "status": status, **fields})
