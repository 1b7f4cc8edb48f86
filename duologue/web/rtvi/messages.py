"""RTVI's envelope, and the messages that clients send in it, checked."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ...errors import BadInput
from ...frames import UserImage
from ...images.kinds import check_declared, readable_kind
from ...transports.client import Message, Words
from ...transports.websocket.serializers import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, RATE_STEP

LABEL = "rtvi-ai"
PROTOCOL = "2.2.0"
"""The version of RTVI that is spoken with clients of the same major version."""
MAX_TEXT = 16_384
"""The largest number of characters in a client's text."""

MAX_NAME = 256
"""The largest number of characters in a file's name. The rest is cut off."""

Version = tuple[int, int, int]
DataT = TypeVar("DataT")


class ClientReady(msgspec.Struct, frozen=True):
    """The client's version of the protocol, and its library."""

    version: str = ""
    about: Any = None


class ClientMessage(msgspec.Struct, frozen=True):
    """An application's own message: its type and its data."""

    t: str
    d: Any = None


class TextOptions(msgspec.Struct, frozen=True):
    """`run_immediately` asks for an answer, `audio_response` for a spoken one."""

    run_immediately: bool = True
    audio_response: bool = True


class SendText(msgspec.Struct, frozen=True):
    """Text that the caller typed."""

    content: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
    options: TextOptions = TextOptions()


class FileSource(msgspec.Struct, frozen=True):
    """A file's content as base64, or its address."""

    type: Literal["bytes", "url"]
    bytes: str = ""
    url: str = ""


class File(msgspec.Struct, frozen=True):
    """A file; `format` is its MIME type."""

    format: str
    source: FileSource
    name: str = ""


class SendFile(msgspec.Struct, frozen=True):
    """A file of the caller, and the text that they typed with it."""

    file: File
    content: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    options: TextOptions = TextOptions()

    def image(self) -> UserImage:
        """Return the file as an image. Raises BadInput for anything else."""
        source, mime = self.file.source, self.file.format
        check_declared(mime or "unknown", "a file")
        if source.type == "url":
            if not source.url.startswith(("https://", "http://")):
                raise BadInput("the file's url is not a web address")
            return UserImage(url=source.url, mime=mime, name=self.file.name[:MAX_NAME])
        image = _bytes(source.bytes, "file")
        if not image:
            raise BadInput("the file is empty")
        return UserImage(image=image, mime=mime, name=self.file.name[:MAX_NAME])


class CameraFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`duologue.camera`: a frame of the caller's camera or screen, as base64 of a MIME type."""

    bytes: str
    format: str = "image/jpeg"
    source: Literal["camera", "screen"] = "camera"

    def image(self) -> UserImage:
        """Return the frame as an image. Raises BadInput for anything else."""
        image = _bytes(self.bytes, "frame")
        readable_kind(image, self.format, "the frame")
        return UserImage(image=image, mime=self.format, source=self.source)


class FunctionCallResult(msgspec.Struct, frozen=True):
    """The result of a function in the client."""

    tool_call_id: str
    result: Any = None
    function_name: str = ""


Key = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#", "A", "B", "C", "D"]


class DtmfKeys(msgspec.Struct, frozen=True):
    """Keys of a telephone. Clients before version 2.1 send a single one, in `button`."""

    buttons: Annotated[list[Key], msgspec.Meta(max_length=64)] = []
    button: Key | None = None


class RawAudio(msgspec.Struct, frozen=True, rename="camel"):
    """Audio in a message, apart from the transport's own: PCM s16le as base64."""

    sample_rate: Annotated[int, msgspec.Meta(ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE, multiple_of=RATE_STEP)]
    num_channels: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    base64_audio: str = ""
    base64_audio_batch: list[str] = msgspec.field(default=[], name="base64AudioBatch")

    def pcm(self) -> bytes:
        """Return the audio, cut at any byte. Raises BadInput for data that is not base64."""
        return b"".join(_bytes(text, "audio") for text in (self.base64_audio, *self.base64_audio_batch))


def _bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadInput(f"the {what} is not base64: {error}") from error


def is_plain(message: Message) -> bool:
    """Return True if a message can be encoded again: JSON may hold lone surrogates and numbers beyond all types."""
    try:
        msgspec.json.encode(message)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


def read_data(data: Any, model: type[DataT]) -> DataT:
    """Return the data of a message. Raises BadInput, naming the field, if it is malformed."""
    try:
        return msgspec.convert(data if data is not None else {}, model)
    except msgspec.ValidationError as error:
        raise BadInput(str(error)) from error


def envelope(kind: str, data: Mapping[str, Any] | None = None, id: str = "") -> Message:
    """Return a message to the client. Fields that are None are left out."""
    message: Message = {"label": LABEL, "type": kind}
    if id:
        message["id"] = id
    if data is not None:
        message["data"] = {name: value for name, value in data.items() if value is not None}
    return message


def version(text: str) -> Version:
    """Return a version as numbers; (0, 0, 0) for a text that is not a version."""
    numbers = text.split(".")
    if len(numbers) != 3 or not all(number.isdecimal() and len(number) < 6 for number in numbers):
        return (0, 0, 0)
    major, minor, patch = map(int, numbers)
    return (major, minor, patch)


class RtviWords(Words):
    """RTVI's `error` message, and the `peerLeft` of Pipecat's small-webrtc transport."""

    def error(self, text: str) -> Message:
        """Return RTVI's error message. It does not end the call."""
        return envelope("error", {"error": text, "fatal": False})

    def end(self, reason: str) -> Message:
        """Return a signalling message, not RTVI's: clients of small-webrtc expect it on the same channel."""
        return {"type": "signalling", "message": {"type": "peerLeft"}}

    def owns(self, message: Message) -> bool:
        """Return True for a message with RTVI's label."""
        return message.get("label") == LABEL
