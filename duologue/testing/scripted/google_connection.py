"""`GeminiConnection`: one connection to a `ScriptedGemini`, with the session and the caller's side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection

from ...audio.pcm import BYTES_PER_SAMPLE
from ...errors import IllegalState
from ...services.context import Message
from ..tones import FoundSpeech, TurnFinder
from .google_model import DEFAULT_INPUT_RATE, GeminiModel
from .google_rules import (
    GEMINI_FAMILIES,
    MESSAGE_FIELDS,
    GeminiRefusal,
    blob_of,
    camel,
    check_functions,
    check_setup,
    declarations,
    messages_of,
    parsed,
    text_of,
    unknown_field,
)
from .google_wire import GeminiMemory, GeminiWire
from .languages import words_after_space
from .server import Got, ScriptedServer


class GeminiConnection(GeminiWire):
    """An open connection."""

    def __init__(
        self, server: ScriptedServer[GeminiConnection], socket: ServerConnection, got: Got, memory: GeminiMemory
    ) -> None:
        super().__init__(server, socket, got, memory)
        self._seeding = False
        """True while the server waits for the rest of the initial history."""
        self._finder: TurnFinder | None = None
        self._transcript = ""
        """The test's transcript for the turn in progress."""
        self._model = GeminiModel(self)

    # -- for tests -------------------------------------------------------------------------------------------------

    def begin_turn(self, transcript: str = "") -> None:
        """Begin a turn of the caller. `transcript` is the turn's text, "" for the server's next one.

        Raises IllegalState unless `turn_detection` is "told".
        """
        self._check_told()
        self._transcript = transcript
        self._begin_turn(self._heard)

    def end_turn(self) -> None:
        """End the caller's turn. Raises IllegalState if none has begun."""
        self._check_told()
        if self.turn_start is None:
            raise IllegalState("end_turn without a turn: begin_turn comes first")
        self._end_turn(self._heard)

    def _check_told(self) -> None:
        if self.server.behaviour.turn_detection != "told":
            raise IllegalState(f"turn_detection is {self.server.behaviour.turn_detection!r}: it must be 'told'")

    # -- life ------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Set the session up, and take the client's messages."""
        try:
            if await self._set_up(parsed(await self.socket.recv())):
                async for frame in self.socket:
                    if self.over:
                        break
                    self._take(parsed(frame))
        except GeminiRefusal as refusal:
            self.close(refusal.code, refusal.reason)

    # -- the session -----------------------------------------------------------------------------------------------

    async def _set_up(self, message: dict[str, Any]) -> bool:
        """Set the session up. Returns False if the set-up never completes."""
        behaviour, got = self.server.behaviour, self.got
        got.messages.append(message)
        message = camel(message)
        setup = message.get("setup")
        if not isinstance(setup, dict) or len(message) > 1:
            raise GeminiRefusal("setup must be the first message and only the first.")
        self.setup = setup
        assert self.socket.request is not None
        if self.socket.request.headers.get("x-goog-api-key") != behaviour.key:
            raise GeminiRefusal("API key not valid. Please pass a valid API key.")
        model = setup.get("model", "")
        if behaviour.models and model.removeprefix("models/") not in behaviour.models:
            raise GeminiRefusal(
                f"{model} is not found for this API version, or is not supported for bidiGenerateContent.", 1008
            )
        self.family = next(family for name, family in GEMINI_FAMILIES.items() if name in model)
        wants_more = setup.get("proactivity") or setup.get("generationConfig", {}).get("enableAffectiveDialog")
        if wants_more and not self.family.affective:
            return False
        check_setup(setup, self.family)
        got.tools = declarations(setup.get("tools"))
        got.instructions = text_of(setup.get("systemInstruction"))
        speech = setup.get("generationConfig", {}).get("speechConfig", {})
        got.voice = speech.get("voiceConfig", {}).get("prebuiltVoiceConfig", {}).get("voiceName", "")
        if handle := setup.get("sessionResumption", {}).get("handle"):
            got.handle = handle
            if behaviour.refuse_handles:
                raise GeminiRefusal("Invalid session resumption handle.")
            got.history = self.memory.recall(handle)
        else:
            self._seeding = bool(setup.get("historyConfig", {}).get("initialHistoryInClientContent"))
        await self.set_up_delay()
        self.later(
            behaviour.session_limit_s, lambda: self.close(1011, "Deadline expired before operation could complete.")
        )
        self.send({"setupComplete": {"sessionId": f"session-{got.number}"}})
        return True

    @property
    def _input(self) -> dict[str, Any]:
        return self.setup.get("realtimeInputConfig") or {}

    @property
    def _manual(self) -> bool:
        return bool(self._input.get("automaticActivityDetection", {}).get("disabled"))

    @property
    def _speech_interrupts(self) -> bool:
        return self._input.get("activityHandling") != "NO_INTERRUPTION"

    def _take(self, raw: dict[str, Any]) -> None:
        message = camel(raw)
        realtime = message.get("realtimeInput") or {}
        if set(realtime) != {"audio"}:
            self.got.messages.append(raw)
        if unknown := set(message) - MESSAGE_FIELDS:
            raise unknown_field(unknown)
        if content := message.get("clientContent"):
            self._take_content(content)
        if realtime:
            self._take_realtime(realtime)
        if response := message.get("toolResponse"):
            self._model.take_results(response.get("functionResponses", ()))
        if update := message.get("contextUpdate"):
            self._take_update(update)

    def _take_content(self, content: dict[str, Any]) -> None:
        turns = content.get("turns") or []
        complete = bool(content.get("turnComplete"))
        seeds = len(turns) > 1 or any(turn.get("role") == "model" for turn in turns)  # a single user turn may be a note
        if seeds and self.got.handle and not self._model.asked:
            raise GeminiRefusal("The history of a resumed session cannot be given again.")
        if not self._seeding:
            if not self.family.content:
                raise GeminiRefusal(
                    "Request contains an invalid argument: client content is only taken as initial history."
                )
            if self.family.ends_with_user and turns and turns[-1].get("role") == "model":
                raise GeminiRefusal("Please ensure that the last turn is of the role user.")
            self._model.interrupt()
        self.got.history += [message for turn in turns for message in messages_of(turn)]
        if self._seeding:
            self._seeding = not complete
        elif complete:
            self._model.ask(text_of(turns[-1]) if turns else "")

    def _take_update(self, update: dict[str, Any]) -> None:
        if not self.family.updates:
            raise GeminiRefusal("Context updates are not supported for this model.")
        if "tools" in update:
            functions = declarations(update["tools"].get("tools"))
            check_functions(functions, self.family)
            self.got.tools = functions
        if "systemInstruction" in update:
            self.got.instructions = text_of(update["systemInstruction"])

    # -- the caller ------------------------------------------------------------------------------------------------

    @property
    def _heard(self) -> int:
        """Return the number of samples that have come from the caller."""
        return len(self.got.audio) // BYTES_PER_SAMPLE

    def _take_realtime(self, realtime: dict[str, Any]) -> None:
        if self._seeding:
            raise GeminiRefusal("The initial history must be complete before realtime input.")
        if "mediaChunks" in realtime:
            raise GeminiRefusal("realtime_input.media_chunks is deprecated. Use audio, video, or text instead.")
        if "audio" in realtime:
            self._take_audio(realtime["audio"])
        if "activityStart" in realtime or "activityEnd" in realtime:
            if not self._manual:
                raise GeminiRefusal(
                    "Explicit activity control is not supported when automatic activity detection is enabled."
                )
            if "activityStart" in realtime:
                self._begin_turn(self._heard)
            elif self.turn_start is not None:
                self._end_turn(self._heard)
        if realtime.get("audioStreamEnd") and self._finder is not None:
            self._find(self._finder.flush())
        if text := realtime.get("text"):
            if self._speech_interrupts:
                self._model.interrupt()
            self.got.history.append(Message(role="user", text=text))
            self._model.ask(text)

    def _take_audio(self, blob: dict[str, Any]) -> None:
        kind, *parameters = blob.get("mimeType", "").replace(" ", "").split(";")
        rates = [int(value) for name, _, value in (item.partition("=") for item in parameters) if name == "rate"]
        rate = rates[0] if rates else DEFAULT_INPUT_RATE
        pcm = blob_of(blob)
        if kind != "audio/pcm" or len(pcm) % BYTES_PER_SAMPLE or rate != (self.rate or rate):
            raise GeminiRefusal("Request contains an invalid argument: audio.")
        if not self.rate:
            self.rate = rate
            detection = self._input.get("automaticActivityDetection", {})
            self._finder = TurnFinder(
                rate, detection.get("silenceDurationMs", 500), speech_ms=detection.get("prefixPaddingMs", 20)
            )
        self.got.audio += pcm
        assert self._finder is not None
        self._find(self._finder.feed(pcm))

    def _find(self, found: Sequence[FoundSpeech]) -> None:
        if self._manual or self.server.behaviour.turn_detection != "energy":
            return
        for speech in found:
            if speech.begun:
                self._begin_turn(speech.at)
            elif self.turn_start is not None:
                self._end_turn(speech.found)

    def _begin_turn(self, at: int) -> None:
        self.turn_start = at
        if self._speech_interrupts:
            self._model.interrupt()

    def _end_turn(self, at: int) -> None:
        assert self.turn_start is not None
        span, self.turn_start = (self.turn_start, at), None
        transcript, self._transcript = self._transcript, ""
        start, end = (BYTES_PER_SAMPLE * place for place in span)
        said = transcript or self.server.understand(bytes(self.got.audio[start:end]))
        self.got.turns.append(span)
        self.got.history.append(Message(role="user", text=said))
        if said and "inputAudioTranscription" in self.setup:
            if delay_s := self.server.behaviour.transcript_delay_s:
                self.later(delay_s, lambda: self._transcribe(said))
            else:
                self._transcribe(said)
        self._model.ask(said, spoken=True)

    def _transcribe(self, said: str) -> None:
        words = words_after_space(said)
        for part in (words[: len(words) // 2], words[len(words) // 2 :]):
            if part:
                self.send_content(inputTranscription={"text": "".join(part)})
        self.send_content(inputTranscription={"finished": True})
