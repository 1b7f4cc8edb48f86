"""Gemini's wire as the official SDK knows it: what we send must be what it sends, what we read what it reads."""

from __future__ import annotations

import base64
import json
from typing import Any

from google import genai
from google.genai import _common, _live_converters, types
from google.genai.live import _t_live_connect_config

from duologue.agents.engine import EngineConfig
from duologue.services.google.dialect import GeminiDialect
from duologue.services.google.options import GeminiLiveOptions, live_family
from duologue.services.native.dialect import Event

FAMILY_MODELS = (
    "gemini-2.5-flash-native-audio-preview-12-2025",
    "gemini-3.1-flash-live-preview",
    "gemini-3.8-live",
    "gemini-3.8-live-extended-thinking",
)


def dialect(
    model: str = "gemini-3.8-live", *, resumed: bool = False, config: EngineConfig | None = None, **options: Any
) -> GeminiDialect:
    return GeminiDialect(
        config or EngineConfig(),
        GeminiLiveOptions(**options),
        live_family(model),
        resumed=resumed,
        model=model,
        service="GeminiLive",
    )


def read(into: GeminiDialect, **message: Any) -> list[Event]:
    """The events of a frame. The SDK must know the frame too, and every field of it."""
    types.LiveServerMessage.model_validate(message)
    return into.read(json.dumps(message).encode())


def content(into: GeminiDialect, **fields: Any) -> list[Event]:
    return read(into, serverContent=fields)


def audio(pcm: bytes) -> dict[str, Any]:
    """A part with speech."""
    return {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(pcm).decode()}}


def speech(*pcm: bytes) -> dict[str, Any]:
    """A `modelTurn` with speech."""
    return {"role": "model", "parts": [audio(piece) for piece in pcm]}


def sent(messages: list[str]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages]


async def setup_of(config: dict[str, Any], model: str = "gemini-3.8-live") -> dict[str, Any]:
    """The message that the SDK makes of a configuration."""
    client = genai.Client(api_key="k", vertexai=False)
    try:
        given = await _t_live_connect_config(client._api_client, types.LiveConnectConfig(**config))
        parameters = types.LiveConnectParameters(model=f"models/{model}", config=given)
        message = _live_converters._LiveConnectParameters_to_mldev(
            api_client=client._api_client, from_object=parameters.model_dump(exclude_none=True)
        )
        plain: Any = _common.encode_unserializable_types(_common.convert_to_dict(message))
        setup: dict[str, Any] = plain["setup"]
        return setup
    finally:
        await client.aio.aclose()
        client.close()


async def context_update_of(instructions: str | None, tools: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The message that the SDK makes of an update in mid-session."""
    client = genai.Client(api_key="k", vertexai=False)
    try:
        update = types.LiveClientContextUpdate(
            system_instruction=instructions,
            tools=None if tools is None else types.LiveClientContextUpdateTools(tools=tools),  # type: ignore[arg-type]
        )
        message = _live_converters._LiveClientMessage_to_mldev(
            client._api_client, types.LiveClientMessage(context_update=update)
        )
        whole: dict[str, Any] = _common.encode_unserializable_types(_common.convert_to_dict(message))
        return whole
    finally:
        await client.aio.aclose()
        client.close()
