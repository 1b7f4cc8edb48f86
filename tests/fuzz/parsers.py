"""Everything that reads bytes or text of others inside the process, each as a function of a `Mutator`.

A target may raise BadInput and nothing else; what it returns is checked by the target itself.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from duologue.agents.engine import EngineConfig
from duologue.audio.g711 import A_LAW, MU_LAW
from duologue.audio.pcm import MAX_SAMPLE_RATE
from duologue.audio.resample import MonoAt, Resampler
from duologue.audio.wav import read_wav
from duologue.errors import BadInput
from duologue.frames.codec import decode, encode, frame_types
from duologue.frames.text import well_formed, well_formed_data
from duologue.protocols.openai_realtime.response import ServerItem, ServerResponse
from duologue.protocols.openai_realtime.session import RealtimeServerSession
from duologue.services.google.dialect import GeminiDialect
from duologue.services.google.options import GeminiLiveOptions, live_family
from duologue.services.openai.dialect import OpenAIDialect
from duologue.services.openai.options import OpenAIRealtimeOptions
from duologue.services.sentences import SentenceSplitter
from duologue.services.spoken_text import Reader
from duologue.services.thoughts import ModelText, ThoughtsGiven
from duologue.testing.parrot.stt import ParrotSTTDialect
from duologue.testing.parrot.wire import decode_parrot
from duologue.transports.websocket.pipecat_frames import PipecatSerializer
from duologue.transports.websocket.serializers import (
    DuologueClientSerializer,
    DuologueSerializer,
    FastRtcSerializer,
    Serializer,
)
from duologue.web.rtvi.messages import (
    ClientMessage,
    ClientReady,
    DtmfKeys,
    FunctionCallResult,
    RawAudio,
    RtviWords,
    SendFile,
    SendText,
    is_plain,
    read_data,
)
from tests.fuzz import samples
from tests.fuzz.mutation import TEXTS, Mutator

Target = Callable[[Mutator], Any]


class Silent:
    """A backend that answers every other question, and takes everything."""

    def __init__(self) -> None:
        self.sent = self.asked = 0
        self.session = RealtimeServerSession(self.send, self, model="m", tag="t", expires_at=0)

    def send(self, event: dict[str, Any]) -> None:
        self.sent += 1

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None: ...

    def audio(self, pcm: bytes, rate: int) -> None: ...

    def cleared(self) -> None: ...

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None: ...

    def created(self, item: ServerItem, place: int) -> None: ...

    def deleted(self, item: ServerItem) -> None: ...

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None: ...

    def check_response(self, asked: dict[str, Any]) -> None: ...

    def respond(self, response: ServerResponse) -> None:
        self.asked += 1
        response.say("word")
        response.voice(bytes(4800))
        if self.asked % 2:
            response.finish()

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        return None


def serializer(make: Callable[[], Serializer], valid: list[Any]) -> Target:
    """Return the target of a serializer of JSON messages."""

    def take(mutator: Mutator) -> None:
        data = mutator.noise() if mutator.chance(0.1) else mutator.message(valid)
        if mutator.chance(0.05) and isinstance(data, str):
            data = data.encode("utf-8", "replace")
        make().parse(data)

    return take


def protobuf(mutator: Mutator) -> None:
    """Pipecat's frames: fields and bytes changed, and RTVI messages inside."""
    if mutator.chance(0.3):
        data = samples.frame_of(mutator.message(samples.RTVI))
    else:
        data = mutator.mangled(mutator.random.choice(samples.PROTOBUF))
    PipecatSerializer(words=RtviWords()).parse(data)


_RTVI = (ClientMessage, ClientReady, DtmfKeys, FunctionCallResult, RawAudio, SendFile, SendText)


def rtvi(mutator: Mutator) -> None:
    """The data of RTVI's requests."""
    found = DuologueSerializer(words=RtviWords()).parse(mutator.message(samples.RTVI))
    if isinstance(found, dict) and is_plain(found):
        read = read_data(found.get("data"), mutator.random.choice(_RTVI))
        if isinstance(read, SendFile):
            read.image()
        elif isinstance(read, RawAudio):
            read.pcm()


_backends: list[Silent] = []


def realtime(mutator: Mutator) -> None:
    """A session of the Realtime API, which answers whatever comes with events. A session takes 500 events."""
    if not _backends or mutator.chance(0.002):
        _backends[:] = [Silent()]
    session = _backends[0].session
    message = mutator.message(samples.REALTIME)
    if mutator.chance(0.3) and session.items:
        message = message.replace("item_1", mutator.random.choice(session.items).id)
    session.receive(mutator.noise() if mutator.chance(0.02) else message)


def frames(mutator: Mutator) -> None:
    """The codec of frames, in both formats."""
    kind = mutator.random.choice(frame_types())
    try:
        frame = kind()
    except (TypeError, BadInput):
        return
    if mutator.chance(0.5):
        decode(mutator.mangled(encode(frame)), "msgpack")
        return
    text = mutator.message([json.loads(encode(frame, "json"))])
    again = decode(text.encode("utf-8", "surrogatepass"), "json")
    decode(encode(again))


_directory = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def wav(mutator: Mutator) -> None:
    """Files that call themselves WAV."""
    data = mutator.random.choice(samples.WAVS)
    data = mutator.mangled(data[: mutator.random.choice((60, 200, len(data)))])
    path = Path(_directory.name, "fuzz.wav")
    path.write_bytes(data)
    found = read_wav(path)
    assert found.sample_rate > 0


def resampler(mutator: Mutator) -> None:
    """Any two rates, and pieces of any length: the length of the result is exact."""
    random = mutator.random
    rates = [
        random.choice((8_000, 16_000, 24_000, 44_100, 48_000, random.randint(-5, MAX_SAMPLE_RATE + 5))) for _ in "ab"
    ]
    resampler = Resampler(*rates)
    pcm = random.randbytes(2 * random.randint(0, 2_000))
    pieces = [piece[: len(piece) // 2 * 2] for piece in mutator.pieces(pcm)]
    samples_in = sum(len(piece) for piece in pieces) // 2
    out = b"".join(resampler.process(piece) for piece in pieces) + resampler.flush()
    assert abs(len(out) / 2 - samples_in * rates[1] / rates[0]) <= 1.0, (rates, samples_in, len(out))


def mono(mutator: Mutator) -> None:
    """Audio of any rate and number of channels, which may change."""
    converter = MonoAt(16_000)
    for _ in range(3):
        rate = mutator.random.choice((8_000, 44_100, 48_000, 0, -1, 10**9))
        with suppress(BadInput):
            converter.process(mutator.noise(), rate, mutator.random.choice((0, 1, 1, 2, 2, 7, -1)))


def telephone(mutator: Mutator) -> None:
    """µ-law and A-law of any bytes."""
    noise = mutator.noise()
    for law in (MU_LAW, A_LAW):
        assert len(law.decode(noise)) == 2 * len(noise)
        law.encode(noise)


def words(mutator: Mutator) -> str:
    """Return a text of pieces of all scripts."""
    parts = [
        mutator.random.choice((*TEXTS, "Dr. Who", "3.14", "Hello.", " a b ", "e.g. x", "…", "?!")) for _ in range(9)
    ]
    return mutator.text(" ".join(parts))


def sentences(mutator: Mutator) -> None:
    """The splitter of sentences keeps every character, wherever the text is cut."""
    text, splitter = words(mutator), SentenceSplitter()
    found = [sentence for piece in mutator.pieces(text) for sentence in splitter.feed(piece)]
    rest = splitter.flush()
    assert "".join("".join([*found, rest]).split()) == "".join(text.split())


def texts(mutator: Mutator) -> None:
    """Texts where they enter, and where they are spoken."""
    text = words(mutator)
    good = well_formed(text)
    good.encode()
    assert well_formed(good) == good
    read = Reader().read(good)
    assert read.shown == good
    well_formed_data(mutator.changed({"a": [text, {"b": text}], text: None}))


def thoughts(mutator: Mutator) -> None:
    """Thoughts in pieces. A model that turns out to begin with them is broken off."""
    model = ModelText(thinks_first=mutator.chance(0.5))
    text = words(mutator) + mutator.random.choice(("<think>x</think>", "</think>", "<|end|>", "<"))
    with suppress(ThoughtsGiven):
        for piece in mutator.pieces(text):
            model.feed(piece)
        model.flush()


def openai(mutator: Mutator) -> None:
    """OpenAI's events, some in a row."""
    dialect = OpenAIDialect("gpt-realtime", EngineConfig(), OpenAIRealtimeOptions())
    _read(dialect, mutator, samples.OPENAI)


def gemini(mutator: Mutator) -> None:
    """Gemini's messages, some in a row."""
    options = GeminiLiveOptions()
    _read(GeminiDialect(EngineConfig(), options, live_family("gemini-3.8-live")), mutator, samples.GEMINI)


def parrot(mutator: Mutator) -> None:
    """Parrot's messages."""
    _read(ParrotSTTDialect(), mutator, samples.PARROT)
    decode_parrot(mutator.message(samples.PARROT))


def _read(dialect: Any, mutator: Mutator, valid: list[Any]) -> None:
    for _ in range(3):
        data: str | bytes = mutator.message(valid)
        with suppress(BadInput):
            dialect.read(mutator.noise() if mutator.chance(0.02) else data)


TARGETS: dict[str, Target] = {
    "plain JSON": serializer(lambda: DuologueSerializer(words=RtviWords()), samples.PLAIN),
    "plain JSON, the client's end": serializer(DuologueClientSerializer, samples.PLAIN),
    "FastRTC's WebSocket": serializer(FastRtcSerializer, samples.FASTRTC),
    "protobuf": protobuf,
    "RTVI": rtvi,
    "Realtime session": realtime,
    "frame codec": frames,
    "WAV": wav,
    "resampler": resampler,
    "mono": mono,
    "telephone codecs": telephone,
    "sentences": sentences,
    "texts": texts,
    "thoughts": thoughts,
    "OpenAI's dialect": openai,
    "Gemini's dialect": gemini,
    "Parrot's dialect": parrot,
}


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


@dataclass
class Finding:
    """The figures of one target."""

    inputs: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    memory_growth_mb: float = 0.0
    unexpected: Counter[str] = field(default_factory=Counter)
    seeds: list[str] = field(default_factory=list)
    """Seeds of unexpected exceptions."""


def fuzz(name: str, *, seed: int = 1, inputs: int = 1_000, seconds: float = math.inf) -> Finding:
    """Feed a target with hostile inputs, until there were `inputs` or `seconds` have passed."""
    target, finding, until = TARGETS[name], Finding(), time.monotonic() + seconds
    warm_mb = 0.0
    while finding.inputs < inputs and time.monotonic() < until:
        key = f"{name}-{seed}-{finding.inputs}"
        finding.inputs += 1
        if finding.inputs == min(inputs, 20_000) // 5 + 1:
            warm_mb = _memory_mb()
        began = time.thread_time()
        try:
            target(Mutator(key))
        except BadInput:
            finding.refused += 1
        except Exception as error:
            finding.unexpected[f"{type(error).__name__}: {error}"[:200]] += 1
            finding.seeds.append(key)
        finding.slowest_s = max(finding.slowest_s, time.thread_time() - began)
    finding.memory_growth_mb = _memory_mb() - (warm_mb or _memory_mb())
    return finding


def _memory_mb() -> float:
    gc.collect()
    if _malloc_trim is not None:  # what the allocator keeps for later is not in use
        _malloc_trim(0)
    return float(psutil.Process().memory_full_info().uss) / 1024 / 1024
