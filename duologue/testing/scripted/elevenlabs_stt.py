"""`ListeningElevenLabs`: speech-to-text in real time. A commit is answered with the text of its audio."""

from __future__ import annotations

import json
from typing import Any

import anyio

from ...errors import BadInput
from ...services.elevenlabs.stt_options import MIN_COMMIT_S, QUIET_S, VAD_SILENCE_S
from ..tones import TurnFinder
from .elevenlabs_connection import ElevenLabsBehaviour, ElevenLabsConnection, ElevenLabsGot
from .elevenlabs_rules import STTMessage, checked
from .hearing import HearingConnection, Utterance, timed


class ListeningElevenLabs(ElevenLabsConnection, HearingConnection[ElevenLabsBehaviour, ElevenLabsGot]):
    """A connection of speech-to-text."""

    idle_s = QUIET_S

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        query = self.got.query
        self.rate = int(query.get("audio_format", "pcm_16000").removeprefix("pcm_"))
        self._timed = "true" in (query.get("include_timestamps"), query.get("include_language_detection"))
        silence_ms = 1000 * float(query.get("vad_silence_threshold_secs", VAD_SILENCE_S))
        self._vad = TurnFinder(self.rate, silence_ms) if query.get("commit_strategy") == "vad" else None
        self._chunks = 0

    async def begin(self) -> None:
        """Announce the session, or refuse it."""
        if kind := self.behaviour.refuse_session:
            await self.refuse(kind, "Not now.")
            return
        self.start(self._limit())
        config = {name: value for name, value in self.got.query.items() if name != "keyterms"}
        await self.deliver({"message_type": "session_started", "session_id": "session", "config": config}, "a start")
        if kind := self.behaviour.end_session:
            await self.refuse(kind, "Not now.")

    async def _limit(self) -> None:
        await anyio.sleep(self.behaviour.session_limit_s)
        await self.refuse("session_time_limit_exceeded", "The session has reached its limit.")

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error, and close the connection."""
        kind = "invalid_request" if code == "invalid_message" else code
        await self.deliver({"message_type": kind, "error": message}, "an error")
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
        else:
            self.tell_due()

    async def tell_interim(self, text: str) -> None:
        """Send a partial transcript."""
        await self.deliver({"message_type": "partial_transcript", "text": text}, "a partial")

    def _commit(self, *, by_client: bool) -> None:
        uncommitted_s, pcm = self.heard_s - self.began_s, self.spoken
        if by_client and uncommitted_s < MIN_COMMIT_S:
            told = f"Commit request ignored: only {uncommitted_s:.2f}s of uncommitted audio."
            self.start(self.refuse("commit_throttled", told))
            return
        silent_s = (len(pcm) - len(pcm.lstrip(b"\0"))) / (2 * self.rate)  # before the first sound
        said = self.ended()
        self.start(self.answer(said._replace(start_s=said.start_s + silent_s)))

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send a committed transcript, and its words if they are wanted."""
        if ends:
            await self.deliver({"message_type": "committed_transcript", "text": said.text}, "a transcript")
            if self._timed:
                await self.deliver(self._with_words(said.text, said.start_s), "words", ("language_code",))

    def _with_words(self, text: str, began_s: float) -> dict[str, Any]:
        words: list[dict[str, Any]] = []
        for number, (word, start_s, end_s) in enumerate(timed(text, began_s)):
            place = {"start": round(start_s, 3), "end": round(end_s, 3), "speaker_id": None, "logprob": -0.1}
            if number:
                words.append({"text": " ", "type": "spacing", **place, "end": place["start"]})
            words.append({"text": word, "type": "word", **place})
        kind = "committed_transcript_with_timestamps"
        return {"message_type": kind, "text": text, "language_code": "en", "words": words}
