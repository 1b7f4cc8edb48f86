"""One connection to a `ScriptedGemini`: the session, and what the caller says in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...audio.pcm import BYTES_PER_SAMPLE
from ...errors import IllegalState
from ...services.context import Message
from ..tones import Speech, TurnFinder
from .google_model import INPUT_RATE, GeminiModel
from .google_rules import (
    FAMILIES,
    MESSAGE_FIELDS,
    Refused,
    blob_of,
    camel,
    check_setup,
    check_tools,
    declarations,
    messages_of,
    parsed,
    text_of,
    unknown_field,
    words_of,
)
from .server import Close, Got, HalfOpen

if TYPE_CHECKING:
    from .google import ScriptedGemini


class GeminiConnection:
    """One connection to a `ScriptedGemini`. What a test calls here happens at once, after what was sent before."""

    def __init__(self, server: ScriptedGemini, websocket: ServerConnection, number: int) -> None:
        self.got = Got(number=number)
        self.server = server
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[str | bytes | Close | HalfOpen] = asyncio.Queue()
        self.over = False  # nothing is read or sent any more, but what is in the queue
        self._twice = False
        self._timers: set[asyncio.TimerHandle] = set()
        # the session
        self.setup: dict[str, Any] = {}
        self.family = FAMILIES[""]
        self._seeding = False
        # the caller
        self.rate = 0
        self._finder: TurnFinder | None = None
        self._turn: int | None = None  # where the caller's turn began
        self._told = ""
        self._model = GeminiModel(self)

    # -- what a test does ----------------------------------------------------------------------------------------------

    def begin_turn(self, transcript: str = "") -> None:
        """The provider hears the caller begin to speak; what will be said is `transcript`, if that is not "".

        Raises IllegalState unless turns are to be told.
        """
        self._check_told()
        self._told = transcript
        self._begin_turn(self._heard)

    def end_turn(self) -> None:
        """The provider takes the caller's turn to be over. Raises IllegalState if none began."""
        self._check_told()
        if self._turn is None:
            raise IllegalState("end_turn without a turn: begin_turn comes first")
        self._end_turn(self._heard)

    def close(self, code: int = 1011, reason: str = "") -> None:
        """Close the connection, or break it off with a `code` of 0."""
        self._post(Close(code, reason))
        self._stop()

    def go_half_open(self) -> None:
        """Neither read nor write from now on, and do not close either."""
        self._post(HalfOpen())
        self._stop()

    def go_away(self, left_s: float = 10.0) -> None:
        """Tell that the connection will be closed in `left_s` seconds, and do so."""
        self.put({"goAway": {"timeLeft": f"{left_s:g}s"}})
        self._later(left_s, lambda: self.close(1001, "The connection is going away."))

    def send(self, raw: dict[str, Any] | str | bytes) -> None:
        """Send a message as it is."""
        self._post(json.dumps(raw).encode() if isinstance(raw, dict) else raw)

    def _check_told(self) -> None:
        if self.server.behaviour.turn_detection != "told":
            raise IllegalState(f"turn_detection is {self.server.behaviour.turn_detection!r}: turns are not told")

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it has ended."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            self._stop()
            writer.cancel()
            await asyncio.gather(writer, self._model.stopped(), return_exceptions=True)
            self.got.closed = self._websocket.close_code

    def abort(self) -> None:
        """End the connection without a word to the client."""
        self._websocket.transport.abort()

    async def _read(self) -> None:
        try:
            if await self._set_up(parsed(await self._websocket.recv())):
                async for frame in self._websocket:
                    if self.over:
                        break
                    self._take(parsed(frame))
        except ConnectionClosed:
            pass
        except Refused as refused:
            self.close(refused.code, refused.reason)
        except Exception as error:
            self.fail(error)
        await self._websocket.wait_closed()

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._out.get()
                if delay_s := self.server.behaviour.delay_s:
                    await asyncio.sleep(delay_s)
                if isinstance(frame, HalfOpen):
                    self._websocket.transport.pause_reading()
                elif not isinstance(frame, Close):
                    await self._websocket.send(frame)
                elif frame.code:
                    await self._websocket.close(frame.code, frame.reason.encode()[:123].decode(errors="ignore"))
                else:
                    self.abort()
        except ConnectionClosed:
            pass
        except Exception as error:
            self.server.failures.append(error)
            self.abort()

    def fail(self, error: Exception) -> None:
        """The script is wrong: that must not look like a fault of the provider's."""
        self.server.failures.append(error)
        self.close(1011, "Internal error encountered.")

    def _stop(self) -> None:
        self.over = True
        self._model.stop()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            act()

        if not self.over:
            timer = self._loop.call_later(delay_s, fire)
            self._timers.add(timer)

    def _post(self, frame: str | bytes | Close | HalfOpen) -> None:
        if self.over:
            return
        self._out.put_nowait(frame)
        if self._twice and isinstance(frame, str | bytes):
            self._twice = False
            self._out.put_nowait(frame)

    def send_twice(self) -> None:
        """Send the next message twice."""
        self._twice = True

    def put(self, message: dict[str, Any]) -> None:
        """Send a message of the protocol."""
        self._post(json.dumps(message, ensure_ascii=False).encode())

    def put_content(self, **content: Any) -> None:
        """Send something of the model's turn, or about it."""
        self.put({"serverContent": content})

    # -- the session ---------------------------------------------------------------------------------------------------

    async def _set_up(self, message: dict[str, Any]) -> bool:
        """False if the set-up never completes."""
        behaviour, got = self.server.behaviour, self.got
        got.messages.append(message)
        message = camel(message)
        setup = message.get("setup")
        if not isinstance(setup, dict) or len(message) > 1:
            raise Refused("setup must be the first message and only the first.")
        self.setup = setup
        assert self._websocket.request is not None
        if self._websocket.request.headers.get("x-goog-api-key") != behaviour.key:
            raise Refused("API key not valid. Please pass a valid API key.")
        model = setup.get("model", "")
        if behaviour.models and model.removeprefix("models/") not in behaviour.models:
            raise Refused(
                f"{model} is not found for this API version, or is not supported for bidiGenerateContent.", 1008
            )
        self.family = next(family for name, family in FAMILIES.items() if name in model)
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
            got.history = self.server.recall(handle)
        else:
            self._seeding = bool(setup.get("historyConfig", {}).get("initialHistoryInClientContent"))
        if behaviour.setup_delay_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._websocket.wait_closed(), behaviour.setup_delay_s)
        self._later(
            behaviour.session_limit_s, lambda: self.close(1011, "Deadline expired before operation could complete.")
        )
        self.put({"setupComplete": {"sessionId": f"session-{got.number}"}})
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
        seeds = len(turns) > 1 or any(turn.get("role") == "model" for turn in turns)  # one of the user's may be a note
        if seeds and self.got.handle and not self._model.asked:
            raise Refused("The history of a resumed session cannot be given again.")
        if not self._seeding:
            if not self.family.content:
                raise Refused("Request contains an invalid argument: client content is only taken as initial history.")
            if self.family.ends_with_user and turns and turns[-1].get("role") == "model":
                raise Refused("Please ensure that the last turn is of the role user.")
            self._model.interrupt()
        self.got.history += [message for turn in turns for message in messages_of(turn)]
        if self._seeding:
            self._seeding = not complete
        elif complete:
            self._model.ask(text_of(turns[-1]) if turns else "")

    def _take_update(self, update: dict[str, Any]) -> None:
        if not self.family.updates:
            raise Refused("Context updates are not supported for this model.")
        if "tools" in update:
            functions = declarations(update["tools"].get("tools"))
            check_tools(functions, self.family)
            self.got.tools = functions
        if "systemInstruction" in update:
            self.got.instructions = text_of(update["systemInstruction"])

    # -- the caller ----------------------------------------------------------------------------------------------------

    @property
    def hearing(self) -> bool:
        """Whether the caller is in the middle of a turn."""
        return self._turn is not None

    @property
    def _heard(self) -> int:
        """Samples of the caller's so far."""
        return len(self.got.audio) // BYTES_PER_SAMPLE

    def _take_realtime(self, realtime: dict[str, Any]) -> None:
        if self._seeding:
            raise Refused("The initial history must be complete before realtime input.")
        if "mediaChunks" in realtime:
            raise Refused("realtime_input.media_chunks is deprecated. Use audio, video, or text instead.")
        if "audio" in realtime:
            self._take_audio(realtime["audio"])
        if "activityStart" in realtime or "activityEnd" in realtime:
            if not self._manual:
                raise Refused(
                    "Explicit activity control is not supported when automatic activity detection is enabled."
                )
            if "activityStart" in realtime:
                self._begin_turn(self._heard)
            elif self._turn is not None:
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
        rate = rates[0] if rates else INPUT_RATE
        pcm = blob_of(blob)
        if kind != "audio/pcm" or len(pcm) % BYTES_PER_SAMPLE or rate != (self.rate or rate):
            raise Refused("Request contains an invalid argument: audio.")
        if not self.rate:
            self.rate = rate
            detection = self._input.get("automaticActivityDetection", {})
            self._finder = TurnFinder(
                rate, detection.get("silenceDurationMs", 500), speech_ms=detection.get("prefixPaddingMs", 20)
            )
        self.got.audio += pcm
        assert self._finder is not None
        self._find(self._finder.feed(pcm))

    def _find(self, found: Sequence[Speech]) -> None:
        if self._manual or self.server.behaviour.turn_detection != "energy":
            return
        for speech in found:
            if speech.begun:
                self._begin_turn(speech.at)
            elif self._turn is not None:
                self._end_turn(speech.found)

    def _begin_turn(self, at: int) -> None:
        self._turn = at
        if self._speech_interrupts:
            self._model.interrupt()

    def _end_turn(self, at: int) -> None:
        assert self._turn is not None
        span, self._turn = (self._turn, at), None
        told, self._told = self._told, ""
        start, end = (BYTES_PER_SAMPLE * place for place in span)
        said = told or self.server.behaviour.understand(bytes(self.got.audio[start:end]))
        self.got.turns.append(span)
        self.got.history.append(Message(role="user", text=said))
        if said and "inputAudioTranscription" in self.setup:
            if delay_s := self.server.behaviour.transcript_delay_s:
                self._later(delay_s, lambda: self._transcribe(said))
            else:
                self._transcribe(said)
        self._model.ask(said)

    def _transcribe(self, said: str) -> None:
        words = words_of(said)
        for part in (words[: len(words) // 2], words[len(words) // 2 :]):
            if part:
                self.put_content(inputTranscription={"text": "".join(part)})
        self.put_content(inputTranscription={"finished": True})
