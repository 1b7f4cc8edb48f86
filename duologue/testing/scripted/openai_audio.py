"""`/v1/audio/speech`, `/v1/audio/transcriptions` and `/v1/models` of a scripted OpenAI, with their scripts and faults.

async with ScriptedOpenAIHTTP() as server:
    server.speech.faults = [Reject(429, "rate_limit_exceeded", retry_after_s=1.0), "cut"]
    server.transcriptions.transcripts = ["hello"]
"""

from __future__ import annotations

import asyncio
import io
import math
import re
import wave
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from ...errors import MissingExtra
from ...services.openai.tts_options import MAX_INPUT, TTS_RATE, voices_of
from ..tones import tone
from .http import HTTPRequest
from .languages import words_before_space
from .manners import Manners, sleep
from .openai_http import OpenAIServer, error, plain_fields
from .server import SPEECH_CHARACTERS_PER_S
from .text_model import Reject

try:
    from openai.types.audio import Transcription, TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent
except ImportError as problem:
    raise MissingExtra("a scripted OpenAI", "openai", str(problem)) from problem

SpeechFault: TypeAlias = Reject | Literal["reset", "cut", "stall", "stall-before", "silent", "odd", "garbage", "wav"]
"""A fault of one request: a refusal; a connection that breaks off, or stalls, after half of the audio; nothing at all
for ever; no audio; an odd number of bytes; JSON or a WAV file in the place of audio."""
TranscriptionFault: TypeAlias = Reject | Literal["reset", "cut", "stall", "stall-before", "no-end", "twice", "garbage"]
"""A fault of one request: a refusal; a connection that breaks off, or stalls, after half of the words; nothing at all
for ever; a text without its end; its end twice; something else in its place."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Custom(_Strict):
    id: Annotated[str, Meta(pattern="^voice_")]


class SpeechBody(_Strict):
    """The body of a request for speech."""

    model: Annotated[str, Meta(min_length=1)]
    input: Annotated[str, Meta(min_length=1, max_length=MAX_INPUT)]
    voice: str | _Custom
    instructions: str = ""
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    stream_format: Literal["sse", "audio"] = "audio"


class SpeechRoute:
    """Speech: a tone whose length follows the text. Its attributes may be changed at any time."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        self.first_byte_s = 0.0
        """Seconds before the audio."""
        self.pace = 0.0
        """The speed of the audio relative to real time; 0 for all at once."""
        self.chunk_bytes = 4_800
        """Bytes of audio in each piece; an odd number splits samples."""
        self.faults: list[SpeechFault | None] = []
        """The faults of the next requests, one for each; None for none."""
        self.voices: tuple[str, ...] | None = None
        """The voices that the server has, None for those of OpenAI's model."""
        self.audio: Callable[[str], bytes] | None = None
        """Returns the audio of a text, mono s16le at 24 kHz; None for a tone."""
        self._spoiled: set[str] = set()
        """The texts that a plan of faults has spoiled: they are spared when they are asked for again."""
        server.route("POST", "/v1/audio/speech", self.speak)

    @property
    def requests(self) -> list[HTTPRequest]:
        """The requests for speech, in the order of their arrival."""
        return [request for request in self._server.requests if request.path == "/v1/audio/speech"]

    @property
    def texts(self) -> list[str]:
        """The texts of these requests."""
        return [str(request.json.get("input")) for request in self.requests]

    async def speak(self, request: HTTPRequest) -> None:
        """Answer a request with a stream of audio."""
        try:
            plain = request.json
            body = msgspec.convert(plain, SpeechBody)
        except (ValueError, TypeError) as problem:
            await error(request, 400, f"Invalid request: {problem}", "invalid_request_error", "invalid_value")
            return
        if not await self._server.check(request, plain):
            return
        known = voices_of(body.model) if self.voices is None else self.voices
        if isinstance(body.voice, str) and body.voice not in known:
            message = f"Invalid value: '{body.voice}'. Supported values are: {', '.join(known)}."
            await error(request, 400, message, "invalid_request_error", "invalid_value", "voice")
            return
        if body.response_format != "pcm":
            message = f"This server has no format {body.response_format}."
            await error(request, 400, message, "invalid_request_error", "invalid_value", "response_format")
            return
        await self._stream(request, body)

    async def _stream(self, request: HTTPRequest, body: SpeechBody) -> None:
        fault = self.faults.pop(0) if self.faults else None
        before_s, middle_s = self.first_byte_s, 0.0
        if fault is None and (manners := self._server.manners) is not None and body.input not in self._spoiled:
            fault, stall_s, middle_s = _drawn(manners, body.input)
            before_s += stall_s
            if fault or stall_s or middle_s:
                self._spoiled.add(body.input)
        if isinstance(fault, Reject):
            await reject(request, fault)
            return
        await sleep(math.inf if fault == "stall-before" else before_s)
        rate = SPEECH_CHARACTERS_PER_S * body.speed
        pcm = self.audio(body.input) if self.audio is not None else tone(len(body.input) / rate, TTS_RATE)
        if fault == "garbage":
            await request.answer_json(200, {"detail": "no speech today"})
            return
        await request.begin(200, {"Content-Type": "audio/pcm"})
        pcm = {"silent": b"", "odd": pcm + b"\0", "wav": b"RIFF" + pcm}.get(fault or "", pcm)
        half = len(pcm) // 4 * 2
        await self._send(request, pcm[:half])
        if fault in ("cut", "reset"):
            request.cut(reset=fault == "reset")
            return
        await sleep(math.inf if fault == "stall" else middle_s)
        await self._send(request, pcm[half:])
        await request.end()

    async def _send(self, request: HTTPRequest, pcm: bytes) -> None:
        manners = self._server.manners
        for start in range(0, len(pcm), self.chunk_bytes):
            chunk = pcm[start : start + self.chunk_bytes]
            for piece in [chunk] if manners is None else manners.cut(chunk, "speak", "speech"):
                await request.send(piece)
            await asyncio.sleep(len(chunk) / (2 * TTS_RATE) / self.pace if self.pace else 0)


def _drawn(manners: Manners, text: str) -> tuple[SpeechFault | None, float, float]:
    """Return the fault of a request under a plan of faults, and the seconds by which it stalls at first and later."""
    where = f"speech of {text!r}"
    match manners.spoils("speak", where):
        case "empty-answer" | "words-without-audio":
            return "silent", 0.0, 0.0
        case "stall-before":
            return None, manners.stall_s(), 0.0
        case "rate-limit":
            return Reject(429, *manners.limit()), 0.0, 0.0
    return None, 0.0, manners.stall_s() if manners.spoil("stall-in-the-middle", "speak", where) else 0.0


class TranscriptionBody(_Strict):
    """The fields of the form of a request for a transcription, besides the file."""

    model: Annotated[str, Meta(min_length=1)]
    language: Annotated[str, Meta(pattern="^[a-z]{2}$")] | None = None
    languages: list[Annotated[str, Meta(pattern="^[a-z]{2}$")]] = []
    prompt: str = ""
    keywords: list[str] = []
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0
    stream: bool = False
    include: list[Literal["logprobs"]] = []
    chunking_strategy: str | None = None


class TranscriptionRoute:
    """Transcriptions of files. Its attributes may be changed at any time."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        self.transcripts: Sequence[str] | Callable[[bytes], str] = ()
        """The texts of the files, one after the other, or a recogniser of their audio (mono s16le at 16 kHz)."""
        self.delay_s = 0.0
        """Seconds before the text."""
        self.word_s = 0.0
        """Seconds between words."""
        self.piece_bytes = 0
        """Bytes of each piece of a stream, which may end inside a character; 0 for whole events."""
        self.faults: list[TranscriptionFault | None] = []
        """The faults of the next requests, one for each; None for none."""
        self.audio: list[bytes] = []
        """The audio of each request, mono s16le."""
        server.route("POST", "/v1/audio/transcriptions", self.transcribe)

    async def transcribe(self, request: HTTPRequest) -> None:
        """Answer a request with a text, in a stream of events if it asks for one."""
        try:
            fields, file = form(request)
            request.notes["form"] = fields
            body = msgspec.convert(fields, TranscriptionBody, strict=False)
            pcm, rate = wave_audio(*file)
        except (ValueError, TypeError, EOFError, wave.Error) as problem:
            message = f"Invalid request: {str(problem) or 'the file is no WAV file'}"
            await error(request, 400, message, "invalid_request_error", "invalid_value")
            return
        request.notes["sample_rate"] = rate
        if not await self._server.check(request, fields):
            return
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Reject):
            await reject(request, fault)
            return
        self.audio.append(pcm)
        await asyncio.sleep(math.inf if fault == "stall-before" else self.delay_s)
        if fault == "garbage":
            await request.answer(200, b"<html>moved</html>", {"Content-Type": "text/html"})
            return
        text = self._understood(pcm)
        if body.stream and not re.match("whisper-1", body.model):
            await self._stream(request, text, fault)
        else:
            whole = {"text": text, "usage": {"type": "duration", "seconds": math.ceil(len(pcm) / 2 / rate)}}
            plain_fields(whole, Transcription)
            await request.answer_json(200, whole)

    def _understood(self, pcm: bytes) -> str:
        transcripts = self.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        self.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""

    async def _stream(self, request: HTTPRequest, text: str, fault: str | None) -> None:
        await request.begin(200, {"Content-Type": "text/event-stream; charset=utf-8"})
        words = words_before_space(text)
        broken = fault in ("cut", "reset", "stall")
        deltas = [
            _event({"type": "transcript.text.delta", "delta": word}, TranscriptionTextDeltaEvent) for word in words
        ]
        half = len(words) // 2
        for event in deltas[:half] if broken else deltas:
            await self._send(request, event)
            await asyncio.sleep(self.word_s)
        if broken:
            # The rest of the event is missing, from inside its text.
            await self._send(request, deltas[half][:-6] if half < len(deltas) else b"data: {")
            if fault == "stall":
                await sleep(math.inf)
            request.cut(reset=fault == "reset")
            return
        usage = {"type": "tokens", "input_tokens": 10, "output_tokens": len(words), "total_tokens": 10 + len(words)}
        done = {"type": "transcript.text.done", "text": text, "usage": usage}
        for _ in range({"no-end": 0, "twice": 2}.get(fault or "", 1)):
            await self._send(request, _event(done, TranscriptionTextDoneEvent))
        await request.end()

    async def _send(self, request: HTTPRequest, event: bytes) -> None:
        step = self.piece_bytes or len(event)
        for start in range(0, len(event), step):
            await request.send(event[start : start + step])


class ModelRoute:
    """The list of models, one by one."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        server.route("GET", "/v1/models/*", self.tell)

    async def tell(self, request: HTTPRequest) -> None:
        """Tell a model."""
        name = request.path.rpartition("/")[2]
        if await self._server.check(request, {"model": name}):
            await request.answer_json(200, {"id": name, "object": "model", "created": 1, "owned_by": "openai"})


def _event(event: dict[str, Any], known: Any) -> bytes:
    """Return an event of a stream, checked by the SDK's type."""
    plain_fields(event, known)
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


async def reject(request: HTTPRequest, fault: Reject) -> None:
    """Refuse a request as a script says."""
    wait = {} if fault.retry_after_s is None else {"Retry-After": f"{fault.retry_after_s:g}"}
    await error(request, fault.status, fault.message, "server_error", fault.code, headers=wait)


def form(request: HTTPRequest) -> tuple[dict[str, Any], tuple[str, bytes]]:
    """Return the fields of a form (RFC 7578), and the name and the content of its `file`. Raises ValueError."""
    found = re.fullmatch(r'multipart/form-data; ?boundary="?([^"]+)"?', request.headers.get("content-type", ""))
    if found is None:
        raise ValueError("a form of the type multipart/form-data is expected")
    fields: dict[str, Any] = {}
    file: tuple[str, bytes] | None = None
    for part in request.body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        named = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
        name = named.get("name", "")
        if "filename" in named:
            file = (named["filename"], content)
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(content.decode())
        else:
            fields[name] = content.decode()
    if file is None:
        raise ValueError("a field 'file' is missing")
    return fields, file


def wave_audio(name: str, content: bytes) -> tuple[bytes, int]:
    """Return the audio of a WAV file, and its sample rate. Raises ValueError for another format."""
    if not name.endswith(".wav"):
        raise ValueError(f"{name!r}: this server takes files whose name ends in .wav")
    with wave.open(io.BytesIO(content)) as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            raise ValueError("the audio is not mono with 16 bits")
        return file.readframes(file.getnframes()), file.getframerate()
