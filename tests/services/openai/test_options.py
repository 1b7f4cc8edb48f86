from __future__ import annotations

from typing import Any

import pytest

from duologue.agents.engine import EngineConfig
from duologue.agents.tool import ToolSpec
from duologue.errors import ConfigurationError
from duologue.services.openai import (
    FunctionChoice,
    InputTranscription,
    OpenAIRealtimeOptions,
    RetentionRatio,
    SemanticVad,
    ServerVad,
    TokenLimits,
    Tracing,
)
from duologue.services.openai.options import check, resolved
from tests.services.openai.wire import opened, sent

WEATHER = ToolSpec(name="weather", description="Tells the weather.")
KNOWN_OTHERS = [
    "gpt-realtime",
    "gpt-realtime-1.5",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-12-15",
    "gpt-audio-mini",
    "gpt-4o-mini-realtime-preview-2024-12-17",
]
FAMILY_2 = ["gpt-realtime-2", "gpt-realtime-2.1", "gpt-realtime-2.1-mini", "gpt-realtime-2.2-2026-08-28"]


def session_of(config: EngineConfig, options: OpenAIRealtimeOptions) -> dict[str, Any]:
    dialect = opened(config, options)
    (message,) = dialect.setup()
    session: dict[str, Any] = sent(message)["session"]
    return session


def test_the_defaults_are_set_in_full() -> None:
    session = session_of(EngineConfig(instructions="Be brief.", tools=(WEATHER,)), OpenAIRealtimeOptions())
    assert session == {
        "type": "realtime",
        "instructions": "Be brief.",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": {"model": "gpt-transcribe"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "silence_duration_ms": 500,
                    "prefix_padding_ms": 300,
                    "create_response": True,
                    "interrupt_response": True,
                    "idle_timeout_ms": None,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
        },
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": {"type": "object", "properties": {}},
            }
        ],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
    }


def test_every_option_reaches_the_wire() -> None:
    options = OpenAIRealtimeOptions(
        turn_detection=SemanticVad(eagerness="low", create_response=False, interrupt_response=False),
        transcription=InputTranscription(
            model="gpt-live-transcribe", language="en", prompt="Names.", keywords=("Duologue",)
        ),
        noise_reduction="far_field",
        speed=1.25,
        output_modalities=("text",),
        max_output_tokens=512,
        reasoning="low",
        parallel_tool_calls=False,
        tool_choice=FunctionChoice(name="weather"),
        truncation=RetentionRatio(retention_ratio=0.8, token_limits=TokenLimits(post_instructions=5000)),
        tracing=Tracing(workflow_name="calls", metadata={"n": 1}),
    )
    session = session_of(EngineConfig(voice="voice_123", language="de-DE", tools=(WEATHER,)), options)
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "noise_reduction": {"type": "far_field"},
        "transcription": {
            "model": "gpt-live-transcribe",
            "language": "en",
            "prompt": "Names.",
            "keywords": ["Duologue"],
        },
        "turn_detection": {
            "type": "semantic_vad",
            "eagerness": "low",
            "create_response": False,
            "interrupt_response": False,
        },
    }
    assert session["audio"]["output"]["voice"] == {"id": "voice_123"}
    assert session["audio"]["output"]["speed"] == 1.25
    assert session["output_modalities"] == ["text"]
    assert session["max_output_tokens"] == 512
    assert session["reasoning"] == {"effort": "low"}
    assert session["parallel_tool_calls"] is False
    assert session["tool_choice"] == {"type": "function", "name": "weather"}
    assert session["truncation"] == {
        "type": "retention_ratio",
        "retention_ratio": 0.8,
        "token_limits": {"post_instructions": 5000},
    }
    assert session["tracing"] == {"workflow_name": "calls", "metadata": {"n": 1}}
    assert session["instructions"] == "Language: Always respond in de-DE"


@pytest.mark.parametrize(
    ("language", "code"), [("de", "de"), ("pt-BR", "pt"), ("German", None), ("", None), ("EN", "en")]
)
def test_the_agents_language_is_the_transcriptions_if_it_is_a_code(language: str, code: str | None) -> None:
    session = session_of(EngineConfig(language=language), OpenAIRealtimeOptions())
    assert session["audio"]["input"]["transcription"].get("language") == code


def test_what_is_off_is_said_to_be_off() -> None:
    session = session_of(EngineConfig(), OpenAIRealtimeOptions(turn_detection=None, transcription=None))
    assert session["audio"]["input"]["turn_detection"] is None
    assert session["audio"]["input"]["transcription"] is None


def test_options_change_in_mid_call_and_the_others_stay() -> None:
    options = OpenAIRealtimeOptions(speed=1.2, turn_detection=SemanticVad(eagerness="high"))
    changed = resolved(options, {"turn_detection": {"type": "server_vad", "threshold": 0.7}, "max_output_tokens": 100})
    assert changed.turn_detection == ServerVad(threshold=0.7)
    assert (changed.speed, changed.max_output_tokens) == (1.2, 100)
    assert resolved(options, {"turn_detection": ServerVad(threshold=0.7)}).turn_detection == ServerVad(threshold=0.7)
    assert resolved(options, {"turn_detection": None}).turn_detection is None
    assert resolved(options, {}) == options


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"speed": 2.0}, "speed"),
        ({"speed": 0.1}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"temperature": 0.8}, "temperature"),
        ({"max_output_tokens": 5000}, "max_output_tokens"),
        ({"max_output_tokens": "all"}, "max_output_tokens"),
        ({"output_modalities": ["audio", "text"]}, "output_modalities"),
        ({"output_modalities": ["video"]}, "output_modalities"),
        ({"noise_reduction": "off"}, "noise_reduction"),
        ({"reasoning": "huge"}, "reasoning"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"truncation": {"type": "retention_ratio", "retention_ratio": 2}}, "truncation.retention_ratio"),
        ({"tracing": "on"}, "tracing"),
        ({"turn_detection": {"type": "server_vad", "threshold": 1.5}}, "turn_detection.threshold"),
        ({"turn_detection": {"type": "server_vad", "silence_duration_ms": -1}}, "turn_detection.silence_duration_ms"),
        ({"turn_detection": {"type": "server_vad", "idle_timeout_ms": 10}}, "turn_detection.idle_timeout_ms"),
        ({"turn_detection": {"type": "semantic_vad", "eagerness": "eager"}}, "turn_detection.eagerness"),
        ({"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}, "turn_detection"),
        ({"turn_detection": {"type": "energy"}}, "turn_detection.type"),
        ({"transcription": {"model": ""}}, "transcription.model"),
        ({"transcription": {"language": "English"}}, "transcription.language"),
        ({"transcription": "gpt-transcribe"}, "transcription"),
        ({"speed": object()}, "options"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_by_its_name(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name.replace(".", r"\.")):
        resolved(OpenAIRealtimeOptions(), changes)


def test_options_that_were_made_wrongly_are_refused_too() -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        resolved(OpenAIRealtimeOptions(speed=9), {})


@pytest.mark.parametrize("model", KNOWN_OTHERS)
@pytest.mark.parametrize("changes", [{"reasoning": "low"}, {"parallel_tool_calls": True}])
def test_only_the_family_2_reasons(model: str, changes: dict[str, Any]) -> None:
    options = resolved(OpenAIRealtimeOptions(), changes)
    (name,) = changes
    with pytest.raises(ConfigurationError, match=f"{name}: {model}"):
        check(model, EngineConfig(), options)
    check(model, EngineConfig(), OpenAIRealtimeOptions())


@pytest.mark.parametrize("model", [*FAMILY_2, "gpt-realtime-3", "my-own-model"])
def test_the_family_2_and_unknown_models_take_everything(model: str) -> None:
    check(model, EngineConfig(), OpenAIRealtimeOptions(reasoning="low", parallel_tool_calls=True))


@pytest.mark.parametrize("voice", ["", "marin", "cedar", "voice_abc"])
def test_known_and_own_voices(voice: str) -> None:
    check("gpt-realtime-2.1", EngineConfig(voice=voice), OpenAIRealtimeOptions())


def test_an_unknown_voice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'nova'.*alloy.*marin"):
        check("gpt-realtime-2.1", EngineConfig(voice="nova"), OpenAIRealtimeOptions())


@pytest.mark.parametrize("name", ["", "look up", "wetter_für", "a" * 65])
def test_a_tool_name_that_the_provider_refuses(name: str) -> None:
    with pytest.raises(ConfigurationError, match="tool name"):
        check("gpt-realtime-2.1", EngineConfig(tools=(ToolSpec(name=name),)), OpenAIRealtimeOptions())


def test_a_forced_tool_must_be_there() -> None:
    options = OpenAIRealtimeOptions(tool_choice=FunctionChoice(name="weather"))
    with pytest.raises(ConfigurationError, match=r"tool_choice.*'weather'"):
        check("gpt-realtime-2.1", EngineConfig(), options)
    check("gpt-realtime-2.1", EngineConfig(tools=(WEATHER,)), options)


@pytest.mark.parametrize(
    ("transcription", "name"),
    [
        (InputTranscription(model="whisper-1", keywords=("x",)), "keywords"),
        (InputTranscription(model="gpt-4o-transcribe", keywords=("x",)), "keywords"),
        (InputTranscription(model="gpt-realtime-whisper", prompt="x"), "prompt"),
    ],
)
def test_what_a_transcription_model_does_not_have(transcription: InputTranscription, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        check("gpt-realtime-2.1", EngineConfig(), OpenAIRealtimeOptions(transcription=transcription))
