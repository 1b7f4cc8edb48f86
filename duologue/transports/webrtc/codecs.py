"""The codecs of WebRTC calls: Opus, and G.711 for far ends that have nothing else, such as telephone gateways."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Literal, Protocol

from ...audio.g711 import A_LAW, G711, MU_LAW
from ...audio.resample import Resampler
from ...errors import MissingExtra

try:
    import av
except ImportError as error:
    raise MissingExtra("WebRTC", "webrtc", str(error)) from error

CodecName = Literal["opus", "PCMU", "PCMA"]

RTP_RATES: dict[CodecName, int] = {"opus": 48_000, "PCMU": 8_000, "PCMA": 8_000}
"""The sample rate of each codec on the wire, in Hz."""
BIT_RATE = 32_000
COMPLEXITY = "3"
"""libopus's complexity, 0 to 10. A higher one costs up to 40 % more and improves speech at this bit rate little."""

_G711: dict[CodecName, G711] = {"PCMU": MU_LAW, "PCMA": A_LAW}
_STATIC: dict[str, CodecName] = {"0": "PCMU", "8": "PCMA"}  # payload types that need no rtpmap
_AUDIO = re.compile(r"^m=audio \d+ \S+ ([\d ]+)", re.MULTILINE)
_RTPMAP = re.compile(r"^a=rtpmap:(\d+) (opus|PCMU|PCMA)/", re.MULTILINE | re.IGNORECASE)


class Encoder(Protocol):
    """Encodes the agent's audio."""

    def encode(self, chunk: bytes) -> bytes:
        """Return 20 ms of s16le mono as the payload of a packet."""


class Decoder(Protocol):
    """Decodes the caller's audio."""

    def decode(self, payload: bytes) -> bytes:
        """Return the payload of a packet as s16le mono at the codec's rate, b"" for one that cannot be decoded."""


def offered_codec(sdp: str) -> CodecName | None:
    """Return the best codec of an offer's audio: Opus, or else G.711. None if it has neither."""
    audio = _AUDIO.search(sdp)
    types = audio[1].split() if audio is not None else []
    names = {_STATIC[kind] for kind in types if kind in _STATIC}
    by_name: dict[str, CodecName] = {"opus": "opus", "pcmu": "PCMU", "pcma": "PCMA"}
    names |= {by_name[found[2].lower()] for found in _RTPMAP.finditer(sdp) if found[1] in types}
    return next((name for name in RTP_RATES if name in names), None)


def make_encoder(codec: CodecName, sample_rate: int) -> Encoder:
    """Return an encoder for audio at `sample_rate` Hz."""
    return _OpusEncoder(sample_rate) if codec == "opus" else _G711Encoder(_G711[codec], sample_rate)


def make_decoder(codec: CodecName) -> Decoder:
    """Return a decoder."""
    return _OpusDecoder() if codec == "opus" else _G711Decoder(_G711[codec])


class _OpusEncoder:
    def __init__(self, sample_rate: int) -> None:
        encoder: Any = av.CodecContext.create("libopus", "w")
        encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", sample_rate
        encoder.bit_rate, encoder.time_base = BIT_RATE, Fraction(1, sample_rate)
        encoder.options = {
            "application": "voip",
            "compression_level": COMPLEXITY,
            "fec": "1",
            "frame_duration": "20",
            "packet_loss": "10",
        }
        self._encoder, self._rate = encoder, sample_rate

    def encode(self, chunk: bytes) -> bytes:
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(chunk) // 2)
        frame.sample_rate = self._rate
        frame.planes[0].update(chunk)
        return bytes(self._encoder.encode(frame)[0])


class _OpusDecoder:
    def __init__(self) -> None:
        decoder: Any = av.CodecContext.create("libopus", "r")
        decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", RTP_RATES["opus"]
        self._decoder = decoder

    def decode(self, payload: bytes) -> bytes:
        try:
            frames = self._decoder.decode(av.Packet(payload)) if payload else []
        except av.FFmpegError:
            frames = []
        return b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)


class _G711Encoder:
    def __init__(self, code: G711, sample_rate: int) -> None:
        self._code = code
        self._resampler = Resampler(sample_rate, RTP_RATES["PCMU"])
        self._size = 2 * RTP_RATES["PCMU"] // 50
        self._ready = bytearray()

    def encode(self, chunk: bytes) -> bytes:
        self._ready += self._resampler.process(chunk)
        # The resampler gives its first samples late: silence goes before them, once.
        pcm = bytes(self._ready[: self._size]).rjust(self._size, b"\0")
        del self._ready[: self._size]
        return self._code.encode(pcm)


class _G711Decoder:
    def __init__(self, code: G711) -> None:
        self._code = code

    def decode(self, payload: bytes) -> bytes:
        return self._code.decode(payload)
