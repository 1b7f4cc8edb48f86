"""The session object of OpenAI's Realtime API on the server: its defaults, and the changes that an update may make."""

from __future__ import annotations

import copy
from typing import Any

from ...errors import BadInput
from .audio import FORMAT_RATES

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


class Refusal(BadInput):
    """A client's event cannot be carried out. `code` and `param` are those of the `error` event."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


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
    """Return the session object with a change applied. Omitted settings stay; unknown ones are kept unchanged.

    `voices` None allows any voice. `voice_fixed` is True once the model has spoken. Changes of the settings in
    `passed_over` ("instructions", "voice", "model") are ignored. Raises Refusal for a change that is not valid.
    """
    change = _require_object(change, "session")
    kind = _require(change, "type", "session")
    if kind != "realtime":
        raise _invalid("session.type", kind, ("realtime",))
    if "model" not in passed_over and change.get("model") not in (None, session["model"]):
        raise Refusal("invalid_value", "The model of a session cannot be changed.", "session.model")
    new = copy.deepcopy(session)
    kept = {"audio", "id", "object", "expires_at", "model", *passed_over}
    new.update(copy.deepcopy({key: value for key, value in change.items() if key not in kept}))
    audio = _require_object(change.get("audio") or {}, "session.audio")
    _merge_input(new["audio"]["input"], _require_object(audio.get("input") or {}, "session.audio.input"))
    output = _require_object(audio.get("output") or {}, "session.audio.output")
    output = {key: value for key, value in output.items() if key not in passed_over}
    _merge_output(new["audio"]["output"], output, "session.audio.output", voices, voice_fixed)
    _check_settings(new, "session")
    return new


def response_settings(
    session: dict[str, Any], asked: dict[str, Any], *, voices: frozenset[str] | None, voice_fixed: bool
) -> dict[str, Any]:
    """Return the settings of one response: those of the session, overridden by its request. Raises Refusal."""
    names = ("output_modalities", "instructions", "tools", "tool_choice", "max_output_tokens")
    settings = {name: copy.deepcopy(asked.get(name, session[name])) for name in names}
    output = copy.deepcopy(session["audio"]["output"])
    change = _require_object(
        _require_object(asked.get("audio") or {}, "response.audio").get("output") or {}, "response.audio.output"
    )
    _merge_output(output, change, "response.audio.output", voices, voice_fixed)
    settings["audio"] = {"output": output}
    _check_settings(settings, "response")
    return settings


def _merge_input(settings: dict[str, Any], change: dict[str, Any]) -> None:
    settings.update(copy.deepcopy(change))
    settings["format"] = _checked_format(settings["format"], "session.audio.input.format")
    if change.get("turn_detection") is not None:
        where = "session.audio.input.turn_detection"
        turns = _require_object(change["turn_detection"], where)
        kind = turns.get("type")
        if kind not in TURN_DETECTION:
            raise _invalid(f"{where}.type", kind, TURN_DETECTION)
        settings["turn_detection"] = {**TURN_DETECTION[kind], **turns}
        for name, high in (("prefix_padding_ms", 60_000), ("silence_duration_ms", 60_000), ("threshold", 1)):
            if name in turns and not _is_number(turns[name], 0, high):
                raise _invalid(f"{where}.{name}", turns[name], (f"0 to {high}",))
        if turns.get("eagerness", "auto") not in ("low", "medium", "high", "auto"):
            raise _invalid(f"{where}.eagerness", turns["eagerness"], ("low", "medium", "high", "auto"))
    for name in ("transcription", "noise_reduction"):
        if settings[name] is not None:
            _require_object(settings[name], f"session.audio.input.{name}")


def _merge_output(
    settings: dict[str, Any], change: dict[str, Any], where: str, voices: frozenset[str] | None, voice_fixed: bool
) -> None:
    before = settings["voice"]
    settings.update({key: copy.deepcopy(value) for key, value in change.items() if value is not None})
    settings["format"] = _checked_format(settings["format"], f"{where}.format")
    voice = settings["voice"]
    if voice != before:
        if isinstance(voice, str) and voices is not None and voice not in voices:
            raise _invalid(f"{where}.voice", voice, sorted(voices))
        if not isinstance(voice, str | dict):
            raise Refusal("invalid_type", f"Invalid type for '{where}.voice'.", f"{where}.voice")
        if voice_fixed:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Refusal("cannot_update_voice", message, f"{where}.voice")
    if not _is_number(settings["speed"], 0.25, 1.5):
        raise _invalid(f"{where}.speed", settings["speed"], ("0.25 to 1.5",))


def _check_settings(settings: dict[str, Any], where: str) -> None:
    if settings["output_modalities"] not in (["audio"], ["text"]):
        raise _invalid(f"{where}.output_modalities", settings["output_modalities"], (["audio"], ["text"]))
    if not isinstance(settings["instructions"], str):
        raise Refusal("invalid_type", f"'{where}.instructions' must be a string.", f"{where}.instructions")
    limit = settings["max_output_tokens"]
    if limit != "inf" and not (type(limit) is int and 1 <= limit <= 4096):
        raise _invalid(f"{where}.max_output_tokens", limit, ("inf", "1 to 4096"))
    if not isinstance(settings["tools"], list):
        raise Refusal("invalid_type", f"'{where}.tools' must be a list.", f"{where}.tools")
    for place, tool in enumerate(settings["tools"]):
        here = f"{where}.tools[{place}]"
        kind = _require(_require_object(tool, here), "type", here)
        if kind not in ("function", "mcp"):
            raise _invalid(f"{here}.type", kind, ("function", "mcp"))
        if kind == "function" and not isinstance(_require(tool, "name", here), str):
            raise Refusal("invalid_type", f"'{here}.name' must be a string.", f"{here}.name")


def _checked_format(value: Any, where: str) -> dict[str, Any]:
    kind = _require_object(value, where).get("type")
    if kind not in FORMAT_RATES:
        raise _invalid(f"{where}.type", kind, FORMAT_RATES)
    if kind != "audio/pcm":
        return {"type": kind}
    if value.get("rate", 24_000) != 24_000:
        raise _invalid(f"{where}.rate", value["rate"], (24_000,))
    return {"type": kind, "rate": 24_000}


def _require_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal("invalid_type", f"Invalid type for '{where}': expected an object.", where)
    return value


def _require(fields: dict[str, Any], name: str, where: str) -> Any:
    if not fields.get(name):
        message = f"Missing required parameter: '{where}.{name}'."
        raise Refusal("missing_required_parameter", message, f"{where}.{name}")
    return fields[name]


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _invalid(where: str, value: Any, supported: Any) -> Refusal:
    values = ", ".join(repr(one) for one in supported)
    return Refusal("invalid_value", f"Invalid value for '{where}': {value!r}. Supported values are: {values}.", where)
