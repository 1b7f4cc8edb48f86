"""The messages to OpenAI Realtime: the `session` of a `session.update`, and the conversation as items."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ...agents.engine import EngineConfig
from ..context import Message
from .models import DEFAULT_VOICE, SAMPLE_RATE
from .options import InputTranscription, OpenAIRealtimeOptions


def session_settings(
    config: EngineConfig, options: OpenAIRealtimeOptions, default_voice: str = DEFAULT_VOICE
) -> dict[str, Any]:
    """Return all settings of a session except those that are left to the model.

    `default_voice` is for agents without a voice of their own.
    """
    plain = msgspec.to_builtins(options)
    voice = config.voice or default_voice
    settings: dict[str, Any] = {
        "type": "realtime",
        "instructions": config.prompt,
        "output_modalities": plain["output_modalities"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
                "noise_reduction": {"type": options.noise_reduction} if options.noise_reduction else None,
                "transcription": _transcription(options.transcription, config.language),
                "turn_detection": plain["turn_detection"],
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
                "voice": {"id": voice} if voice.startswith("voice_") else voice,
                "speed": options.speed,
            },
        },
        "tools": [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in config.tools
        ],
        "tool_choice": plain["tool_choice"],
        "max_output_tokens": options.max_output_tokens,
        "truncation": plain["truncation"],
    }
    if options.reasoning is not None:
        settings["reasoning"] = {"effort": options.reasoning}
    if options.parallel_tool_calls is not None:
        settings["parallel_tool_calls"] = options.parallel_tool_calls
    if options.tracing is not None:
        settings["tracing"] = plain["tracing"]
    return settings


def detects_turns(settings: dict[str, Any]) -> bool:
    """Return True if the provider finds the caller's turns."""
    return settings["audio"]["input"]["turn_detection"] is not None


def changed_settings(old: dict[str, Any], new: dict[str, Any], *, spoken: bool) -> dict[str, Any] | None:
    """Return the `session` of an update from the old settings to the new, None if they need a new session.

    Turn detection, tracing once it is on, and the voice once the model has `spoken` cannot change. A setting cannot
    return to the model's default.
    """
    if detects_turns(old) != detects_turns(new) or _unsets(old, new):
        return None
    if "tracing" in old and old["tracing"] != new["tracing"]:
        return None
    change = {name: value for name, value in new.items() if name != "tracing" or name not in old}
    before, output = old["audio"]["output"], dict(new["audio"]["output"])
    if spoken and output.pop("voice") != before["voice"]:
        return None
    if output["speed"] == before["speed"]:
        del output["speed"]  # the provider refuses it while the model speaks
    change["audio"] = {**new["audio"], "output": output}
    return change


def _unsets(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return True if `new` lacks a setting of `old`: an update keeps the settings that it does not mention."""
    if old.get("type") != new.get("type"):
        return False
    return bool(old.keys() - new.keys()) or any(
        isinstance(value, dict) and isinstance(new[name], dict) and _unsets(value, new[name])
        for name, value in old.items()
        if name != "tracing"
    )


def _transcription(transcription: InputTranscription | None, agent_language: str) -> dict[str, Any] | None:
    if transcription is None:
        return None
    settings: dict[str, Any] = {"model": transcription.model}
    code = agent_language.lower().partition("-")[0]
    if language := transcription.language or (code if re.fullmatch("[a-z]{2}", code) else ""):
        settings["language"] = language
    if transcription.prompt:
        settings["prompt"] = transcription.prompt
    if transcription.keywords:
        settings["keywords"] = list(transcription.keywords)
    return settings


def to_json(message: Any) -> str:
    """Return a message as JSON."""
    return msgspec.json.encode(message).decode()


def create_item(fields: dict[str, Any]) -> str:
    """Return the message that appends an item to the conversation."""
    return to_json({"type": "conversation.item.create", "item": fields})


def create_message(role: str, content: list[dict[str, Any]]) -> str:
    """Return the message that appends a text or an image of one side."""
    return create_item({"type": "message", "role": role, "content": content})


def create_result(call_id: str, result: Any) -> str:
    """Return the message that appends a tool's result: a string unchanged, other values as JSON."""
    output = result if isinstance(result, str) else to_json(result)
    return create_item({"type": "function_call_output", "call_id": call_id, "output": output})


def image_content(data: bytes, mime: str, url: str) -> dict[str, Any]:
    """Return an image as content of a message: its url, or its bytes if it has none."""
    return {"type": "input_image", "image_url": url or f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def history_items(messages: Sequence[Message]) -> list[str]:
    """Return the messages that replay a conversation, without calls that lack a result and results of unknown calls."""
    asked = {call.call_id for message in messages for call in message.calls}
    answered = {message.call_id for message in messages if message.role == "tool"}
    out: list[str] = []
    for message in messages:
        if message.role == "tool":
            if message.call_id in asked:
                out.append(create_result(message.call_id, message.text))
            continue
        if content := _content(message):
            out.append(create_message(message.role, content))
        out.extend(
            create_item(
                {
                    "type": "function_call",
                    "call_id": call.call_id,
                    "name": call.name,
                    "arguments": to_json(call.arguments),
                }
            )
            for call in message.calls
            if call.call_id in answered
        )
    return out


def _content(message: Message) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if message.text:
        content.append({"type": "output_text" if message.role == "assistant" else "input_text", "text": message.text})
    if message.role == "user" and (message.image or message.url):
        content.append(image_content(message.image, message.mime or "image/jpeg", message.url))
    return content
