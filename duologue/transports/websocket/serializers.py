"""What is said on a WebSocket, and in which words: a serializer translates one dialect. None does any I/O."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import msgspec

from ...audio import mulaw
from ...audio.pcm import BYTES_PER_SAMPLE
from ...errors import BadInput
from ..client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE, Message

RTVI_LABEL = "rtvi-ai"
MULAW_SAMPLE_RATE = 8_000
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 96_000
RATE_STEP = 25
"""Of the rates that audio may have; all customary ones are such multiples."""


class Malformed(BadInput):
    """A message that means nothing here. `code` is a word for programs; the text quotes nothing of the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio of the far end: s16le mono."""

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Text:
    """The caller has typed this."""

    text: str


@dataclass(frozen=True, slots=True)
class Played:
    """So many ms of our audio have been played since the beginning, or since it was last cleared."""

    ms: float


@dataclass(frozen=True, slots=True)
class Ping:
    """The far end asks for a sign of life."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The far end ends the call."""


Received = Audio | Text | Played | Ping | Stop | Message
"""What comes: a JSON object that is none of the others is a message for whoever listens."""
Wired = str | bytes


class Serializer:
    """The base of all dialects: what a dialect has no words for is None, and is not sent.

    `input_sample_rate` is that of the audio that comes, if the dialect does not say it with each piece;
    `output_sample_rate` that of what is sent.
    """

    def __init__(
        self, *, input_sample_rate: int = INPUT_SAMPLE_RATE, output_sample_rate: int = OUTPUT_SAMPLE_RATE
    ) -> None:
        self.input_sample_rate = input_sample_rate
        self.output_sample_rate = output_sample_rate

    def parse(self, data: Wired) -> Received | None:
        """What a message of the far end's means; None if nothing is to be done. Raises Malformed."""
        raise NotImplementedError

    def audio(self, pcm: bytes) -> Wired:
        """A piece of our audio, s16le mono at `output_sample_rate`."""
        raise NotImplementedError

    def clear(self) -> Wired | None:
        """The far end is to drop what it has not played. None: it will play all that it has got."""
        return None

    def message(self, message: Message) -> Wired | None:
        """A message that somebody here sends. Raises TypeError for what is not JSON."""
        return None

    def event(self, kind: str, **fields: Any) -> Wired | None:
        """Something has happened in the call."""
        return None

    def error(self, code: str, message: str) -> Wired | None:
        """Something was wrong."""
        return None

    def pong(self) -> Wired | None:
        """The sign of life that was asked for."""
        return None


class F1Serializer(Serializer):
    """JSON objects with a `type`, and audio as base64 or, both ways, as binary messages of PCM.

    `binary` chooses how ours is sent; whichever the client sends is understood. Objects with the label of RTVI are
    RTVI's.
    """

    def __init__(
        self,
        *,
        binary: bool = False,
        input_sample_rate: int = INPUT_SAMPLE_RATE,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
    ) -> None:
        super().__init__(input_sample_rate=input_sample_rate, output_sample_rate=output_sample_rate)
        self.binary = binary
        self._tail = f'","sample_rate":{output_sample_rate}}}'

    def parse(self, data: Wired) -> Received | None:
        if isinstance(data, bytes):
            return Audio(whole(data), self.input_sample_rate)
        message = json_object(data)
        if message.get("label") == RTVI_LABEL:
            return message
        kind = message.get("type")
        if kind == "audio":
            return Audio(whole(from_base64(message.get("data"))), self.input_sample_rate)
        if kind == "played":
            return Played(_milliseconds(message.get("ms")))
        if kind == "ping":
            return Ping()
        raise Malformed("unknown_type", "the message's type is none of audio, played, ping")

    def audio(self, pcm: bytes) -> Wired:
        if self.binary:
            return pcm
        return f'{{"type":"audio","data":"{b64encode(pcm).decode()}{self._tail}'

    def clear(self) -> Wired | None:
        return '{"type":"clear_audio"}'

    def message(self, message: Message) -> Wired | None:
        return to_json(message)

    def event(self, kind: str, **fields: Any) -> Wired | None:
        return to_json({"type": kind, **fields})

    def error(self, code: str, message: str) -> Wired | None:
        return to_json({"type": "error", "code": code, "message": message})

    def pong(self) -> Wired | None:
        return '{"type":"pong"}'


class F1ClientSerializer(Serializer):
    """The other end of `F1Serializer`. All that the server tells beside audio is a message for whoever listens."""

    def __init__(
        self,
        *,
        binary: bool = True,
        input_sample_rate: int = OUTPUT_SAMPLE_RATE,
        output_sample_rate: int = INPUT_SAMPLE_RATE,
    ) -> None:
        super().__init__(input_sample_rate=input_sample_rate, output_sample_rate=output_sample_rate)
        self.binary = binary

    def parse(self, data: Wired) -> Received | None:
        if isinstance(data, bytes):
            return Audio(whole(data), self.input_sample_rate)
        message = json_object(data)
        if message.get("type") == "audio" and message.get("label") != RTVI_LABEL:
            rate = message.get("sample_rate", self.input_sample_rate)
            return Audio(whole(from_base64(message.get("data"))), checked_rate(rate))
        return None if message.get("type") == "pong" else message

    def audio(self, pcm: bytes) -> Wired:
        return pcm if self.binary else f'{{"type":"audio","data":"{b64encode(pcm).decode()}"}}'

    def message(self, message: Message) -> Wired | None:
        return to_json(message)


class FastRtcSerializer(Serializer):
    """FastRTC's WebSocket: JSON objects with an `event`, and audio as base64 of µ-law."""

    def __init__(
        self, *, input_sample_rate: int = MULAW_SAMPLE_RATE, output_sample_rate: int = MULAW_SAMPLE_RATE
    ) -> None:
        super().__init__(input_sample_rate=input_sample_rate, output_sample_rate=output_sample_rate)

    def parse(self, data: Wired) -> Received | None:
        if isinstance(data, bytes):
            raise Malformed("binary_message", "this endpoint takes JSON, and no binary messages")
        message = json_object(data)
        kind = message.get("event")
        if kind == "media":
            media = message.get("media")
            code = from_base64(media.get("payload") if isinstance(media, dict) else None)
            return Audio(mulaw.decode(code), self.input_sample_rate)
        if kind == "ping":
            return Ping()
        if kind == "stop":
            return Stop()
        if kind == "start":
            return None
        raise Malformed("unknown_event", "the message's event is none of start, media, ping, stop")

    @staticmethod
    def connection_id(data: Wired) -> str:
        """The `websocket_id` of the message that a connection begins with. Raises Malformed for any other message."""
        message = json_object(data) if isinstance(data, str) else {}
        found = message.get("websocket_id")
        if message.get("event") != "start" or not isinstance(found, str) or not 1 <= len(found) <= 100:
            raise Malformed("start_expected", "a connection begins with the event start, and a websocket_id")
        return found

    @staticmethod
    def refusal(code: str, limit: int | None = None) -> str:
        """The connection is not served."""
        return to_json({"status": "failed", "meta": {"error": code} | ({"limit": limit} if limit else {})})

    def audio(self, pcm: bytes) -> Wired:
        return f'{{"event":"media","media":{{"payload":"{b64encode(mulaw.encode(pcm)).decode()}"}}}}'

    def error(self, code: str, message: str) -> Wired | None:
        return to_json({"type": "error", "data": message})

    def pong(self) -> Wired | None:
        return '{"event":"pong"}'


def json_object(text: str | bytes) -> Message:
    """A JSON object from its text. Raises Malformed."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Malformed("bad_json", "the message is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("bad_json", "the message is JSON, but no object")
    return found


def to_json(message: Message) -> str:
    """The text of a JSON object."""
    return msgspec.json.encode(message).decode()


def from_base64(data: Any) -> bytes:
    """Bytes from base64. Raises Malformed."""
    if not isinstance(data, str):
        raise Malformed("bad_audio", "audio is given as a string of base64")
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise Malformed("bad_audio", "the audio is not base64") from None


def whole(pcm: bytes, channels: int = 1) -> bytes:
    """PCM that splits no sample. Raises Malformed."""
    if len(pcm) % (BYTES_PER_SAMPLE * channels):
        raise Malformed("bad_audio", f"audio of {len(pcm)} bytes splits a sample of 16 bit")
    return pcm


def checked_rate(rate: Any) -> int:
    """A sample rate that speech may have, and that can be converted into any other. Raises Malformed."""
    if type(rate) is not int or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or rate % RATE_STEP:
        known = f"a multiple of {RATE_STEP} from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        raise Malformed("bad_audio", f"the sample rate is not {known}")
    return rate


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Malformed("bad_message", "ms is not a number of milliseconds")
    return float(value)
