"""The messages to Gemini Live: a session's set-up for the SDK's `connect`, and the conversation as contents."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable
from typing import Any

import msgspec

from ...agents.engine import EngineConfig
from ...agents.tool import ToolSpec
from ..context import Message
from .models import DEFAULT_VOICE, GEMINI_IMAGE_TYPES, LiveFamily
from .options import GeminiLiveOptions
from .schema import openapi


def connect_config(
    config: EngineConfig, options: GeminiLiveOptions, family: LiveFamily, handle: str = ""
) -> dict[str, Any]:
    """Return a `LiveConnectConfig` as a dict. It asks for handles, and resumes the session of a `handle`."""
    speech: dict[str, Any] = {
        "voice_config": {"prebuilt_voice_config": {"voice_name": config.voice or DEFAULT_VOICE}},
        "language_code": options.spoken_language,
    }
    set_up: dict[str, Any] = {
        "response_modalities": ["AUDIO"],
        "speech_config": _given(speech),
        "system_instruction": config.prompt or None,
        "tools": tools(config.tools, options, family) or None,
        "session_resumption": {"handle": handle} if handle else {},
        "input_audio_transcription": {} if options.input_transcription else None,
        "output_audio_transcription": {} if options.output_transcription else None,
        "realtime_input_config": _realtime_input(options),
        "context_window_compression": _compression(options),
        "thinking_config": _thinking(options, family),
        "proactivity": None if options.proactive_audio is None else {"proactive_audio": options.proactive_audio},
        "enable_affective_dialog": options.enable_affective_dialog,
        "media_resolution": options.media_resolution and f"MEDIA_RESOLUTION_{options.media_resolution}",
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "max_output_tokens": options.max_output_tokens,
        "seed": options.seed,
    }
    if family.seed == "history_config" and not handle:
        set_up["history_config"] = {"initial_history_in_client_content": True}
    return _given(set_up)


def tools(specs: Iterable[ToolSpec], options: GeminiLiveOptions, family: LiveFamily) -> list[dict[str, Any]]:
    """Return the built-in tools and the functions, in the form that the SDK and the wire share."""
    declarations = [_declaration(spec, options, family) for spec in specs]
    found: list[dict[str, Any]] = [{"googleSearch": {}}] if options.google_search else []
    return [*found, {"functionDeclarations": declarations}] if declarations else found


def _declaration(spec: ToolSpec, options: GeminiLiveOptions, family: LiveFamily) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": spec.name, "description": spec.description or None}
    if spec.parameters.get("properties"):
        if family.json_schema:
            declaration["parametersJsonSchema"] = spec.parameters
        else:
            declaration["parameters"] = openapi(spec.parameters)
    return _given({**declaration, "behavior": options.tool_behavior})


def _realtime_input(options: GeminiLiveOptions) -> dict[str, Any] | None:
    if options.turn_detection is None:
        detection: dict[str, Any] = {"disabled": True}
        handling = "NO_INTERRUPTION" if options.uninterruptible else "START_OF_ACTIVITY_INTERRUPTS"
    else:
        detection = {
            "start_of_speech_sensitivity": _sensitivity("START", options.start_of_speech_sensitivity),
            "end_of_speech_sensitivity": _sensitivity("END", options.end_of_speech_sensitivity),
            "prefix_padding_ms": options.prefix_padding_ms,
            "silence_duration_ms": options.silence_duration_ms,
        }
        handling = "NO_INTERRUPTION" if options.uninterruptible else options.activity_handling or ""
    return (
        _given(
            {
                "automatic_activity_detection": _given(detection) or None,
                "activity_handling": handling or None,
                "turn_coverage": options.turn_coverage,
            }
        )
        or None
    )


def _sensitivity(which: str, level: str | None) -> str | None:
    return None if level in (None, "MEDIUM") else f"{which}_SENSITIVITY_{level}"


def _compression(options: GeminiLiveOptions) -> dict[str, Any] | None:
    if not options.context_window_compression:
        return None
    window = _given({"target_tokens": options.target_tokens})
    return _given({"trigger_tokens": options.trigger_tokens, "sliding_window": window})


def _thinking(options: GeminiLiveOptions, family: LiveFamily) -> dict[str, Any] | None:
    if options.thinking_budget is not None:
        return {"thinking_budget": options.thinking_budget}
    level = options.thinking_level or family.thinking_level
    return {"thinking_level": level} if level else None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def turns_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as contents, in which user and model alternate."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        for part in _parts(message):
            if not turns or turns[-1]["role"] != role:
                turns.append({"role": role, "parts": []})
            parts = turns[-1]["parts"]
            if parts and "text" in part and "text" in parts[-1]:
                parts[-1] = {"text": f"{parts[-1]['text']}\n{part['text']}"}
            else:
                parts.append(part)
    return turns


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "system":
        return [{"text": bracketed(message.text)}]
    if message.role == "tool":
        return [{"text": bracketed(f"Result of {message.name}: {message.text}")}]
    parts: list[dict[str, Any]] = []
    if message.image and message.mime in GEMINI_IMAGE_TYPES:
        parts.append({"inline_data": blob(message.image, message.mime)})
    elif message.image or message.url:
        parts.append({"text": bracketed(f"An image: {message.url[:200] or message.mime}")})
    if message.text:
        parts.append({"text": message.text})
    parts.extend({"text": bracketed(f"Called {call.name} with {to_json(call.arguments)}")} for call in message.calls)
    return parts


def bracketed(text: str) -> str:
    """Return a text that neither side has spoken, in brackets."""
    return f"[{text}]"


def turn(role: str, text: str) -> dict[str, Any]:
    """Return a text of one side as a content."""
    return {"role": role, "parts": [{"text": text}]}


def blob(data: bytes, mime: str) -> dict[str, str]:
    """Return bytes in the form of the wire: base64 and a MIME type."""
    return {"data": b2a_base64(data, newline=False).decode("ascii"), "mime_type": mime}


def to_json(message: Any) -> str:
    """Return a message as JSON."""
    return msgspec.json.encode(message).decode()
