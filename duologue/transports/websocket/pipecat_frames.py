"""Pipecat's protobuf frames: each binary message is one `Frame`, which holds text, audio or a JSON message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...audio.pcm import MonoPieces
from ...frames.text import to_json
from ..client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE, Message, Words
from .serializers import (
    Audio,
    Malformed,
    Received,
    Serializer,
    TypedText,
    Wired,
    checked_rate,
    json_object,
)

MAX_CHANNELS = 8

# Field numbers of Frame, and of the messages in it.
_TEXT, _AUDIO, _TRANSCRIPTION, _MESSAGE, _INTERRUPTION = 1, 2, 3, 4, 5
_TEXT_TEXT = 3
_PCM, _RATE, _CHANNELS = 3, 4, 5
_DATA = 1
# Wire types of fields.
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_VARINT_BYTES = 10


class PipecatSerializer(Serializer):
    """The dialect of Pipecat's WebSocket client. An `InterruptionFrame` makes it drop its audio."""

    def __init__(
        self,
        *,
        input_sample_rate: int = INPUT_SAMPLE_RATE,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
        words: Words | None = None,
    ) -> None:
        super().__init__(input_sample_rate=input_sample_rate, output_sample_rate=output_sample_rate, words=words)
        self._pieces = MonoPieces()

    def parse(self, data: Wired) -> Received | None:
        if isinstance(data, str):
            raise Malformed("text_message", "this endpoint takes protobuf frames, not text messages")
        frame = {number: value for number, value in fields(data) if number <= _INTERRUPTION}
        if len(frame) != 1:
            raise Malformed("bad_frame", "the frame holds nothing, or more than one thing")
        number, value = frame.popitem()
        if not isinstance(value, bytes):
            raise Malformed("bad_frame", "the frame's field is of the wrong kind")
        held = dict(fields(value))
        if number == _AUDIO:
            return _audio(held, self._pieces)
        if number == _TEXT:
            return TypedText(_utf8(held.get(_TEXT_TEXT)))
        if number == _MESSAGE:
            return json_object(_utf8(held.get(_DATA)))
        raise Malformed("unknown_type", "the frame is none of text, audio, message")

    def audio(self, pcm: bytes) -> Wired:
        held = _bytes_field(_PCM, pcm) + _varint_field(_RATE, self.output_sample_rate) + _varint_field(_CHANNELS, 1)
        return _bytes_field(_AUDIO, held)

    def clear(self) -> Wired | None:
        return _bytes_field(_INTERRUPTION, b"")

    def message(self, message: Message) -> Wired | None:
        return _bytes_field(_MESSAGE, _bytes_field(_DATA, to_json(message).encode()))

    def error(self, code: str, message: str) -> Wired | None:
        told = self.words.error(f"{code}: {message}")
        return None if told is None else self.message(told)


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of each field of a protobuf message, in order. Raises Malformed."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if not number:
            raise Malformed("bad_frame", "the frame has a field of number 0")
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_FIXED_32, _FIXED_64):
            size = 4 if kind == _FIXED_32 else 8
        else:
            raise Malformed("bad_frame", "the frame has a field of an unknown kind")
        if size > len(data) - place:
            raise Malformed("bad_frame", "the frame ends within a field")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[place : place + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value & (2**64 - 1), place + shift + 1
    raise Malformed("bad_frame", "the frame ends within a number")


def _audio(held: dict[int, Any], pieces: MonoPieces) -> Audio:
    pcm, rate, channels = held.get(_PCM, b""), held.get(_RATE, 0), held.get(_CHANNELS, 1)
    if not isinstance(pcm, bytes) or type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise Malformed("bad_audio", f"the audio has no PCM, or not 1 to {MAX_CHANNELS} channels")
    return Audio(pieces.take(pcm, channels), checked_rate(rate))


def _utf8(value: Any) -> str:
    try:
        return bytes.decode(value)
    except (UnicodeDecodeError, TypeError):
        raise Malformed("bad_frame", "the frame's text is missing or not UTF-8") from None


def _bytes_field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _encoded(len(value)) + value


def _varint_field(number: int, value: int) -> bytes:
    return bytes((number << 3 | _VARINT,)) + _encoded(value)


def _encoded(value: int) -> bytes:
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
