"""`ListeningElevenLabs`: speech-to-text in real time. A commit is answered with the text of its audio."""

from __future__ import annotations

import json
from typing import Any

import anyio

from ...errors import BadInput
from ...services.elevenlabs.stt_options import MIN_COMMIT_S, QUIET_S, VAD_SILENCE_S
from ..tones import TurnFinder
from .elevenlabs_connection import ElevenLabsConnection
from .elevenlabs_rules import STTMessage, checked
from .manners import sleep

WORD_S = 0.3
"""Seconds of each word in a transcript."""


class ListeningElevenLabs(ElevenLabsConnection):
    """A connection of speech-to-text."""

    part = "listen"
    idle_s = QUIET_S

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        query = self.got.query
        self.rate = int(query.get("audio_format", "pcm_16000").removeprefix("pcm_"))
        self._timed = "true" in (query.get("include_timestamps"), query.get("include_language_detection"))
        silence_ms = 1000 * float(query.get("vad_silence_threshold_secs", VAD_SILENCE_S))
        self._vad = TurnFinder(self.rate, silence_ms) if query.get("commit_strategy") == "vad" else None
        self._from = self._interims = self._chunks = 0

    async def begin(self) -> None:
        """Announce the session, or refuse it."""
        if kind := self.behaviour.refuse_session:
            await self.refuse(kind, "Not now.")
            return
        self.start(self._limit())
        config = {name: value for name, value in self.got.query.items() if name != "keyterms"}
        await self.send({"message_type": "session_started", "session_id": "session", "config": config}, name="a start")
        if kind := self.behaviour.end_session:
            await self.refuse(kind, "Not now.")

    async def _limit(self) -> None:
        await anyio.sleep(self.behaviour.session_limit_s)
        await self.refuse("session_time_limit_exceeded", "The session has reached its limit.")

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing: without an error."""
        await self.close(1000, "")

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error, and close the connection."""
        kind = "invalid_request" if code == "invalid_message" else code
        await self.send({"message_type": kind, "error": message}, name="an error")
        await self.close(1008, message)

    def take(self, message: str | bytes) -> None:
        """Take audio, and a commit."""
        got = checked(message, STTMessage)
        self.got.messages.append({**json.loads(message), "audio_base_64": f"{len(got.audio_base_64)} bytes"})
        if got.sample_rate != self.rate:
            raise BadInput(f"sample_rate is {got.sample_rate}: the session has {self.rate}")
        self._chunks += 1
        if got.previous_text is not None and self._chunks > 1:
            raise BadInput("previous_text belongs to the first chunk")
        self.got.audio += got.audio_base_64
        silent = any(found.begun is False for found in self._vad.feed(got.audio_base_64)) if self._vad else False
        if got.commit or silent:
            self._commit(by_client=got.commit)
        elif interim_s := self.behaviour.interim_s:
            self._tell_interim(int(self._uncommitted_s / interim_s + 1e-9))

    @property
    def _uncommitted_s(self) -> float:
        return (len(self.got.audio) - self._from) / (2 * self.rate)

    def _tell_interim(self, due: int) -> None:
        if due <= self._interims:
            return
        self._interims = due
        transcripts = self.behaviour.transcripts
        if callable(transcripts):
            text = transcripts(bytes(self.got.audio[self._from :]))
        else:
            text = " ".join(transcripts[0].split()[:due]) if transcripts else ""
        if text:
            partial = {"message_type": "partial_transcript", "text": self.manners.language.write(text)}
            self.start(self.send(partial, name="a partial"))

    def _commit(self, *, by_client: bool) -> None:
        if by_client and self._uncommitted_s < MIN_COMMIT_S:
            told = f"Commit request ignored: only {self._uncommitted_s:.2f}s of uncommitted audio."
            self.start(self.refuse("commit_throttled", told))
            return
        pcm = bytes(self.got.audio[self._from :])
        began_s = (self._from + len(pcm) - len(pcm.lstrip(b"\0"))) / (2 * self.rate)  # the first sound
        self._from, self._interims = len(self.got.audio), 0
        self.got.utterances.append(pcm)
        self.start(self._answer(self.manners.language.write(self._understood(pcm)), began_s))

    def _understood(self, pcm: bytes) -> str:
        transcripts = self.behaviour.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        if self.behaviour.answers:
            self.behaviour.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""

    async def _answer(self, text: str, began_s: float) -> None:
        await anyio.sleep(self.behaviour.answer_delay_s)
        manners, where = self.manners, f"answer {text!r}"
        if manners.draw("stall-before", self.part, where):
            await sleep(manners.stall_s())
        ends = not manners.draw("missing-end", self.part, where)
        answers = self.behaviour.answers if ends else 0
        for _ in range(answers + manners.draw("repeated-end", self.part, where)):
            await self.send({"message_type": "committed_transcript", "text": text}, name="a transcript")
            if self._timed:
                await self.send(self._with_words(text, began_s), name="words", optional=("language_code",))
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self.send({"message_type": "partial_transcript", "text": text}, name="a partial")

    def _with_words(self, text: str, began_s: float) -> dict[str, Any]:
        words: list[dict[str, Any]] = []
        for number, word in enumerate(text.split()):
            start = round(began_s + number * WORD_S, 3)
            timed = {"start": start, "end": round(start + WORD_S, 3), "speaker_id": None, "logprob": -0.1}
            if number:
                words.append({"text": " ", "type": "spacing", **timed, "end": start})
            words.append({"text": word, "type": "word", **timed})
        kind = "committed_transcript_with_timestamps"
        return {"message_type": kind, "text": text, "language_code": "en", "words": words}
