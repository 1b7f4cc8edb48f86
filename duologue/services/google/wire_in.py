"""The frames of a Gemini Live server as structs. A frame is checked as a whole before any part is used."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from ...errors import BadInput
from ...frames.text import from_json
from ..remote.lenient import plain_base64, read_leniently
from .options import OUTPUT_RATE

_RATE = re.compile(r";\s*rate=(\d+)")
_DURATION = re.compile(r"\d{1,9}(\.\d{1,9})?S|PT(\d{1,9}(\.\d{1,9})?[HMS])+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([HMS])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0}
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


class Part(_Fields, frozen=True):
    """A part of the model's turn. A `thought` is not spoken."""

    text: str = ""
    thought: bool = False
    inline_data: Blob | None = None

    @property
    def pcm(self) -> bytes:
        """The audio of this part, b"" without any."""
        return self.inline_data.pcm if self.inline_data is not None else b""


class ModelTurn(_Fields, frozen=True):
    parts: list[Part] = []


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


class PartialArg(_Fields, frozen=True):
    """A piece of a call's arguments: the value at `json_path`, or the next piece of a text that `will_continue`."""

    json_path: str = ""
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None
    will_continue: bool = False

    @property
    def value(self) -> str | float | bool | None:
        """The value; None for a null."""
        values = (self.string_value, self.bool_value, self.number_value)
        return next((value for value in values if value is not None), None)


class FunctionCall(_Fields, frozen=True):
    """A call, or a piece of one: the last piece has no `will_continue`. Only the first piece needs a name."""

    id: str = ""
    name: str = ""
    args: dict[str, Any] = {}
    partial_args: list[PartialArg] = []
    will_continue: bool = False


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
    cache_tokens_details: list[ModalityTokens] = []


class SetupComplete(_Fields, frozen=True):
    session_id: str = ""


class Duration(_Fields, frozen=True):
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    nanos: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0


class GoAwayNotice(_Fields, frozen=True):
    """`time_left` is a duration like "9.5s"; some proxies write it as ISO 8601, a number, or an object."""

    time_left: str | float | Duration = "0s"

    @property
    def left_s(self) -> float:
        """`time_left` in seconds."""
        left = self.time_left
        if isinstance(left, Duration):
            return max(0.0, left.seconds + left.nanos / 1e9)
        if not isinstance(left, str):
            return max(0.0, left)
        return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(left.upper()))

    def __post_init__(self) -> None:
        if isinstance(self.time_left, str) and not _DURATION.fullmatch(self.time_left.upper()):
            raise ValueError(f"timeLeft is not a duration: {self.time_left[:64]!r}")


class ResumptionUpdate(_Fields, frozen=True):
    new_handle: str = ""
    resumable: bool = False


class ServerError(_Fields, frozen=True):
    code: int | str = 0
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
    odd: tuple[str, ...] = ()
    """The problems of the fields that were left out."""


_KINDS: dict[str, tuple[str, msgspec.json.Decoder[Any]]] = {
    field.encode_name: (field.name, msgspec.json.Decoder(field.type))
    for field in msgspec.structs.fields(ServerFrame)
    if field.name not in ("unknown", "odd")
}
_WITHOUT_MEANING = frozenset({"voiceActivity", "voiceActivityDetectionSignal"})
_FRAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_NOTHING_SAID = ServerContent()
_OPAQUE = frozenset({"args"})
"""Fields whose contents are the model's own."""


def decode_frame(message: str | bytes) -> ServerFrame:
    """Return a frame of the server. Raises BadInput that names the kind and the invalid field."""
    found = ServerFrame()
    kind = "message"
    try:
        for kind, raw in from_json(message, _FRAME).items():
            if kind in _KINDS:
                name, decoder = _KINDS[kind]
                setattr(found, name, decoder.decode(raw))
            elif kind not in _WITHOUT_MEANING:
                found.unknown += (kind,)
    except (msgspec.DecodeError, UnicodeError) as error:
        return _decode_odd(message, kind, error)
    if any("_" in kind for kind in found.unknown) or found.server_content == _NOTHING_SAID:
        return _decode_odd(message, "message", None)
    return found


def _decode_odd(message: str | bytes, kind: str, error: Exception | None) -> ServerFrame:
    """Return a frame in an unusual form of protobuf's JSON: nulls, names in snake_case, the other alphabet of base64.

    Fields that do not fit are left out. Raises BadInput for a kind that is of no use without them.
    """
    found = ServerFrame()
    try:
        for told, value in from_json(message, _OBJECT).items():
            kind = _camel(told)
            if kind in _KINDS:
                name, decoder = _KINDS[kind]
                problems: list[str] = []
                setattr(found, name, read_leniently(_usual(value), decoder.type, problems))
                found.odd += tuple(f"{kind}: {problem}" for problem in problems)
            elif kind not in _WITHOUT_MEANING:
                found.unknown += (told,)
    except msgspec.DecodeError as odd:
        raise BadInput(f"Gemini Live's {kind[:64]} is malformed: {error or odd}") from odd
    return found


def _usual(value: Any) -> Any:
    """Return a part of a frame without nulls, with names in camelCase and base64 in its usual form."""
    if isinstance(value, list):
        return [_usual(part) for part in value if part is not None]
    if not isinstance(value, dict):
        return value
    usual: dict[str, Any] = {}
    for told, part in value.items():
        name = _camel(told)
        if part is None:
            continue
        usual[name] = part if name in _OPAQUE else plain_base64(part) if name == "data" else _usual(part)
    return usual


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
