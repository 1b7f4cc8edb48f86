"""The session object of OpenAI's Realtime API on the server: its defaults, and the changes that an update may make."""

from __future__ import annotations

import copy
from typing import Any

from .audio import FORMAT_RATES
from .events import SessionChange, given, read_object, read_tools
from .refusal import Refusal

OPENAI_VOICES = frozenset({"alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse"})
TURN_DETECTION: dict[str, dict[str, Any]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}


def default_session(session_id: str, model: str, *, voice: str, instructions: str, expires_at: int) -> dict[str, Any]:
    """Return the session object of a new session."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": instructions,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": dict(TURN_DETECTION["server_vad"]),
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": voice, "speed": 1.0},
        },
    }


def updated(
    session: dict[str, Any],
    change: Any,
    *,
    voices: frozenset[str] | None,
    voice_fixed: bool,
    passed_over: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return the session object with a change applied. Settings that are omitted or null stay.

    Unknown settings are kept unchanged. `voices` None allows any voice. `voice_fixed` is True once the model has
    spoken. Changes of the settings in `passed_over` ("instructions", "voice", "model") are ignored. Raises Refusal for
    a change that is not valid.
    """
    wanted = given(read_object(change, SessionChange, "session"))
    if "model" not in passed_over and wanted.get("model", session["model"]) != session["model"]:
        raise Refusal("invalid_value", "The model of a session cannot be changed.", "session.model")
    if "tools" in wanted:
        wanted["tools"] = read_tools(wanted["tools"], "session.tools")
    new = copy.deepcopy(session)
    own = {"audio", "id", "object", "expires_at", "model", *passed_over}
    unknown = {
        name: copy.deepcopy(value)
        for name, value in change.items()
        if value is not None and name not in SessionChange.__struct_fields__
    }
    new.update({name: value for name, value in {**unknown, **wanted}.items() if name not in own})
    audio = wanted.get("audio", {})
    _merge_input(new["audio"]["input"], audio.get("input", {}))
    output = {name: value for name, value in audio.get("output", {}).items() if name not in passed_over}
    _merge_output(new["audio"]["output"], output, "session.audio.output", voices, voice_fixed)
    return new


def response_settings(
    session: dict[str, Any], asked: dict[str, Any], *, voices: frozenset[str] | None, voice_fixed: bool
) -> dict[str, Any]:
    """Return the settings of one response: those of the session, overridden by its request. Raises Refusal.

    `asked` has the fields that were given.
    """
    names = ("output_modalities", "instructions", "tools", "tool_choice", "max_output_tokens")
    settings = {name: copy.deepcopy(asked.get(name, session[name])) for name in names}
    output = copy.deepcopy(session["audio"]["output"])
    change = asked.get("audio", {}).get("output", {})
    _merge_output(output, change, "response.audio.output", voices, voice_fixed)
    settings["audio"] = {"output": output}
    return settings


def _merge_input(settings: dict[str, Any], change: dict[str, Any]) -> None:
    settings.update(change)
    settings["format"] = _checked_format(settings["format"], "session.audio.input.format")
    if (turns := change.get("turn_detection")) is not None:
        known = TURN_DETECTION[turns["type"]]
        settings["turn_detection"] = {**known, **{name: value for name, value in turns.items() if name in known}}


def _merge_output(
    settings: dict[str, Any], change: dict[str, Any], where: str, voices: frozenset[str] | None, voice_fixed: bool
) -> None:
    before = settings["voice"]
    settings.update(change)
    settings["format"] = _checked_format(settings["format"], f"{where}.format")
    voice = settings["voice"]
    if voice != before:
        if isinstance(voice, str) and voices is not None and voice not in voices:
            raise _invalid(f"{where}.voice", voice, sorted(voices))
        if voice_fixed:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Refusal("cannot_update_voice", message, f"{where}.voice")


def _checked_format(value: dict[str, Any], where: str) -> dict[str, Any]:
    kind, rate = value["type"], FORMAT_RATES[value["type"]]
    if value.get("rate", rate) != rate:
        raise _invalid(f"{where}.rate", value["rate"], (rate,))
    return {"type": kind, "rate": rate} if kind == "audio/pcm" else {"type": kind}


def _invalid(where: str, value: Any, supported: Any) -> Refusal:
    values = ", ".join(repr(one) for one in supported)
    return Refusal("invalid_value", f"Invalid value for '{where}': {value!r}. Supported values are: {values}.", where)
