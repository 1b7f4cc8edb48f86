"""Options, model families, and the set-up that comes of them."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from duologue.agents.engine import EngineConfig
from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ConfigurationError
from duologue.services.google.options import (
    EXTENDED_THINKING_3_8,
    FLASH_LIVE_3_1,
    GEMINI_VOICES,
    LIVE_3_8,
    NATIVE_AUDIO_2_5,
    UNKNOWN,
    GeminiLiveOptions,
    LiveFamily,
    check,
    live_family,
    resolved,
)
from duologue.services.google.setup import connect_config, openapi

from .live_api import FAMILY_MODELS, setup_of

NATIVE_2_5, FLASH_3_1, LIVE, THINKING = FAMILY_MODELS


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gemini-2.5-flash-native-audio-preview-12-2025", NATIVE_AUDIO_2_5),
        ("gemini-live-2.5-flash-native-audio", NATIVE_AUDIO_2_5),
        ("gemini-2.5-flash-preview-native-audio-dialog", NATIVE_AUDIO_2_5),
        ("models/gemini-3.1-flash-live-preview", FLASH_LIVE_3_1),
        ("gemini-3.8-live", LIVE_3_8),
        ("models/gemini-3.8-live-preview-11-2026", LIVE_3_8),
        ("gemini-3.8-live-extended-thinking", EXTENDED_THINKING_3_8),
        ("gemini-3.8-live-translate", UNKNOWN),
        ("gemini-9-live", UNKNOWN),
        ("my-own-model", UNKNOWN),
    ],
)
def test_the_family_of_a_model(model: str, family: LiveFamily) -> None:
    assert live_family(model) is family


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"temprature": 1.0}, "temprature"),
        ({"temperature": 3.0}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"seed": "x"}, "seed"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"start_of_speech_sensitivity": "VERY"}, "start_of_speech_sensitivity"),
        ({"silence_duration_ms": -1}, "silence_duration_ms"),
        ({"turn_detection": "client"}, "turn_detection"),
        ({"thinking_budget": -2}, "thinking_budget"),
        ({"thinking_level": "MAXIMAL"}, "thinking_level"),
        ({"turn_coverage": "ALL"}, "turn_coverage"),
        ({"language_code": "de-DE", "language": "en-US"}, "language_code 'de-DE'.*language 'en-US'"),
        ({"activity_handling": "NO_INTERRUPTION", "no_interruption": False}, "activity_handling.*no_interruption"),
        ({"thinking_budget": 1, "thinking_level": "LOW"}, "thinking_budget and thinking_level"),
        ({"turn_detection": None, "silence_duration_ms": 300}, "silence_duration_ms"),
        ({"trigger_tokens": 1000}, "trigger_tokens.*context_window_compression"),
        ({"context_window_compression": True, "trigger_tokens": 9, "target_tokens": 9}, "target_tokens"),
    ],
)
def test_an_option_that_is_wrong_is_named(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        resolved(GeminiLiveOptions(), overrides)


def test_options_that_are_given_as_they_stand_are_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="temperature"):
        resolved(GeminiLiveOptions(temperature=9.0), {})


def test_either_spelling_replaces_the_other() -> None:
    options = resolved(GeminiLiveOptions(language_code="de-DE", no_interruption=True), {})
    assert (options.spoken_language, options.uninterruptible) == ("de-DE", True)
    options = resolved(options, {"language": "en-US", "activity_handling": "START_OF_ACTIVITY_INTERRUPTS"})
    assert (options.spoken_language, options.uninterruptible) == ("en-US", False)
    both = resolved(GeminiLiveOptions(), {"language": "fr-FR", "language_code": "fr-FR"})
    assert both.spoken_language == "fr-FR"


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (NATIVE_2_5, {"thinking_level": "LOW"}, "thinking_level.*thinking_budget"),
        (FLASH_3_1, {"thinking_budget": 0}, "thinking_budget.*thinking_level"),
        (FLASH_3_1, {"thinking_level": "XHIGH"}, "thinking_level 'XHIGH'"),
        (FLASH_3_1, {"proactive_audio": True}, "proactive_audio"),
        (FLASH_3_1, {"enable_affective_dialog": True}, "enable_affective_dialog"),
        (FLASH_3_1, {"tool_behavior": "NON_BLOCKING"}, "tool_behavior 'NON_BLOCKING'"),
        (LIVE, {"thinking_budget": 0}, "thinking_budget"),
        (LIVE, {"thinking_level": "LOW"}, "thinking_level"),
        (LIVE, {"proactive_audio": False}, "proactive_audio"),
        (LIVE, {"enable_affective_dialog": True}, "enable_affective_dialog"),
        (THINKING, {"thinking_level": "MINIMAL"}, "thinking_level 'MINIMAL'"),
        (THINKING, {"tool_behavior": "BLOCKING"}, "tool_behavior 'BLOCKING'"),
    ],
)
def test_what_a_family_refuses_is_named_with_the_model(model: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        check(model, live_family(model), GeminiLiveOptions(**options), "", ())
    assert model in str(caught.value)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (NATIVE_2_5, {"thinking_budget": 0, "proactive_audio": True, "enable_affective_dialog": True}),
        (NATIVE_2_5, {"tool_behavior": "NON_BLOCKING"}),
        (FLASH_3_1, {"thinking_level": "MINIMAL"}),
        (LIVE, {"tool_behavior": "BLOCKING"}),
        (THINKING, {"thinking_level": "HIGH"}),
        (THINKING, {"thinking_budget": 512}),
        ("gemini-9-live", {"thinking_level": "XHIGH", "proactive_audio": True, "enable_affective_dialog": True}),
    ],
)
def test_what_a_family_takes(model: str, options: dict[str, Any]) -> None:
    check(model, live_family(model), GeminiLiveOptions(**options), "", ())


@pytest.mark.parametrize(
    ("model", "taken"), [(NATIVE_2_5, True), (FLASH_3_1, False), (LIVE, False), (THINKING, False), ("mine", True)]
)
def test_search_beside_function_tools(model: str, taken: bool) -> None:
    options, tool = GeminiLiveOptions(google_search=True), ToolSpec(name="weather")
    check(model, live_family(model), options, "", ())
    if taken:
        check(model, live_family(model), options, "", (tool,))
    else:
        with pytest.raises(ConfigurationError, match="google_search"):
            check(model, live_family(model), options, "", (tool,))


def test_voices() -> None:
    assert len(GEMINI_VOICES) == 30
    for voice in GEMINI_VOICES:
        check(LIVE, LIVE_3_8, GeminiLiveOptions(), voice, ())
    with pytest.raises(ConfigurationError, match=r"'anna'.*Puck"):
        check(LIVE, LIVE_3_8, GeminiLiveOptions(), "anna", ())
    check("gemini-9-live", UNKNOWN, GeminiLiveOptions(), "anna", ())


# -- the set-up --------------------------------------------------------------------------------------------------------

WEATHER = ToolSpec(
    name="weather",
    description="How the weather is.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


async def set_up(
    model: str = LIVE, config: EngineConfig | None = None, handle: str = "", **options: Any
) -> dict[str, Any]:
    chosen = resolved(GeminiLiveOptions(), options)
    return await setup_of(connect_config(config or EngineConfig(), chosen, live_family(model), handle), model)


async def test_a_plain_set_up() -> None:
    assert await set_up() == {
        "model": "models/gemini-3.8-live",
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "speechConfig": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Puck"}}},
        },
        "sessionResumption": {},
        "inputAudioTranscription": {},
        "outputAudioTranscription": {},
    }


async def test_everything_that_can_be_set() -> None:
    config = EngineConfig(voice="Kore", instructions="Be kind.", language="German", tools=(WEATHER,))
    setup = await set_up(
        NATIVE_2_5,
        config,
        "handle-1",
        start_of_speech_sensitivity="LOW",
        end_of_speech_sensitivity="HIGH",
        silence_duration_ms=400,
        prefix_padding_ms=20,
        no_interruption=True,
        turn_coverage="TURN_INCLUDES_ALL_INPUT",
        input_transcription=False,
        output_transcription=False,
        language="de-DE",
        temperature=0.7,
        top_p=0.9,
        top_k=20,
        max_output_tokens=1000,
        seed=7,
        thinking_budget=0,
        proactive_audio=True,
        enable_affective_dialog=True,
        google_search=True,
        tool_behavior="NON_BLOCKING",
        media_resolution="LOW",
        context_window_compression=True,
        trigger_tokens=100_000,
        target_tokens=50_000,
    )
    assert setup == {
        "model": f"models/{NATIVE_2_5}",
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "temperature": 0.7,
            "topP": 0.9,
            "topK": 20,
            "maxOutputTokens": 1000,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "seed": 7,
            "speechConfig": {
                "voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}},
                "language_code": "de-DE",
            },
            "thinkingConfig": {"thinking_budget": 0},
            "enableAffectiveDialog": True,
        },
        "systemInstruction": {
            "parts": [{"text": "Be kind.\n\nLanguage: Always respond in German"}],
            "role": "user",
        },
        "tools": [
            {"googleSearch": {}},
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "How the weather is.",
                        "parameters_json_schema": WEATHER.parameters,
                        "behavior": "NON_BLOCKING",
                    }
                ]
            },
        ],
        "sessionResumption": {"handle": "handle-1"},
        "realtimeInputConfig": {
            "automatic_activity_detection": {
                "start_of_speech_sensitivity": "START_SENSITIVITY_LOW",
                "end_of_speech_sensitivity": "END_SENSITIVITY_HIGH",
                "prefix_padding_ms": 20,
                "silence_duration_ms": 400,
            },
            "activity_handling": "NO_INTERRUPTION",
            "turn_coverage": "TURN_INCLUDES_ALL_INPUT",
        },
        "contextWindowCompression": {"trigger_tokens": 100_000, "sliding_window": {"target_tokens": 50_000}},
        "proactivity": {"proactive_audio": True},
    }


async def test_medium_sensitivity_is_left_to_the_server() -> None:
    setup = await set_up(start_of_speech_sensitivity="MEDIUM", end_of_speech_sensitivity="MEDIUM")
    assert "realtimeInputConfig" not in setup


async def test_the_framework_takes_the_turns() -> None:
    setup = await set_up(turn_detection=None)
    assert setup["realtimeInputConfig"] == {
        "automatic_activity_detection": {"disabled": True},
        "activity_handling": "START_OF_ACTIVITY_INTERRUPTS",
    }


async def test_compression_without_figures() -> None:
    setup = await set_up(context_window_compression=True)
    assert setup["contextWindowCompression"] == {"sliding_window": {}}


async def test_extended_thinking_has_a_level_and_plain_parameters() -> None:
    setup = await set_up(THINKING, EngineConfig(tools=(WEATHER,)))
    assert setup["generationConfig"]["thinkingConfig"] == {"thinking_level": "LOW"}
    (declaration,) = setup["tools"][0]["functionDeclarations"]
    assert declaration["parameters"] == {
        "type": "OBJECT",
        "properties": {"city": {"type": "STRING"}},
        "required": ["city"],
    }
    setup = await set_up(THINKING, thinking_budget=64)
    assert setup["generationConfig"]["thinkingConfig"] == {"thinking_budget": 64}


async def test_history_is_announced_only_to_a_new_session_of_a_family_that_needs_it() -> None:
    announced = {"initial_history_in_client_content": True}
    assert (await set_up(FLASH_3_1))["historyConfig"] == announced
    for model, handle in ((FLASH_3_1, "handle-1"), (NATIVE_2_5, ""), (LIVE, ""), (THINKING, "")):
        assert "historyConfig" not in await set_up(model, handle=handle)


async def test_a_tool_without_parameters() -> None:
    setup = await set_up(config=EngineConfig(tools=(ToolSpec(name="now"),)))
    assert setup["tools"] == [{"functionDeclarations": [{"name": "now"}]}]


# -- schemas -----------------------------------------------------------------------------------------------------------


def test_schemas_in_terms_of_openapi() -> None:
    schema = {
        "type": "object",
        "properties": {
            "who": {"$ref": "#/$defs/Person", "description": "Whom."},
            "how": {"enum": ["fast", "slow"], "type": "string", "default": "fast"},
            "when": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
            "what": {"type": ["string", "null"]},
            "which": {"type": ["string", "integer"]},
            "kind": {"const": "x"},
            "level": {"enum": [1, 2], "type": "integer"},
            "tags": {"type": "array", "items": {"type": "string", "exclusiveMinimum": 3}, "maxItems": 4},
            "extra": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["who"],
        "additionalProperties": False,
        "$defs": {
            "Person": {
                "type": "object",
                "title": "Person",
                "properties": {"name": {"type": "string"}, "friend": {"$ref": "#/$defs/Person"}},
            }
        },
    }
    found = openapi(schema)
    types.Schema.model_validate(found)
    assert found == {
        "type": "OBJECT",
        "properties": {
            "who": {
                "type": "OBJECT",
                "title": "Person",
                "description": "Whom.",
                "properties": {"name": {"type": "STRING"}, "friend": {"type": "OBJECT"}},
            },
            "how": {"type": "STRING", "enum": ["fast", "slow"], "default": "fast"},
            "when": {"type": "INTEGER", "minimum": 0, "nullable": True},
            "what": {"type": "STRING", "nullable": True},
            "which": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
            "kind": {"enum": ["x"]},
            "level": {"type": "INTEGER"},
            "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": 4},
            "extra": {"type": "OBJECT"},
        },
        "required": ["who"],
    }


def test_a_tool_of_a_function_in_terms_of_openapi() -> None:
    def book(city: str, nights: int = 1, notes: list[str] | None = None) -> None:
        """Book a room."""

    found = openapi(Tool(book).spec.parameters)
    types.Schema.model_validate(found)
    assert found["properties"]["nights"] == {"type": "INTEGER", "default": 1}
    assert found["properties"]["notes"]["items"] == {"type": "STRING"}
    assert found["required"] == ["city"]
