"""The names and values of attributes that spans and metrics share."""

from __future__ import annotations

CHAT, SPEECH_TO_TEXT, TEXT_TO_SPEECH = "chat", "speech_to_text", "text_to_speech"
INVOKE_AGENT, EXECUTE_TOOL = "invoke_agent", "execute_tool"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION_ID = "gen_ai.conversation.id"
AGENT_NAME = "gen_ai.agent.name"
AGENT_ID = "gen_ai.agent.id"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
OUTPUT_TYPE = "gen_ai.output.type"
STREAM = "gen_ai.request.stream"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
ERROR_TYPE = "error.type"

UNKNOWN = "other"
"""Stands for a name that is not known to the configuration: a model may invent names, and words may be in them."""

END_REASONS = frozenset(
    {
        "ended",
        "ended by the agent",
        "cancelled",
        "error",
        "cap",
        "budget",
        "idle",
        "hung up",
        "client disconnected",
        "server is shutting down",
        "time limit",
        "drain deadline",
        "expired",
    }
)
"""The reasons of a call's end that are shown. Those of an application may hold words, and count as `other`."""


def known_reason(reason: str) -> str:
    """Return the reason of a call's end, `other` for one of the application."""
    parts = [part.strip() for part in reason.split(":")]
    if all(part in END_REASONS for part in parts):
        return reason
    return next((part for part in parts if part in END_REASONS), UNKNOWN)


def tool_failure(result: object) -> str:
    """Return the type of the error that a tool's result tells the model, "" for a result."""
    if not (isinstance(result, dict) and isinstance(error := result.get("error"), str) and len(result) == 1):
        return ""
    beginnings = {"cancelled": "cancelled", "the call ended": "cancelled", "denied": "denied"}
    return next((kind for begins, kind in beginnings.items() if error.startswith(begins)), "tool")
