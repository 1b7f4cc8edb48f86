"""What a Gemini Live server sends, checked before anything of it counts."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from ...errors import BadInput

SAMPLE_RATE = 24_000
"""Of the model's audio, in Hz."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Message(msgspec.Struct, rename="camel", frozen=True):
    pass


class Blob(_Message, frozen=True):
    """Base64 on the wire."""

    mime_type: str = ""
    data: bytes = b""


class Part(_Message, frozen=True):
    """A part of what the model does. A `thought` is not said."""

    text: str = ""
    thought: bool = False
    inline_data: Blob | None = None

    @property
    def pcm(self) -> bytes:
        """Its audio, if it has any."""
        blob = self.inline_data
        return blob.data if blob is not None and (blob.mime_type or "audio/pcm").startswith("audio/") else b""


class Turn(_Message, frozen=True):
    parts: list[Part] = []


class Transcription(_Message, frozen=True):
    """A piece of a transcript."""

    text: str = ""
    finished: bool = False
    language_code: str = ""


class ServerContent(_Message, frozen=True):
    model_turn: Turn = Turn()
    input_transcription: Transcription | None = None
    output_transcription: Transcription | None = None
    interrupted: bool = False
    generation_complete: bool = False
    turn_complete: bool = False
    turn_complete_reason: str = ""
    interaction_status: str = ""


class FunctionCall(_Message, frozen=True):
    id: str
    name: str
    args: dict[str, Any] = {}


class ToolCall(_Message, frozen=True):
    function_calls: list[FunctionCall] = []


class ToolCallCancellation(_Message, frozen=True):
    ids: list[str] = []


class ModalityTokens(_Message, frozen=True):
    modality: str = ""
    token_count: _Count = 0


class UsageMetadata(_Message, frozen=True):
    prompt_token_count: _Count = 0
    cached_content_token_count: _Count = 0
    response_token_count: _Count = 0
    tool_use_prompt_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    prompt_tokens_details: list[ModalityTokens] = []
    response_tokens_details: list[ModalityTokens] = []


class SetupComplete(_Message, frozen=True):
    session_id: str = ""


class GoAway(_Message, frozen=True):
    time_left: str = "0s"

    @property
    def left_s(self) -> float:
        """`time_left`, which is a duration as in "9.5s", in seconds."""
        return float(self.time_left.removesuffix("s"))


class ResumptionUpdate(_Message, frozen=True):
    new_handle: str = ""
    resumable: bool = False


class ServerError(_Message, frozen=True):
    code: int = 0
    message: str = ""
    status: str = ""


class Incoming(msgspec.Struct, rename="camel"):
    """One frame; several of these may come at once. `unknown` are the kinds that have no place here."""

    setup_complete: SetupComplete | None = None
    server_content: ServerContent | None = None
    tool_call: ToolCall | None = None
    tool_call_cancellation: ToolCallCancellation | None = None
    usage_metadata: UsageMetadata | None = None
    go_away: GoAway | None = None
    session_resumption_update: ResumptionUpdate | None = None
    error: ServerError | None = None
    unknown: tuple[str, ...] = ()


_KINDS: dict[str, tuple[str, msgspec.json.Decoder[Any]]] = {
    field.encode_name: (field.name, msgspec.json.Decoder(field.type))
    for field in msgspec.structs.fields(Incoming)
    if field.name != "unknown"
}
_WITHOUT_MEANING = frozenset({"voiceActivity", "voiceActivityDetectionSignal"})
_FRAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RATE = re.compile(r";\s*rate=(\d+)")
_DURATION = re.compile(r"\d{1,9}(\.\d{1,9})?s")


def decode(message: str | bytes) -> Incoming:
    """A frame of the server's. Raises BadInput that names what is wrong with it."""
    found = Incoming()
    kind = "message"
    try:
        for kind, raw in _FRAME.decode(message).items():
            if kind in _KINDS:
                name, decoder = _KINDS[kind]
                setattr(found, name, decoder.decode(raw))
            elif kind not in _WITHOUT_MEANING:
                found.unknown += (kind,)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"Gemini Live's {kind[:64]} is malformed: {error}") from error
    if problem := _problem(found):
        raise BadInput(f"Gemini Live's {problem}")
    return found


def _problem(found: Incoming) -> str:
    if (away := found.go_away) is not None and not _DURATION.fullmatch(away.time_left):
        return f"goAway.timeLeft is no duration: {away.time_left[:64]!r}"
    for index, call in enumerate(found.tool_call.function_calls if found.tool_call else ()):
        if not call.id or not call.name:
            return f"toolCall.functionCalls[{index}] needs an id and a name"
    for index, part in enumerate(found.server_content.model_turn.parts if found.server_content else ()):
        if not (pcm := part.pcm) or part.inline_data is None:
            continue
        where = f"serverContent.modelTurn.parts[{index}].inlineData"
        rate = _RATE.search(part.inline_data.mime_type)
        if rate is not None and rate[1] != str(SAMPLE_RATE):
            return f"{where}.mimeType is no audio of {SAMPLE_RATE} Hz: {part.inline_data.mime_type[:64]!r}"
        if len(pcm) % 2:
            return f"{where}.data has an odd number of bytes: {len(pcm)}"
    return ""
