"""The `session` object of a `session.update`: a configuration as OpenAI Realtime takes it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...agents.engine import EngineConfig
from .models import DEFAULT_VOICE, SAMPLE_RATE
from .options import InputTranscription, OpenAIRealtimeOptions


def session_settings(
    config: EngineConfig, options: OpenAIRealtimeOptions, default_voice: str = DEFAULT_VOICE
) -> dict[str, Any]:
    """Return every setting of a session, except those that are left to the model.

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
    """Return the `session` that turns the old settings into the new ones, None if only a new session can.

    The detection of turns, tracing once it is on, and the voice once the model has `spoken` are fixed; and a setting
    cannot be returned to the model's default.
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
