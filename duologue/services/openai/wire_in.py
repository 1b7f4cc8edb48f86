"""The messages of an OpenAI Realtime server as structs. A message is checked as a whole before any part is used.

A field that the protocol allows to be null or absent, or that servers of others leave out, is None here. Unused
fields are not kept. A field that does not fit is left out if the message has a use without it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, get_args

import msgspec

from ...errors import BadInput
from ...frames.text import from_json
from ..remote.lenient import plain_base64, read_leniently

_MAX = 1e15  # the limit of every number: above all times and token counts, and exact as a float
_Count = Annotated[float, msgspec.Meta(ge=0, le=_MAX)]
_Number = Annotated[float, msgspec.Meta(ge=-_MAX, le=_MAX)]


class _Fields(msgspec.Struct, frozen=True):
    pass


class ErrorDetail(_Fields, frozen=True):
    """An error. `event_id` is the id of the client's message that it is about."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class CachedDetails(_Fields, frozen=True):
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class InputTokens(_Fields, frozen=True):
    cached_tokens: _Count | None = None
    text_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    cached_tokens_details: CachedDetails | None = None


class OutputTokens(_Fields, frozen=True):
    text_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class WireUsage(_Fields, frozen=True):
    """Consumption in tokens, or in seconds of audio."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_token_details: InputTokens | None = None
    output_token_details: OutputTokens | None = None
    seconds: _Number | None = None


NOTHING_USED = WireUsage()


class WireItem(_Fields, frozen=True):
    """An item of the conversation. `call_id`, `name` and `arguments` (JSON) are those of a function call."""

    type: str | None = None
    id: str | None = None
    status: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    @property
    def call_key(self) -> str:
        """The id of the call, or of the item if it has none."""
        return self.call_id or self.id or ""


class StatusDetails(_Fields, frozen=True):
    """The reason why a response is incomplete."""

    reason: str | None = None
    error: ErrorDetail | None = None


class Metadata(_Fields, frozen=True):
    """The client's data of a request: the tag."""

    tag: str | None = None


class WireResponse(_Fields, frozen=True):
    id: str | None = None
    status: str | None = None
    status_details: StatusDetails | None = None
    metadata: Metadata | None = None
    output_modalities: list[str] | None = None
    output: list[WireItem] | None = None
    usage: WireUsage | None = None

    @property
    def tag(self) -> str:
        """The tag of the response's request, "" without one."""
        return self.metadata.tag or "" if self.metadata is not None else ""


class SessionInfo(_Fields, frozen=True):
    """The session. `expires_at` is in seconds since the epoch."""

    id: str | None = None
    expires_at: _Number | None = None


class Language(_Fields, frozen=True):
    code: str | None = None


# -- messages ----------------------------------------------------------------------------------------------------------


class _MessageBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    event_id: str | None = None


class ErrorMessage(_MessageBase, frozen=True, tag="error"):
    """An error. Some servers send its text only, or its fields beside the type."""

    error: ErrorDetail | str | None = None
    code: str | None = None
    message: str | None = None

    @property
    def detail(self) -> ErrorDetail:
        """The error in its usual form."""
        if isinstance(self.error, ErrorDetail):
            return self.error
        return ErrorDetail(code=self.code, message=self.error or self.message)


class SessionCreated(_MessageBase, frozen=True, tag="session.created"):
    session: SessionInfo | None = None


class SessionUpdated(_MessageBase, frozen=True, tag="session.updated"):
    pass


class BufferSpeechStarted(_MessageBase, frozen=True, tag="input_audio_buffer.speech_started"):
    item_id: str | None = None
    audio_start_ms: _Number | None = None


class BufferSpeechStopped(_MessageBase, frozen=True, tag="input_audio_buffer.speech_stopped"):
    item_id: str | None = None
    audio_end_ms: _Number | None = None


class InputCommitted(_MessageBase, frozen=True, tag="input_audio_buffer.committed"):
    item_id: str | None = None


class TimeoutTriggered(_MessageBase, frozen=True, tag="input_audio_buffer.timeout_triggered"):
    """The model speaks by itself after a silence, which the provider commits as an item."""

    item_id: str | None = None


class TranscriptDelta(_MessageBase, frozen=True, tag="conversation.item.input_audio_transcription.delta"):
    item_id: str | None = None
    delta: str | None = None


class TranscriptCompleted(_MessageBase, frozen=True, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str | None = None
    transcript: str | None = None
    languages: list[Language | str] | None = None
    usage: WireUsage | None = None

    @property
    def language(self) -> str:
        """The language that was heard first, "" if the model names none."""
        spoken = self.languages[0] if self.languages else ""
        return spoken if isinstance(spoken, str) else spoken.code or ""


class TranscriptFailed(_MessageBase, frozen=True, tag="conversation.item.input_audio_transcription.failed"):
    item_id: str | None = None
    error: ErrorDetail | None = None


class ResponseCreated(_MessageBase, frozen=True, tag="response.created"):
    response: WireResponse


class TextDelta(_MessageBase, frozen=True, gc=False, tag="response.output_text.delta"):
    delta: str
    response_id: str | None = None


class SpokenTextDelta(_MessageBase, frozen=True, gc=False, tag="response.output_audio_transcript.delta"):
    delta: str
    response_id: str | None = None


class AudioDelta(_MessageBase, frozen=True, gc=False, tag="response.output_audio.delta"):
    """`delta` is mono s16le at 24 kHz, cut at any byte, base64 on the wire."""

    delta: bytes
    item_id: str | None = None
    response_id: str | None = None


class OutputItemDone(_MessageBase, frozen=True, tag="response.output_item.done"):
    item: WireItem | None = None
    response_id: str | None = None


class ResponseDone(_MessageBase, frozen=True, tag="response.done"):
    response: WireResponse


class OtherMessage(msgspec.Struct, frozen=True):
    """A message of another type: one of the protocol without use here (`known`), or an unknown one."""

    type: str

    @property
    def event_id(self) -> str | None:
        """None: a repeated message of no use is of no use either."""
        return None

    @property
    def known(self) -> bool:
        """True for a type of the protocol."""
        return self.type in _NO_MEANING


ServerMessage: TypeAlias = (
    ErrorMessage
    | SessionCreated
    | SessionUpdated
    | BufferSpeechStarted
    | BufferSpeechStopped
    | InputCommitted
    | TimeoutTriggered
    | TranscriptDelta
    | TranscriptCompleted
    | TranscriptFailed
    | ResponseCreated
    | TextDelta
    | SpokenTextDelta
    | AudioDelta
    | OutputItemDone
    | ResponseDone
)

_NO_MEANING = frozenset(
    (
        "conversation.created",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.deleted",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.dtmf_event_received",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "mcp_list_tools.in_progress",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.output_item.added",
        "response.output_text.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
    )
)
_READ: dict[Any, type[ServerMessage]] = {kind.__struct_config__.tag: kind for kind in get_args(ServerMessage)}
_WITH_AUDIO = AudioDelta.__struct_config__.tag
_known_decoder = msgspec.json.Decoder(ServerMessage)
_plain_decoder = msgspec.json.Decoder(dict[str, Any])
_other_decoder = msgspec.json.Decoder(OtherMessage)


def decode_message(message: str | bytes, left_out: list[str]) -> ServerMessage | OtherMessage:
    """Return a message of the server, and append to `left_out` the problems of fields that it was read without.

    Raises BadInput that names the message and the invalid field.
    """
    try:
        return from_json(message, _known_decoder)  # type: ignore[no-any-return]
    except msgspec.DecodeError as error:
        return _decode_other(message, error, left_out)


def _decode_other(message: str | bytes, error: Exception, left_out: list[str]) -> ServerMessage | OtherMessage:
    """Return a message that failed with `error`: one of another type, or one with odd fields, which are left out.

    Raises BadInput for one that is of no use without them.
    """
    try:
        other: OtherMessage = from_json(message, _other_decoder)
    except msgspec.DecodeError as second:
        raise BadInput(f"a message from OpenAI is not a JSON object with a type: {second}") from second
    if other.type not in _READ:
        return other
    try:
        plain = from_json(message, _plain_decoder)
        if other.type == _WITH_AUDIO:
            plain["delta"] = plain_base64(plain.get("delta"))
        return read_leniently(plain, _READ[other.type], left_out)
    except msgspec.DecodeError:
        raise BadInput(f"{other.type} from OpenAI is malformed: {error}") from error
