"""`ScriptedElevenLabsHTTP`: ElevenLabs' text-to-speech over HTTP on loopback, with faults and a record.

async with ScriptedElevenLabsHTTP() as server:
    tts = ElevenLabsHTTPTTS(api_key="test", base_url=server.url)
"""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from ...errors import BadInput
from ..tones import tone
from .elevenlabs_rules import TTSBody, checked, refusal_body
from .elevenlabs_tts import timed
from .http import HTTPRequest, ScriptedHTTP
from .manners import UNKNOWN, Manners, sleep
from .server import SPEECH_CHARACTERS_PER_S
from .vendor import RARELY

Cut = Literal["", "in a line", "in a character", "reset"]
MAX_TEXT = 5_000
"""The most characters of a request: the least limit of a model."""


@dataclass(kw_only=True)
class SpeechBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from the next request on."""

    key: str = "test"
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next requests are refused."""
    retry_after_s: int = 0
    """Seconds that a refusal tells the client to wait; 0 for none."""
    first_audio_s: float = 0.0
    """Seconds before the first audio."""
    chunk_bytes: int = 4_800
    """Bytes of audio in each line; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    with_alignment: bool = True
    spoil_lines: int = 0
    """The number of lines that will not be JSON."""
    spoil_base64: int = 0
    """The number of lines whose audio will not be base64."""
    cut: Cut = ""
    """The place at which the next answer is cut, "" for none: its second line, or the first in it."""
    silent: bool = False
    """True: an answer has no line."""


class ScriptedElevenLabsHTTP(ScriptedHTTP):
    """ElevenLabs' server for requests. `requests` has each of them, with the text of its body in `notes`."""

    def __init__(self, *, manners: Manners | None = None, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        super().__init__(tls=tls)
        self.manners = manners or Manners(faults=[])
        self.behaviour = SpeechBehaviour(**behaviour)
        self._secure = tls is not None
        self.route("POST", "/v1/text-to-speech/*/stream/with-timestamps", self._speak)

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState outside of the `async with`."""
        return f"{'https' if self._secure else 'http'}://{self.address}"

    @property
    def texts(self) -> list[str]:
        """The text of each request that was answered with speech."""
        return [request.notes["text"] for request in self.requests if "text" in request.notes]

    async def admit(self, request: HTTPRequest) -> bool:
        """Refuse other keys, and as many requests as the behaviour says."""
        behaviour = self.behaviour
        headers = {"Retry-After": str(behaviour.retry_after_s)} if behaviour.retry_after_s else {}
        status = behaviour.refuse.pop(0) if behaviour.refuse else 0
        if not status and request.headers.get("xi-api-key") != behaviour.key:
            status = 401
        if status:
            await request.answer(status, refusal_body(status), {"Content-Type": "application/json", **headers})
        return not status

    async def _speak(self, request: HTTPRequest) -> None:
        try:
            body = checked(request.body, TTSBody)
            if len(body.text) > MAX_TEXT:
                raise BadInput(f"{len(body.text)} characters in a request: the limit is {MAX_TEXT}")
        except BadInput as error:
            self.failures.append(error)
            await request.answer_json(422, {"detail": [{"loc": ["body"], "msg": str(error), "type": "value_error"}]})
            return
        request.notes["text"] = body.text
        manners, where = self.manners, f"request {request.number}"
        match manners.spoils("speak", where):
            case "stall-before":
                await sleep(manners.stall_s())
            case "rate-limit":
                code, message = manners.limit()
                await request.answer_json(429, {"detail": {"status": code, "message": message}})
                return
            case "empty-answer" | "words-without-audio":
                await request.answer(200, b"")
                return
        await anyio.sleep(self.behaviour.first_audio_s)
        await request.begin(200, {"Content-Type": "application/json"})
        if not self.behaviour.silent:
            await self._say(request, body.text)
        if request.closed_by != "server":
            await request.end()

    async def _say(self, request: HTTPRequest, text: str) -> None:
        manners, behaviour, where = self.manners, self.behaviour, f"request {request.number}"
        rate = int(request.query["output_format"][0].removeprefix("pcm_"))
        pcm, characters = tone(len(text) / SPEECH_CHARACTERS_PER_S, rate), timed(text)
        stalls = manners.spoil("stall-in-the-middle", "speak", where)
        aligned = behaviour.with_alignment and not manners.draw("audio-without-words", "speak", where)
        size, sent_s = behaviour.chunk_bytes, 0.0
        for start in range(0, len(pcm), size):
            if stalls and start:
                await sleep(manners.stall_s())
                stalls = False
            if pause_s := manners.pause_s("speak", where):
                await anyio.sleep(pause_s)
            begin_s, end_s = start / (2 * rate), (start + size) / (2 * rate)
            last = start + size >= len(pcm)
            own = [one for one in characters if begin_s <= one[1] and (last or one[1] < end_s)]
            first, *rest = manners.cut(pcm[start : start + size], "speak", where)
            lines = [self._line(first, own if aligned else []), *(self._line(piece, []) for piece in rest)]
            if behaviour.cut and start:
                await self._cut(request, lines[0])
                return
            for line in lines:
                await request.send(line)
            if behaviour.pace:
                await anyio.sleep((end_s - sent_s) / behaviour.pace)
            sent_s = end_s

    async def _cut(self, request: HTTPRequest, line: bytes) -> None:
        cut, self.behaviour.cut = self.behaviour.cut, ""
        if cut == "in a character":
            await request.send(line[: len(line) // 2] + "é".encode()[:1])
            return  # the body ends in order
        await request.send(line[: len(line) // 2])
        request.cut(reset=cut == "reset")

    def _line(self, pcm: bytes, characters: list[tuple[str, float, float]]) -> bytes:
        """Return a line with audio and its alignment, whose times count from the first audio."""
        behaviour = self.behaviour
        if behaviour.spoil_lines:
            behaviour.spoil_lines -= 1
            return b'{"audio_base64": "AAAA", \n'
        audio = base64.b64encode(pcm).decode()
        if behaviour.spoil_base64:
            behaviour.spoil_base64 -= 1
            audio = f"!{audio[1:]}"
        alignment = {
            "characters": [char for char, _, _ in characters],
            "character_start_times_seconds": [round(start, 3) for _, start, _ in characters],
            "character_end_times_seconds": [round(end, 3) for _, _, end in characters],
        }
        told = alignment if characters else None
        line: dict[str, Any] = {"audio_base64": audio, "alignment": told, "normalized_alignment": told}
        manners, before = self.manners, b""
        if manners.draw("nulls", "speak", "a line"):
            line["normalized_alignment"] = None
        if manners.draw("odd-types", "speak", "a line"):
            line["normalized_alignment"] = [{}]
        if manners.draw("unknown-events", "speak", "before a line", RARELY):
            before = json.dumps({"message_type": UNKNOWN, "high": []}).encode() + b"\n"
        return before + json.dumps(line, ensure_ascii=False).encode() + b"\n"
