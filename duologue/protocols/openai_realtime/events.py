"""The client's events of OpenAI's Realtime API as types, by which every field of an event is checked.

In optional fields null means "not given", except in `turn_detection`, `transcription` and `noise_reduction`, where it
turns the setting off. Unknown fields are dropped.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ...frames.text import from_json, well_formed_data
from .refusal import Refusal

MAX_ID = 256
"""Characters of a client's id."""
MAX_TEXT = 64 * 1024
"""Characters of a text of an item, of its arguments and its output, and of instructions."""
MAX_TOOLS = 128
MAX_TOOLS_BYTES = 256 * 1024
"""Bytes of all tools of a session as JSON."""
MAX_METADATA = 16
MAX_SHOWN = 512
"""Characters of a message to the client about its event."""

Id = Annotated[str, Meta(max_length=MAX_ID)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Word = Annotated[str, Meta(max_length=64)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]


class ClientEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of the client, or an object in it. Its plain form has the fields that were given."""


class Format(ClientEvent, frozen=True):
    """An audio format."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: Literal[24_000, 8_000] | None = None


class TurnDetection(ClientEvent, frozen=True):
    """The server's turn detection."""

    type: Literal["server_vad", "semantic_vad"]
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    silence_duration_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    idle_timeout_ms: Annotated[int, Meta(ge=0, le=600_000)] | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class AudioTranscription(ClientEvent, frozen=True):
    """The transcription of the caller's speech. The engine has its own settings for it."""

    model: Word | None = None
    language: Word | None = None
    prompt: Text | None = None


class NoiseReduction(ClientEvent, frozen=True):
    """The noise reduction of the caller's audio."""

    type: Literal["near_field", "far_field"] | None = None


class InputAudio(ClientEvent, frozen=True):
    """Settings of the caller's audio."""

    format: Format | None = None
    transcription: AudioTranscription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class VoiceId(ClientEvent, frozen=True):
    """A voice that was made for an account."""

    id: Id


class OutputAudio(ClientEvent, frozen=True):
    """Settings of the agent's audio."""

    format: Format | None = None
    voice: Id | VoiceId | None = None
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] | None = None


class SessionAudio(ClientEvent, frozen=True):
    """The `audio` of a session."""

    input: InputAudio | None = None
    output: OutputAudio | None = None


class ToolGiven(ClientEvent, frozen=True):
    """A tool of the client."""

    type: Literal["function", "mcp"]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | None = None
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    server_label: Id | None = None
    server_url: Text | None = None
    connector_id: Id | None = None
    allowed_tools: Any = None
    require_approval: Any = None


class NamedTool(ClientEvent, frozen=True):
    """The choice of one tool."""

    type: Literal["function", "mcp"]
    name: Id | None = None
    server_label: Id | None = None


class Reasoning(ClientEvent, frozen=True):
    """How much the model thinks."""

    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class Tracing(ClientEvent, frozen=True):
    """The vendor's own recording of sessions."""

    workflow_name: Id | None = None
    group_id: Id | None = None
    metadata: dict[str, Any] | None = None


class Truncation(ClientEvent, frozen=True):
    """How the vendor drops old items of a long conversation."""

    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Meta(ge=0, le=1)]
    token_limits: dict[str, int] | None = None


class Prompt(ClientEvent, frozen=True):
    """Instructions that the vendor keeps."""

    id: Id
    version: Id | None = None
    variables: dict[str, str] | None = None


Modalities = Annotated[list[Literal["audio", "text"]], Meta(min_length=1, max_length=1)]
ToolChoice = Literal["auto", "none", "required"] | NamedTool
MaxTokens = Annotated[int, Meta(ge=1, le=4096)] | Literal["inf"]


class SessionChange(ClientEvent, frozen=True):
    """The `session` of a `session.update`."""

    type: Literal["realtime"]
    model: Id | None = None
    output_modalities: Modalities | None = None
    instructions: Text | None = None
    tools: Annotated[list[Any], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    max_output_tokens: MaxTokens | None = None
    audio: SessionAudio | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    tracing: Literal["auto"] | Tracing | None = None
    truncation: Literal["auto", "disabled"] | Truncation | None = None
    prompt: Prompt | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None


class ResponseAudio(ClientEvent, frozen=True):
    """The `audio` of a response."""

    output: OutputAudio | None = None


class ResponseWanted(ClientEvent, frozen=True):
    """The `response` of a `response.create`."""

    conversation: Id | None = None
    input: Annotated[list[Any], Meta(max_length=1_000)] | None = None
    instructions: Text | None = None
    metadata: Annotated[dict[Word, Annotated[str, Meta(max_length=512)]], Meta(max_length=MAX_METADATA)] | None = None
    output_modalities: Modalities | None = None
    tools: Annotated[list[Any], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    max_output_tokens: MaxTokens | None = None
    audio: ResponseAudio | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    prompt: Prompt | None = None


class ContentPart(ClientEvent, frozen=True):
    """A part of a message."""

    type: Word
    text: Text | None = None
    transcript: Text | None = None
    audio: str | None = None
    image_url: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class ItemGiven(ClientEvent, frozen=True):
    """An item that the client adds."""

    type: Literal["message", "function_call", "function_call_output", "item_reference"]
    id: Id | None = None
    role: Literal["system", "user", "assistant"] | None = None
    content: Annotated[list[ContentPart], Meta(max_length=64)] | None = None
    call_id: Id | None = None
    name: Id | None = None
    arguments: Text | None = None
    output: Text | None = None


# -- the events --------------------------------------------------------------------------------------------------------


class SessionUpdate(ClientEvent, frozen=True):
    """`session` is read by `config.updated`, which also keeps unknown settings."""

    session: dict[str, Any]


class Append(ClientEvent, frozen=True):
    """Audio of the caller, as base64."""

    audio: str


class ItemCreate(ClientEvent, frozen=True):
    """A new item."""

    item: ItemGiven
    previous_item_id: Id | None = None


class ItemNamed(ClientEvent, frozen=True):
    """An event about an item."""

    item_id: Id


class ItemTruncate(ClientEvent, frozen=True):
    """The rest of an item was not heard."""

    item_id: Id
    content_index: Milliseconds
    audio_end_ms: Milliseconds


class ResponseCreate(ClientEvent, frozen=True):
    """A request for a response."""

    response: ResponseWanted | None = None


class ResponseCancel(ClientEvent, frozen=True):
    """The end of a response, by default of the one in progress."""

    response_id: Id | None = None


class Bare(ClientEvent, frozen=True):
    """An event without fields."""


ObjectT = TypeVar("ObjectT", bound=ClientEvent)
_PLACE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_RANGES = (" >= ", " <= ", " of length ", "out of range")
_MISSING = re.compile(r"missing required field `(\w+)`")


def read_event(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a client's message, with well-formed texts. Raises Refusal."""
    try:
        event = from_json(text)
    except msgspec.DecodeError:
        raise Refusal("invalid_json", "The message is not JSON, or nested too deep.") from None
    if not isinstance(event, dict):
        raise Refusal("invalid_json", "The message is not a JSON object.")
    sound: dict[str, Any] = well_formed_data(event)
    return sound


def read_object(value: Any, kind: type[ObjectT], where: str = "") -> ObjectT:
    """Return a client's object as its type. `where` is its place in the event. Raises Refusal, naming the field."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _as_refusal(str(error), where) from None


def given(value: ClientEvent) -> dict[str, Any]:
    """Return the fields that were given, as plain data."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def read_tools(tools: list[Any], where: str) -> list[dict[str, Any]]:
    """Return a client's tools as plain data. Raises Refusal, naming the field."""
    found = [given(read_object(tool, ToolGiven, f"{where}[{place}]")) for place, tool in enumerate(tools)]
    for place, tool in enumerate(found):
        if tool["type"] == "function" and "name" not in tool:
            param = f"{where}[{place}].name"
            raise Refusal("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    try:
        size = len(msgspec.json.encode(found))
    except (ValueError, OverflowError):
        raise Refusal("invalid_value", f"Invalid value for '{where}': numbers are out of range.", where) from None
    if size > MAX_TOOLS_BYTES:
        raise Refusal("invalid_value", f"Invalid value for '{where}': more than {MAX_TOOLS_BYTES} bytes.", where)
    return found


def _as_refusal(text: str, where: str) -> Refusal:
    place = _PLACE.search(text)
    path, problem = (place[1], text[: place.start()]) if place else ("", text)
    missing = _MISSING.search(problem)
    param = ".".join(part for part in (where, path, missing[1] if missing else "") if part).replace("[...]", "[]")
    shown = param or "event"
    if missing:
        return Refusal("missing_required_parameter", f"Missing required parameter: '{shown}'.", param or None)
    if problem.startswith("Invalid enum value"):
        return Refusal("invalid_value", f"Invalid value for '{shown}': i{problem[1:]}.", param or None)
    kind = "value" if any(sign in problem for sign in _RANGES) else "type"
    return Refusal(
        f"invalid_{kind}", f"Invalid {kind} for '{shown}': {problem[:1].lower()}{problem[1:]}.", param or None
    )
