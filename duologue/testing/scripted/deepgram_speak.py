"""The speaking connections of a scripted Deepgram: each text is a tone whose length follows its characters."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import anyio

from ...processors.kernel.tasks import loop_time
from ...services.deepgram.pronunciations import plain_text
from ..tones import tone
from .deepgram_connection import REQUEST_ID, DeepgramConnection

MAX_TEXT = 2000
"""The longest text of a message; a longer one ends the connection with 1008 DATA-0001."""
MINUTE_S = 60.0
CONTROLS = {"pronunciations_applied": 0, "breaks_applied": 0, "pronunciation_warnings": 0}


class Speaking(DeepgramConnection):
    """The base of Aura and Flux TTS."""

    part = "speak"
    ending = "Close"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rate = int(self.got.query["sample_rate"][0])
        speed = float(self.got.query.get("speed", ["1"])[0])
        self._characters_per_s = self.behaviour.characters_per_s * speed
        self.spoken_s = 0.0
        """Seconds of audio sent on the connection."""

    async def begin_speech(self, where: str) -> bool:
        """Wait until the first audio is due. Faults are drawn: returns False if one of them leaves no audio."""
        manners, behaviour = self.manners, self.behaviour
        await anyio.sleep(behaviour.first_audio_s)
        spoiled = manners.spoils(self.part, where)
        if spoiled == "stall-before":
            self.wait(manners.stall_s())
        elif spoiled == "rate-limit":
            code, told = manners.limit()
            self.send("Warning", code=code.upper(), description=told)
        return not (behaviour.silent or spoiled in ("empty-answer", "words-without-audio", "rate-limit"))

    async def say(self, text: str, where: str) -> None:
        """Send the audio of a text."""
        manners, behaviour = self.manners, self.behaviour
        stalls = manners.spoil("stall-in-the-middle", self.part, where)
        pcm = tone(len(plain_text(text)) / self._characters_per_s, self.rate)
        for start in range(0, len(pcm), behaviour.chunk_bytes):
            if stalls and start:
                self.wait(manners.stall_s())
                stalls = False
            chunk = pcm[start : start + behaviour.chunk_bytes]
            for piece in manners.cut(chunk, self.part, where):
                self.send_audio(piece)
            self.spoken_s += len(chunk) / (2 * self.rate)
            if behaviour.pace:
                await anyio.sleep(len(chunk) / (2 * self.rate) / behaviour.pace)

    async def sends_late(self) -> None:
        """Send audio that was on its way when the speech was stopped."""
        for _ in range(self.behaviour.late_audio):
            self.send_audio(b"\1" * self.behaviour.chunk_bytes)
            await anyio.sleep(0.01)

    async def check_length(self, text: str) -> None:
        """Close the connection for a text that is too long."""
        if len(text) > MAX_TEXT:
            self.got.refused.append(f"a text of {len(text)} characters")
            await self.close(1008, "DATA-0001: the text is too long")


class SpeakingAura(Speaking):
    """`/v1/speak`: `Flush` is answered with the audio of the text that waits, then `Flushed`."""

    unimportant = ("additional_model_uuids",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._text = ""
        self._flushes: deque[float] = deque()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._sequence = 0
        self._speech: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """Send the metadata, and begin to speak."""
        model = self.got.query["model"][0]
        self.send("Metadata", request_id=REQUEST_ID, model_name=model, model_version="1", model_uuid=REQUEST_ID)
        self._speech = self.start(self._speak())

    def take(self, message: dict[str, Any]) -> None:
        """Take text, speak it, or stop."""
        match message["type"]:
            case "Speak":
                self.start(self.check_length(message["text"]))
                self._text += message["text"]
            case "Flush" if self._may_flush():
                self._queue.put_nowait(self._text)
                self._text = ""
            case "Clear":
                assert self._speech is not None
                self._speech.cancel()
                self.forget_unsent()
                self._text, self._queue = "", asyncio.Queue()
                self._speech = self.start(self._clear())

    def _may_flush(self) -> bool:
        now = loop_time()
        while self._flushes and now - self._flushes[0] >= MINUTE_S:
            self._flushes.popleft()
        if len(self._flushes) >= self.behaviour.flushes_per_minute:
            text = "Too many Flush messages: no more are processed until the 60-second window has passed."
            self.send("Warning", code="EXCESSIVE_FLUSH", description=text)
            return False
        self._flushes.append(now)
        return True

    async def _clear(self) -> None:
        await self.sends_late()
        if not self.manners.draw("missing-end", self.part, "Clear"):
            self.send("Cleared", sequence_id=self._next())
        await self._speak()

    async def _speak(self) -> None:
        while True:
            text = await self._queue.get()
            where = f"text {text!r}"
            if text and await self.begin_speech(where):
                await self.say(text, where)
            if self.behaviour.never_done or self.manners.spoil("missing-end", self.part, where):
                continue
            number = self._next()
            for _ in range(1 + self.manners.draw("repeated-end", self.part, where)):
                self.send("Flushed", sequence_id=number)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    async def refuse(self, message: str, reason: str) -> None:
        """Close the connection."""
        await self.close(1003, "MESSAGE-0000: the message cannot be parsed")


class SpeakingFlux(Speaking):
    """`/v2/speak`: a turn is spoken while its text comes; `Flush` ends it, and `Interrupt` cuts it short."""

    unimportant = ("extras",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turns: asyncio.Queue[asyncio.Queue[str | None]] = asyncio.Queue()
        self._open: asyncio.Queue[str | None] | None = None
        self._number = 0
        self._active: dict[str, Any] | None = None
        self._text = ""
        self._began_s = 0.0
        self._speech: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """Confirm the connection, and begin to speak."""
        model = self.got.query["model"][0]
        self.send("Connected", request_id=REQUEST_ID, model_name=model, model_version="1", model_uuids=[REQUEST_ID])
        self._speech = self.start(self._speak())

    def take(self, message: dict[str, Any]) -> None:
        """Take text, end the turn, or stop."""
        match message["type"]:
            case "Speak":
                self.start(self.check_length(message["text"]))
                if self._open is None:
                    self._open = asyncio.Queue()
                    self._turns.put_nowait(self._open)
                self._open.put_nowait(message["text"])
            case "Flush" if self._open is None:
                self._warn("NO_ACTIVE_SPEECH")
            case "Flush":
                assert self._open is not None
                self._open.put_nowait(None)
                self._open = None
            case "Interrupt":
                self._interrupt(message.get("playback_offset"))
            case "Configure":
                self.send("ConfigureSuccess", applied={"speed": message.get("speed")})

    def _warn(self, code: str) -> None:
        self.send("Warning", code=code, description="The script says so.")

    def _interrupt(self, offset: dict[str, Any] | None) -> None:
        if not self.spoken_s:
            self._warn("NO_AUDIO_GENERATED")
        elif self._active is None:
            self._warn("NO_ACTIVE_SPEECH")
        else:
            assert self._speech is not None
            if self._active["turn"] is self._open:
                self._open = None
            self._speech.cancel()
            self.forget_unsent()
            self._speech = self.start(self._interrupted(self._active, offset))

    async def _interrupted(self, active: dict[str, Any], offset: dict[str, Any] | None) -> None:
        await self.sends_late()
        told: dict[str, Any] = {}
        played_ms = round(self.spoken_s * 1000)
        if offset is not None:
            played_ms = offset["value"]
            characters = max(0, round((played_ms / 1000 - self._began_s) * self._characters_per_s))
            told = {"text_spoken": self._text[:characters], "text_remaining": self._text[characters:]}
        self._active = None
        if not self.manners.draw("missing-end", self.part, "Interrupt"):
            self.send("SpeechInterrupted", audio_played_ms=played_ms, metadata=self._report(active["id"]), **told)
        await self._speak()

    async def _speak(self) -> None:
        while True:
            turn = await self._turns.get()
            self._number += 1
            speech = f"dg_sp_{self._number:012x}"
            self._active, self._text, self._began_s = {"id": speech, "turn": turn}, "", self.spoken_s
            audible = True
            while (text := await turn.get()) is not None:
                where = f"text {text!r}"
                if not self._text:
                    self.send("SpeechStarted", speech_id=speech)
                    audible = await self.begin_speech(where)
                self._text += text
                if audible:
                    await self.say(text, where)
            self.send("Flushed", speech_id=speech)
            self._active = None
            if self.behaviour.never_done or self.manners.spoil("missing-end", self.part, speech):
                continue
            for _ in range(1 + self.manners.draw("repeated-end", self.part, speech)):
                self.send("SpeechMetadata", **self._report(speech))

    def _report(self, speech: str) -> dict[str, Any]:
        return {
            "speech_id": speech,
            "audio_duration_ms": round((self.spoken_s - self._began_s) * 1000),
            "input_character_count": len(self._text),
            "billable_character_count": len(self._text),
            "controls_applied": CONTROLS,
        }

    async def refuse(self, message: str, reason: str) -> None:
        """Send an error, and close the connection."""
        self.send("Error", code="MESSAGE-0000", description=reason)
        await self.written()
        await self.close(1003, "MESSAGE-0000: the message cannot be parsed")
