"""The set-up of a Gemini Live session for the SDK's `connect`.

Tools of older models are described by the subset of OpenAPI 3.0 that Gemini's `Schema` knows. The SDK's own
`types.Schema.from_json_schema` (google-genai 3.6) refuses `const` and `exclusiveMinimum`, and drops the choices of
`oneOf`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...agents.engine import EngineConfig
from ...agents.tool import ToolSpec
from .options import DEFAULT_VOICE, GeminiLiveOptions, LiveFamily


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
        "speech_config": _without_none(speech),
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
    return _without_none(set_up)


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
    return _without_none({**declaration, "behavior": options.tool_behavior})


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
        _without_none(
            {
                "automatic_activity_detection": _without_none(detection) or None,
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
    window = _without_none({"target_tokens": options.target_tokens})
    return _without_none({"trigger_tokens": options.trigger_tokens, "sliding_window": window})


def _thinking(options: GeminiLiveOptions, family: LiveFamily) -> dict[str, Any] | None:
    if options.thinking_budget is not None:
        return {"thinking_budget": options.thinking_budget}
    level = options.thinking_level or family.thinking_level
    return {"thinking_level": level} if level else None


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


_KEYWORDS = """
    description title format default nullable pattern minimum maximum minLength maxLength minItems maxItems
    minProperties maxProperties required
"""
_KEPT_KEYWORDS = frozenset(_KEYWORDS.split())


def openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in OpenAPI's terms.

    References are replaced by their targets, and keywords that OpenAPI lacks are left out. A schema inside itself
    becomes any object.
    """
    return _converted(schema, schema.get("$defs", {}), frozenset())


def _converted(schema: Any, definitions: dict[str, Any], inside: frozenset[str]) -> dict[str, Any]:
    """Convert one schema. `inside` has the references whose targets contain it."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        if reference in inside:
            return {"type": "OBJECT"}
        target = _converted(definitions.get(reference.rpartition("/")[2]), definitions, inside | {reference})
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**target, **_converted(rest, definitions, inside)}
    found = {name: value for name, value in schema.items() if name in _KEPT_KEYWORDS}
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if values and all(isinstance(value, str) for value in values):
        found["enum"] = values
    kinds = schema.get("type", [])
    kinds = [{"type": kind} for kind in (kinds if isinstance(kinds, list) else [kinds])]
    either = schema.get("anyOf", schema.get("oneOf", kinds if len(kinds) > 1 else []))
    if len(kinds) == 1:
        found["type"] = str(kinds[0]["type"]).upper()
    if either:
        real = [_converted(part, definitions, inside) for part in either if part != {"type": "null"}]
        if len(real) < len(either):
            found["nullable"] = True
        found.update(real[0] if len(real) == 1 else {"anyOf": real})
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {name: _converted(part, definitions, inside) for name, part in properties.items()}
    if "items" in schema:
        found["items"] = _converted(schema["items"], definitions, inside)
    return found
