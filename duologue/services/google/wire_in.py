"""The frames of a Gemini Live server as structs. A frame is checked as a whole before any part is used."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from ...errors import BadInput
from ...frames.text import from_json
from .options import OUTPUT_RATE

_RATE = re.compile(r";\s*rate=(\d+)")
_DURATION = re.compile(r"\d{1,9}(\.\d{1,9})?s")
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Fields(msgspec.Struct, rename="camel", frozen=True):
    pass


class Blob(_Fields, frozen=True):
    """Bytes, base64 on the wire. Audio is mono s16le at 24 kHz, cut at any byte."""

    mime_type: str = ""
    data: bytes = b""

    @property
    def pcm(self) -> bytes:
        """The audio, b"" for other data."""
        return self.data if (self.mime_type or "audio/pcm").startswith("audio/") else b""

    def __post_init__(self) -> None:
        if not self.pcm:
            return
        rate = _RATE.search(self.mime_type)
        if rate is not None and rate[1] != str(OUTPUT_RATE):
            raise ValueError(f"mimeType is not audio of {OUTPUT_RATE} Hz: {self.mime_type[:64]!r}")


class ContentPart(_Fields, frozen=True):
    """A part of the model's turn. A `thought` is not spoken."""

    text: str = ""
    thought: bool = False
    inline_data: Blob | None = None

    @property
    def pcm(self) -> bytes:
        """The audio of this part, b"" without any."""
        return self.inline_data.pcm if self.inline_data is not None else b""


class ModelTurn(_Fields, frozen=True):
    parts: list[ContentPart] = []


class TranscriptPiece(_Fields, frozen=True):
    """A piece of a transcript."""

    text: str = ""
    finished: bool = False
    language_code: str = ""


class ServerContent(_Fields, frozen=True):
    model_turn: ModelTurn = ModelTurn()
    input_transcription: TranscriptPiece | None = None
    output_transcription: TranscriptPiece | None = None
    interrupted: bool = False
    generation_complete: bool = False
    turn_complete: bool = False
    turn_complete_reason: str = ""
    interaction_status: str = ""


class FunctionCall(_Fields, frozen=True):
    id: str
    name: str
    args: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not self.id or not self.name:
            raise ValueError("a function call needs an id and a name")


class WireToolCall(_Fields, frozen=True):
    function_calls: list[FunctionCall] = []


class ToolCallCancellation(_Fields, frozen=True):
    ids: list[str] = []


class ModalityTokens(_Fields, frozen=True):
    modality: str = ""
    token_count: _Count = 0


class UsageMetadata(_Fields, frozen=True):
    prompt_token_count: _Count = 0
    cached_content_token_count: _Count = 0
    response_token_count: _Count = 0
    tool_use_prompt_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    prompt_tokens_details: list[ModalityTokens] = []
    response_tokens_details: list[ModalityTokens] = []


class SetupComplete(_Fields, frozen=True):
    session_id: str = ""


class GoAwayNotice(_Fields, frozen=True):
    time_left: str = "0s"

    @property
    def left_s(self) -> float:
        """`time_left`, a duration like "9.5s", in seconds."""
        return float(self.time_left.removesuffix("s"))

    def __post_init__(self) -> None:
        if not _DURATION.fullmatch(self.time_left):
            raise ValueError(f"timeLeft is not a duration: {self.time_left[:64]!r}")


class ResumptionUpdate(_Fields, frozen=True):
    new_handle: str = ""
    resumable: bool = False


class ServerError(_Fields, frozen=True):
    code: int = 0
    message: str = ""
    status: str = ""


class ServerFrame(msgspec.Struct, rename="camel"):
    """One frame, which may have several of these fields at once. `unknown` has keys of other kinds."""

    setup_complete: SetupComplete | None = None
    server_content: ServerContent | None = None
    tool_call: WireToolCall | None = None
    tool_call_cancellation: ToolCallCancellation | None = None
    usage_metadata: UsageMetadata | None = None
    go_away: GoAwayNotice | None = None
    session_resumption_update: ResumptionUpdate | None = None
    error: ServerError | None = None
    unknown: tuple[str, ...] = ()


_KINDS: dict[str, tuple[str, msgspec.json.Decoder[Any]]] = {
    field.encode_name: (field.name, msgspec.json.Decoder(field.type))
    for field in msgspec.structs.fields(ServerFrame)
    if field.name != "unknown"
}
_WITHOUT_MEANING = frozenset({"voiceActivity", "voiceActivityDetectionSignal"})
_FRAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def _parts(message: str | bytes) -> dict[str, Any]:
    """Return the parts of a frame: raw, or decoded if an escape in it is half of a character."""
    try:
        return _FRAME.decode(message)
    except msgspec.DecodeError:
        return from_json(message, _OBJECT)  # type: ignore[no-any-return]


def decode_frame(message: str | bytes) -> ServerFrame:
    """Return a frame of the server. Raises BadInput that names the kind and the invalid field."""
    found = ServerFrame()
    kind = "message"
    try:
        for kind, raw in _parts(message).items():
            if kind in _KINDS:
                name, decoder = _KINDS[kind]
                value = decoder.decode(raw) if isinstance(raw, msgspec.Raw) else msgspec.convert(raw, decoder.type)
                setattr(found, name, value)
            elif kind not in _WITHOUT_MEANING:
                found.unknown += (kind,)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"Gemini Live's {kind[:64]} is malformed: {error}") from error
    return found
