"""Serializers: each translates between WebSocket messages in one dialect and our types. They do no I/O."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import msgspec

from ...audio.g711 import MU_LAW
from ...errors import BadInput
from ...frames.text import from_json, to_json
from ..client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE, Message, Words

MULAW_SAMPLE_RATE = 8_000
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 96_000
MAX_PLAYED_MS = 1e12
RATE_STEP = 25
"""Sample rates must be multiples of this, in Hz. All customary rates are."""


class Malformed(BadInput):
    """A message that cannot be understood. `code` is a word for programs. The text quotes nothing of the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio of the far end: s16le mono, cut at any byte, `sample_rate` in Hz."""

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class TypedText:
    """Text that the caller typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Played:
    """The milliseconds of our audio that were played since the beginning, or since the last clear."""

    ms: float


@dataclass(frozen=True, slots=True)
class Ping:
    """The far end asks for a sign of life."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The far end ends the call."""


Received = Audio | TypedText | Played | Ping | Stop | Message
"""The content of one message. A JSON object that is not one of the others is a message for the listeners."""
Wired = str | bytes
"""One WebSocket message, text or binary."""


class Serializer:
    """The base of all dialects. A method returns None, and nothing is sent, if the dialect does not have the message.

    `input_sample_rate` is the rate of incoming audio, unless the dialect gives it with each piece;
    `output_sample_rate` is the rate of outgoing audio; both in Hz. `words` is the protocol of the messages that the
    dialect carries.
    """

    def __init__(
        self,
        *,
        input_sample_rate: int = INPUT_SAMPLE_RATE,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
        words: Words | None = None,
    ) -> None:
        self.input_sample_rate = input_sample_rate
        self.output_sample_rate = output_sample_rate
        self.words = words or Words()

    def parse(self, data: Wired) -> Received | None:
        """Return the content of a message of the far end, None if there is nothing to do. Raises Malformed."""
        raise NotImplementedError

    def audio(self, pcm: bytes) -> Wired:
        """Return the message for a piece of our audio, s16le mono at `output_sample_rate`."""
        raise NotImplementedError

    def clear(self) -> Wired | None:
        """Return the message to drop unplayed audio. None if the far end plays all its audio."""
        return None

    def message(self, message: Message) -> Wired | None:
        """Return a message of the application or a protocol. Raises TypeError for an object that is not JSON."""
        return None

    def event(self, kind: str, **fields: Any) -> Wired | None:
        """Return the message for an event of the call."""
        return None

    def error(self, code: str, message: str) -> Wired | None:
        """Return the message for an error, of the far end or of ours."""
        return None

    def pong(self) -> Wired | None:
        """Return the answer to a ping."""
        return None


class DuologueSerializer(Serializer):
    """JSON objects with a `type`, and audio as base64 or, both ways, as binary messages of PCM.

    `binary` selects the form of outgoing audio; incoming audio may have either form. Objects that `words` owns are
    messages for the listeners.
    """

    def __init__(
        self,
        *,
        binary: bool = False,
        input_sample_rate: int = INPUT_SAMPLE_RATE,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
        words: Words | None = None,
    ) -> None:
        super().__init__(input_sample_rate=input_sample_rate, output_sample_rate=output_sample_rate, words=words)
        self.binary = binary
        self._tail = f'","sample_rate":{output_sample_rate}}}'

    def parse(self, data: Wired) -> Received | None:
        if isinstance(data, bytes):
            return Audio(data, self.input_sample_rate)
        message = json_object(data)
        if self.words.owns(message):
            return message
        kind = message.get("type")
        if kind == "audio":
            return Audio(from_base64(message.get("data")), self.input_sample_rate)
        if kind == "played":
            return Played(_milliseconds(message.get("ms")))
        if kind == "ping":
            return Ping()
        if kind in ("talk", "playback"):
            return message
        raise Malformed("unknown_type", "the message's type is none of audio, played, ping, talk, playback")

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


class DuologueClientSerializer(Serializer):
    """The client's end of `DuologueSerializer`. Everything from the server but audio is a message for the listeners."""

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
            return Audio(data, self.input_sample_rate)
        message = json_object(data)
        if message.get("type") == "audio" and "label" not in message:  # another protocol has a label
            rate = message.get("sample_rate", self.input_sample_rate)
            return Audio(from_base64(message.get("data")), checked_rate(rate))
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
            raise Malformed("binary_message", "this endpoint takes JSON, not binary messages")
        message = json_object(data)
        kind = message.get("event")
        if kind == "media":
            media = message.get("media")
            code = from_base64(media.get("payload") if isinstance(media, dict) else None)
            return Audio(MU_LAW.decode(code), self.input_sample_rate)
        if kind == "ping":
            return Ping()
        if kind == "stop":
            return Stop()
        if kind == "start":
            return None
        raise Malformed("unknown_event", "the message's event is none of start, media, ping, stop")

    @staticmethod
    def connection_id(data: Wired) -> str:
        """Return the `websocket_id` of a connection's first message. Raises Malformed for any other message."""
        message = json_object(data) if isinstance(data, str) else {}
        found = message.get("websocket_id")
        if message.get("event") != "start" or not isinstance(found, str) or not 1 <= len(found) <= 100:
            raise Malformed("start_expected", "a connection begins with the event start, and a websocket_id")
        return found

    @staticmethod
    def refusal(code: str, limit: int | None = None) -> str:
        """Return the message for a connection that is refused."""
        return to_json({"status": "failed", "meta": {"error": code} | ({"limit": limit} if limit else {})})

    def audio(self, pcm: bytes) -> Wired:
        return f'{{"event":"media","media":{{"payload":"{b64encode(MU_LAW.encode(pcm)).decode()}"}}}}'

    def error(self, code: str, message: str) -> Wired | None:
        return to_json({"type": "error", "data": message})

    def pong(self) -> Wired | None:
        return '{"event":"pong"}'


def json_object(text: str | bytes) -> Message:
    """Parse a JSON object. Raises Malformed."""
    try:
        found = from_json(text)
    except msgspec.DecodeError:
        raise Malformed("bad_json", "the message is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("bad_json", "the message is JSON, but not an object")
    return found


def from_base64(data: Any) -> bytes:
    """Return the bytes of a base64 text. Raises Malformed."""
    if not isinstance(data, str):
        raise Malformed("bad_audio", "audio is given as a string of base64")
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise Malformed("bad_audio", "the audio is not base64") from None


def checked_rate(rate: Any) -> int:
    """Return the sample rate if it is a valid rate for speech. Raises Malformed."""
    if type(rate) is not int or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or rate % RATE_STEP:
        known = f"a multiple of {RATE_STEP} from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        raise Malformed("bad_audio", f"the sample rate is not {known}")
    return rate


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_PLAYED_MS:
        raise Malformed("bad_message", "ms is not a number of milliseconds")
    return float(value)
