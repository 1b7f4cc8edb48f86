"""`ScriptedGemini`: a server on loopback that speaks the wire of Gemini's Live API, played by a script.

    async with ScriptedGemini([[Speak("Hello.")]]) as server:
        options = HttpOptions(base_url=server.url, async_client_args={"ssl": server.ssl_context})
        client = genai.Client(api_key="test", http_options=options)

It is as strict as the provider where a client can go wrong: what a model family does not take ends the connection
with the provider's close code, or leaves the set-up without an answer where the provider does that.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple

import msgspec

from ..audio.pcm import BYTES_PER_SAMPLE
from ..errors import BadInput, IllegalState, MissingExtra
from ..services.messages import Message, ToolRequest
from .provider import (
    SPEECH_CHARACTERS_PER_S,
    Act,
    Asked,
    Behaviour,
    Call,
    Close,
    Fail,
    GoAway,
    Got,
    HalfOpen,
    Model,
    Raw,
    Speak,
    Twice,
    Wait,
    scripted,
)
from .tls import HOST, loopback
from .tones import Speech, TurnFinder, pieces, tone

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted Gemini", "testing", str(error)) from error

INPUT_RATE = 16_000
OUTPUT_RATE = 24_000
AUDIO_TOKENS_PER_S = 25
CHARACTERS_PER_TOKEN = 4
KEEP_HANDLES = 1_000
_PATH = re.compile(r"/ws/google\.ai\.generativelanguage\.v1(alpha|beta)?\.GenerativeService\.BidiGenerateContent")
_PLAIN_BASE64 = str.maketrans("-_", "+/")
_MAX_MESSAGE = 1 << 24
_CLOSE_TIMEOUT_S = 1.0


# -- what the provider takes -------------------------------------------------------------------------------------------


class _Refused(Exception):
    """The provider ends the connection."""

    def __init__(self, reason: str, code: int = 1007) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


@dataclass(frozen=True, kw_only=True)
class _Family:
    """What sets the models of one family apart. The first behaviour of tools is the default."""

    tools: tuple[str, ...] = ("BLOCKING", "NON_BLOCKING")
    thinking: Literal["budget", "optional", "never", "required"] = "optional"
    affective: bool = True
    """Without it a set-up that asks for affective dialog or proactive audio is never answered."""
    content: bool = True
    """Whether `clientContent` is taken at any time, not only as the initial history."""
    ends_with_user: bool = False
    empty: bool = True
    """Whether an empty list of tools and a handle that is null are taken."""
    updates: bool = False
    status: bool = False
    """Whether an interaction ends with a status, which may be after several turns."""


_FAMILIES = {
    "3.8-live-extended": _Family(tools=("NON_BLOCKING",), thinking="required", updates=True, status=True),
    "3.8-live": _Family(tools=("NON_BLOCKING", "BLOCKING"), thinking="never", updates=True),
    "3.1": _Family(tools=("BLOCKING",), affective=False, content=False, empty=False),
    "2.5": _Family(thinking="budget", ends_with_user=True),
    "": _Family(),
}
# fmt: off
_SETUP_FIELDS = frozenset((
    "model", "generationConfig", "systemInstruction", "tools", "realtimeInputConfig", "sessionResumption",
    "contextWindowCompression", "inputAudioTranscription", "outputAudioTranscription", "proactivity",
    "historyConfig", "avatarConfig", "safetySettings", "labels",
))
# fmt: on
_MESSAGE_FIELDS = frozenset(("clientContent", "realtimeInput", "toolResponse", "contextUpdate"))
_OPAQUE = frozenset(("parameters", "parametersJsonSchema", "response", "responseJsonSchema", "args", "labels"))
"""What is under these keys is the client's own: schemas, arguments and results."""


def _camel(value: Any) -> Any:
    """The message with all keys of the protocol in camelCase: clients mix it with snake_case."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for key, item in value.items():
        first, *rest = key.split("_")
        name = first + "".join(part.capitalize() for part in rest)
        out[name] = item if name in _OPAQUE else _camel(item)
    return out


def _parsed(frame: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame)
    except ValueError as error:
        raise _Refused("Invalid JSON payload received.") from error
    if not isinstance(message, dict):
        raise _Refused("Invalid JSON payload received.")
    return message


def _unknown(names: set[str], where: str = "") -> _Refused:
    at = f" at '{where}'" if where else ""
    return _Refused(f'Invalid JSON payload received. Unknown name "{min(names)}"{at}: Cannot find field.')


def _check_setup(setup: dict[str, Any], family: _Family) -> None:
    """Refuses what models of the family do not take."""
    if unknown := set(setup) - _SETUP_FIELDS:
        raise _unknown(unknown, "setup")
    generation = setup.get("generationConfig", {})
    if generation.get("responseModalities", ["AUDIO"]) != ["AUDIO"]:
        raise _Refused("The requested combination of response modalities is not supported by the model.")
    thinking = generation.get("thinkingConfig")
    if thinking is None and family.thinking == "required":
        raise _Refused("thinking_config is required for this model.")
    if thinking is not None:
        _check_thinking(thinking, family)
    resumption = setup.get("sessionResumption", {})
    if "transparent" in resumption:
        raise _unknown({"transparent"}, "setup.session_resumption")
    if not family.empty and (setup.get("tools") == [] or resumption.get("handle", "") is None):
        raise _Refused("Request contains an invalid argument.")
    _check_tools(_declarations(setup.get("tools")), family)


def _check_thinking(thinking: dict[str, Any], family: _Family) -> None:
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if family.thinking == "never":
        raise _Refused("thinking_config is not supported for this model.")
    if family.thinking == "budget" and level is not None:
        raise _Refused("Thinking level is not supported for this model.")
    if level is not None and budget is not None:
        raise _Refused("You can only set one of thinking_level and thinking_budget.")
    if family.thinking == "required" and budget is None and level not in ("LOW", "MEDIUM", "HIGH"):
        raise _Refused(f"Thinking level {level} is not supported for this model.")


def _check_tools(declarations: Sequence[dict[str, Any]], family: _Family) -> None:
    for declaration in declarations:
        if declaration.get("behavior", family.tools[0]) not in family.tools:
            raise _Refused(f"Function calls of behavior {declaration['behavior']} are not supported for this model.")


def _declarations(tools: Sequence[dict[str, Any]] | None) -> tuple[dict[str, Any], ...]:
    return tuple(declaration for tool in tools or () for declaration in tool.get("functionDeclarations", ()))


def _text(content: dict[str, Any] | None) -> str:
    return "\n".join(part["text"] for part in (content or {}).get("parts", ()) if part.get("text"))


def _blob(blob: dict[str, Any]) -> bytes:
    """The data of a blob: clients send either alphabet of base64."""
    try:
        return base64.b64decode(blob.get("data", "").translate(_PLAIN_BASE64), validate=True)
    except ValueError as error:
        raise _Refused("Invalid value: Base64 decoding failed.") from error


def _messages(content: dict[str, Any]) -> list[Message]:
    """What one turn of `clientContent` says."""
    out: list[Message] = []
    calls: list[ToolRequest] = []
    for part in content.get("parts", ()):
        if call := part.get("functionCall"):
            calls.append(ToolRequest(call_id=call.get("id", ""), name=call["name"], arguments=call.get("args", {})))
        elif result := part.get("functionResponse"):
            text = json.dumps(result.get("response", {}), ensure_ascii=False)
            out.append(Message(role="tool", text=text, call_id=result.get("id", ""), name=result["name"]))
        elif blob := part.get("inlineData"):
            out.append(Message(role="user", image=_blob(blob), mime=blob.get("mimeType", "")))
    text = _text(content)
    if text or calls:
        role: Literal["assistant", "user"] = "assistant" if content.get("role") == "model" else "user"
        out.insert(0, Message(role=role, text=text, calls=tuple(calls)))
    return out


# -- a connection ------------------------------------------------------------------------------------------------------


class _Pending(NamedTuple):
    """A tool call without a result."""

    name: str
    blocking: bool


class GeminiConnection:
    """One connection to a `ScriptedGemini`. What a test calls here happens at once, after what was sent before."""

    def __init__(self, server: ScriptedGemini, websocket: ServerConnection, number: int) -> None:
        self.got = Got(number=number)
        self._server = server
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[str | bytes | Close | HalfOpen] = asyncio.Queue()
        self._over = False  # nothing is read or sent any more, but what is in the queue
        self._twice = False
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # the session
        self._setup: dict[str, Any] = {}
        self._family = _FAMILIES[""]
        self._seeding = False
        self._asked_once = False
        # the caller
        self._rate = 0
        self._finder: TurnFinder | None = None
        self._turn: int | None = None  # where the caller's turn began
        self._told = ""
        # the model
        self._answering: asyncio.Task[None] | None = None
        self._wanted: str | None = None  # what the next answer, which has to wait, is to
        self._slot: int | None = None  # where in the history the answer is
        self._pending: dict[str, _Pending] = {}
        self._called: list[str] = []  # in this answer
        self._results = asyncio.Event()
        self._plays_until = 0.0
        self._spoken = 0  # samples of this turn of the model's

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
        self._put({"goAway": {"timeLeft": f"{left_s:g}s"}})
        self._later(left_s, lambda: self.close(1001, "The connection is going away."))

    def send(self, raw: dict[str, Any] | str | bytes) -> None:
        """Send a message as it is."""
        self._post(json.dumps(raw).encode() if isinstance(raw, dict) else raw)

    def _check_told(self) -> None:
        if self._server.behaviour.turn_detection != "told":
            raise IllegalState(f"turn_detection is {self._server.behaviour.turn_detection!r}: turns are not told")

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it has ended."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            self._stop()
            writer.cancel()
            await asyncio.gather(writer, *self._tasks, return_exceptions=True)
            self.got.closed = self._websocket.close_code

    def abort(self) -> None:
        """End the connection without a word to the client."""
        self._websocket.transport.abort()

    async def _read(self) -> None:
        try:
            if await self._set_up(_parsed(await self._websocket.recv())):
                async for frame in self._websocket:
                    if self._over:
                        break
                    self._take(_parsed(frame))
        except ConnectionClosed:
            pass
        except _Refused as refused:
            self.close(refused.code, refused.reason)
        except Exception as error:
            self._fail(error)
        await self._websocket.wait_closed()

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._out.get()
                if delay_s := self._server.behaviour.delay_s:
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
            self._server.failures.append(error)
            self.abort()

    def _fail(self, error: Exception) -> None:
        """The script is wrong: that must not look like a fault of the provider's."""
        self._server.failures.append(error)
        self.close(1011, "Internal error encountered.")

    def _stop(self) -> None:
        self._over = True
        self._answering = None
        for task in self._tasks:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            act()

        if not self._over:
            timer = self._loop.call_later(delay_s, fire)
            self._timers.add(timer)

    def _post(self, frame: str | bytes | Close | HalfOpen) -> None:
        if self._over:
            return
        self._out.put_nowait(frame)
        if self._twice and isinstance(frame, str | bytes):
            self._twice = False
            self._out.put_nowait(frame)

    def _put(self, message: dict[str, Any]) -> None:
        self._post(json.dumps(message, ensure_ascii=False).encode())

    def _put_content(self, **content: Any) -> None:
        self._put({"serverContent": content})

    # -- the session ---------------------------------------------------------------------------------------------------

    async def _set_up(self, message: dict[str, Any]) -> bool:
        """False if the set-up never completes."""
        behaviour, got = self._server.behaviour, self.got
        got.messages.append(message)
        message = _camel(message)
        setup = message.get("setup")
        if not isinstance(setup, dict) or len(message) > 1:
            raise _Refused("setup must be the first message and only the first.")
        self._setup = setup
        assert self._websocket.request is not None
        if self._websocket.request.headers.get("x-goog-api-key") != behaviour.key:
            raise _Refused("API key not valid. Please pass a valid API key.")
        model = setup.get("model", "")
        if behaviour.models and model.removeprefix("models/") not in behaviour.models:
            raise _Refused(
                f"{model} is not found for this API version, or is not supported for bidiGenerateContent.", 1008
            )
        self._family = next(family for name, family in _FAMILIES.items() if name in model)
        wants_more = setup.get("proactivity") or setup.get("generationConfig", {}).get("enableAffectiveDialog")
        if wants_more and not self._family.affective:
            return False
        _check_setup(setup, self._family)
        got.tools = _declarations(setup.get("tools"))
        got.instructions = _text(setup.get("systemInstruction"))
        speech = setup.get("generationConfig", {}).get("speechConfig", {})
        got.voice = speech.get("voiceConfig", {}).get("prebuiltVoiceConfig", {}).get("voiceName", "")
        if handle := setup.get("sessionResumption", {}).get("handle"):
            got.handle = handle
            got.history = self._server.recall(handle)
        else:
            self._seeding = bool(setup.get("historyConfig", {}).get("initialHistoryInClientContent"))
        if behaviour.setup_delay_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._websocket.wait_closed(), behaviour.setup_delay_s)
        self._later(
            behaviour.session_limit_s, lambda: self.close(1011, "Deadline expired before operation could complete.")
        )
        self._put({"setupComplete": {"sessionId": f"session-{got.number}"}})
        return True

    @property
    def _input(self) -> dict[str, Any]:
        return self._setup.get("realtimeInputConfig") or {}

    @property
    def _manual(self) -> bool:
        return bool(self._input.get("automaticActivityDetection", {}).get("disabled"))

    @property
    def _speech_interrupts(self) -> bool:
        return self._input.get("activityHandling") != "NO_INTERRUPTION"

    def _take(self, raw: dict[str, Any]) -> None:
        message = _camel(raw)
        realtime = message.get("realtimeInput") or {}
        if set(realtime) != {"audio"}:
            self.got.messages.append(raw)
        if unknown := set(message) - _MESSAGE_FIELDS:
            raise _unknown(unknown)
        if content := message.get("clientContent"):
            self._take_content(content)
        if realtime:
            self._take_realtime(realtime)
        if response := message.get("toolResponse"):
            self._take_results(response.get("functionResponses", ()))
        if update := message.get("contextUpdate"):
            self._take_update(update)

    def _take_content(self, content: dict[str, Any]) -> None:
        turns = content.get("turns") or []
        complete = bool(content.get("turnComplete"))
        seeds = len(turns) > 1 or any(turn.get("role") == "model" for turn in turns)  # one of the user's may be a note
        if seeds and self.got.handle and not self._asked_once:
            raise _Refused("The history of a resumed session cannot be given again.")
        if not self._seeding:
            if not self._family.content:
                raise _Refused("Request contains an invalid argument: client content is only taken as initial history.")
            if self._family.ends_with_user and turns and turns[-1].get("role") == "model":
                raise _Refused("Please ensure that the last turn is of the role user.")
            self._interrupt()
        self.got.history += [message for turn in turns for message in _messages(turn)]
        if self._seeding:
            self._seeding = not complete
        elif complete:
            self._ask(_text(turns[-1]) if turns else "")

    def _take_update(self, update: dict[str, Any]) -> None:
        if not self._family.updates:
            raise _Refused("Context updates are not supported for this model.")
        if "tools" in update:
            functions = _declarations(update["tools"].get("tools"))
            _check_tools(functions, self._family)
            self.got.tools = functions
        if "systemInstruction" in update:
            self.got.instructions = _text(update["systemInstruction"])

    # -- the caller ----------------------------------------------------------------------------------------------------

    @property
    def _heard(self) -> int:
        """Samples of the caller's so far."""
        return len(self.got.audio) // BYTES_PER_SAMPLE

    def _take_realtime(self, realtime: dict[str, Any]) -> None:
        if self._seeding:
            raise _Refused("The initial history must be complete before realtime input.")
        if "mediaChunks" in realtime:
            raise _Refused("realtime_input.media_chunks is deprecated. Use audio, video, or text instead.")
        if "audio" in realtime:
            self._take_audio(realtime["audio"])
        if "activityStart" in realtime or "activityEnd" in realtime:
            if not self._manual:
                raise _Refused(
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
                self._interrupt()
            self.got.history.append(Message(role="user", text=text))
            self._ask(text)

    def _take_audio(self, blob: dict[str, Any]) -> None:
        kind, *parameters = blob.get("mimeType", "").replace(" ", "").split(";")
        rates = [int(value) for name, _, value in (item.partition("=") for item in parameters) if name == "rate"]
        rate = rates[0] if rates else INPUT_RATE
        pcm = _blob(blob)
        if kind != "audio/pcm" or len(pcm) % BYTES_PER_SAMPLE or rate != (self._rate or rate):
            raise _Refused("Request contains an invalid argument: audio.")
        if not self._rate:
            self._rate = rate
            detection = self._input.get("automaticActivityDetection", {})
            self._finder = TurnFinder(
                rate, detection.get("silenceDurationMs", 500), speech_ms=detection.get("prefixPaddingMs", 20)
            )
        self.got.audio += pcm
        assert self._finder is not None
        self._find(self._finder.feed(pcm))

    def _find(self, found: Sequence[Speech]) -> None:
        if self._manual or self._server.behaviour.turn_detection != "energy":
            return
        for speech in found:
            if speech.begun:
                self._begin_turn(speech.at)
            elif self._turn is not None:
                self._end_turn(speech.found)

    def _begin_turn(self, at: int) -> None:
        self._turn = at
        if self._speech_interrupts:
            self._interrupt()

    def _end_turn(self, at: int) -> None:
        assert self._turn is not None
        span, self._turn = (self._turn, at), None
        told, self._told = self._told, ""
        start, end = (BYTES_PER_SAMPLE * place for place in span)
        said = told or self._server.understand(bytes(self.got.audio[start:end]))
        self.got.turns.append(span)
        self.got.history.append(Message(role="user", text=said))
        if said and "inputAudioTranscription" in self._setup:
            if delay_s := self._server.behaviour.transcript_delay_s:
                self._later(delay_s, lambda: self._transcribe(said))
            else:
                self._transcribe(said)
        self._ask(said)

    def _transcribe(self, said: str) -> None:
        words = _words(said)
        for part in (words[: len(words) // 2], words[len(words) // 2 :]):
            if part:
                self._put_content(inputTranscription={"text": "".join(part)})
        self._put_content(inputTranscription={"finished": True})

    # -- the model -----------------------------------------------------------------------------------------------------

    def _ask(self, said: str) -> None:
        """The model is to answer: at once, or when it and the caller have said what they are saying."""
        self._wanted = said or self._wanted or ""
        self._go_on()

    def _go_on(self) -> None:
        if self._wanted is None or self._answering is not None or self._turn is not None or self._over:
            return
        said, self._wanted = self._wanted, None
        self._asked_once = True
        task = self._answering = asyncio.create_task(self._answer(said))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, said: str) -> None:
        try:
            self._tell_resumable(busy=True)
            while await self._perform(self._acts(said)):
                said = ""
            await self._finish_turn()
        except Exception as error:
            self._fail(error)

    def _acts(self, said: str) -> Sequence[Act]:
        self._slot = None
        got = self.got
        return self._server.model(
            Asked(
                connection=got.number,
                instructions=got.instructions,
                voice=got.voice,
                tools=got.tools,
                history=tuple(got.history),
                said=said,
            )
        )

    async def _perform(self, acts: Sequence[Act]) -> bool:
        """True if the model has waited for results, and goes on with them."""
        waited = False
        for _, group in itertools.groupby(acts, lambda act: isinstance(act, Call)):
            together = list(group)
            if calls := [act for act in together if isinstance(act, Call)]:
                waited |= await self._call(calls)
                continue
            for act in together:
                await self._do(act)
        return waited

    async def _do(self, act: Act) -> None:
        match act:
            case Speak():
                await self._speak(act)
            case Wait(seconds):
                await self._think(seconds)
            case Fail(_, message):
                self.close(1011, message)
            case Close(code, reason):
                self.close(code, reason)
            case HalfOpen():
                self.go_half_open()
            case GoAway(left_s):
                self.go_away(left_s)
            case Raw(message):
                self.send(message)
            case Twice():
                self._twice = True
            case _:
                raise BadInput(f"a script says {act!r}, which is no act")
        if self._over:
            await asyncio.Event().wait()  # until this task, cancelled already, ends here

    async def _speak(self, act: Speak) -> None:
        seconds = len(act.text) / SPEECH_CHARACTERS_PER_S if act.seconds is None else act.seconds
        pcm = act.audio or tone(seconds, OUTPUT_RATE)
        parts = list(pieces(pcm, OUTPUT_RATE, act.chunk_ms)) or [b""]
        words = _words(act.text)
        began = self._loop.time()
        samples = said = 0
        for number, part in enumerate(parts, 1):
            data = base64.b64encode(part).decode()
            blob = {"mimeType": f"audio/pcm;rate={OUTPUT_RATE}", "data": data}
            if part:
                self._put_content(modelTurn={"role": "model", "parts": [{"inlineData": blob}]})
            samples += len(part) // BYTES_PER_SAMPLE
            self._spoken += len(part) // BYTES_PER_SAMPLE
            self._plays_until = max(self._plays_until, self._loop.time()) + len(part) / BYTES_PER_SAMPLE / OUTPUT_RATE
            upto = round(len(words) * number / len(parts))
            self._say("".join(words[said:upto]))
            said = upto
            if act.pace:
                await asyncio.sleep(began + samples / OUTPUT_RATE / act.pace - self._loop.time())

    def _say(self, text: str) -> None:
        """The model has said so much more."""
        if not text:
            return
        message = self._in_history()
        if message.text and not text.startswith(" "):
            text = " " + text
        self._to_history(msgspec.structs.replace(message, text=message.text + text))
        if "outputAudioTranscription" in self._setup:
            self._put_content(outputTranscription={"text": text})

    def _in_history(self) -> Message:
        if self._slot is None:
            self._slot = len(self.got.history)
            self.got.history.append(Message(role="assistant"))
        return self.got.history[self._slot]

    def _to_history(self, message: Message) -> None:
        assert self._slot is not None
        self.got.history[self._slot] = message

    async def _think(self, seconds: float) -> None:
        """Where an interaction has several turns, what was said before the model thinks is a turn of its own."""
        playing_s = self._plays_until - self._loop.time()
        if self._family.status and self._spoken and playing_s < seconds:
            self._generated()
            await asyncio.sleep(max(0.0, playing_s))
            self._complete_turn("IN_PROGRESS")
            seconds -= max(0.0, playing_s)
        await asyncio.sleep(seconds)

    async def _finish_turn(self) -> None:
        self._generated()
        await asyncio.sleep(max(0.0, self._plays_until - self._loop.time()))
        self._end_answer()
        self._go_on()

    def _generated(self) -> None:
        if self._spoken and "outputAudioTranscription" in self._setup:
            self._put_content(outputTranscription={"finished": True})
        self._put_content(generationComplete=True)

    def _end_answer(self) -> None:
        self._answering = None
        self._called.clear()
        self._complete_turn("IDLE" if self._wanted is None else "IN_PROGRESS")
        self._tell_resumable()

    def _complete_turn(self, status: str) -> None:
        content: dict[str, Any] = {"turnComplete": True}
        if self._family.status:
            content["interactionStatus"] = status
        self._put({"serverContent": content, "usageMetadata": self._usage()})
        self._spoken = 0

    def _interrupt(self, *, cancel: bool = True) -> None:
        """The model stops here. The calls that it made in this answer are cancelled, unless it goes on with them."""
        if self._answering is None:
            return
        self._answering.cancel()
        if cancel and (ids := [call_id for call_id in self._called if call_id in self._pending]):
            self._cancel_calls(ids)
        self._plays_until = self._loop.time()
        self._put_content(interrupted=True)
        self._end_answer()

    def _usage(self) -> dict[str, Any]:
        got = self.got
        heard = sum(end - start for start, end in got.turns) / (self._rate or INPUT_RATE)
        text = len(got.instructions) + sum(len(message.text) for message in got.history)
        prompt = {"AUDIO": round(heard * AUDIO_TOKENS_PER_S), "TEXT": text // CHARACTERS_PER_TOKEN}
        response = {"AUDIO": round(self._spoken / OUTPUT_RATE * AUDIO_TOKENS_PER_S)}
        return {
            "promptTokenCount": sum(prompt.values()),
            "responseTokenCount": sum(response.values()),
            "totalTokenCount": sum(prompt.values()) + sum(response.values()),
            "promptTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in prompt.items()],
            "responseTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in response.items()],
        }

    def _tell_resumable(self, *, busy: bool = False) -> None:
        if "sessionResumption" not in self._setup or self._over:
            return
        if busy or self._pending:
            self._put({"sessionResumptionUpdate": {"resumable": False}})
        else:
            handle = self._server.remember(self.got.history)
            self._put({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def _call(self, calls: Sequence[Call]) -> bool:
        """Asks for tools. True if that made the model wait for their results."""
        asked = [(call.call_id or self._server.new_call_id(), call) for call in calls]
        message = self._in_history()
        requests = tuple(ToolRequest(call_id=key, name=call.name, arguments=call.arguments) for key, call in asked)
        self._to_history(msgspec.structs.replace(message, calls=(*message.calls, *requests)))
        for key, call in asked:
            self._pending[key] = _Pending(call.name, self._blocks(call.name))
            self._called.append(key)
        wire = [{"id": key, "name": call.name, "args": call.arguments} for key, call in asked]
        self._put({"toolCall": {"functionCalls": wire}})
        blocking = {key for key, _ in asked if self._pending[key].blocking}
        while blocking & self._pending.keys():
            self._results.clear()
            await self._results.wait()
        if blocking:
            self._slot = None
        return bool(blocking)

    def _blocks(self, name: str) -> bool:
        behaviors = (tool.get("behavior") for tool in self.got.tools if tool.get("name") == name)
        return (next(behaviors, None) or self._family.tools[0]) == "BLOCKING"

    def _take_results(self, responses: Sequence[dict[str, Any]]) -> None:
        wishes: set[str] = set()
        for response in responses:
            call_id = response.get("id")
            if not call_id:
                raise _Refused("Request contains an invalid argument: a function response without an id.")
            if (call := self._pending.get(call_id)) is None:
                continue  # cancelled meanwhile
            if call.blocking or not response.get("willContinue"):
                del self._pending[call_id]
            text = json.dumps(response.get("response", {}), ensure_ascii=False)
            self.got.results.append((call_id, text))
            self.got.history.append(Message(role="tool", text=text, call_id=call_id, name=call.name))
            wishes.add("SILENT" if call.blocking else response.get("scheduling", "WHEN_IDLE"))
        self._results.set()
        if "INTERRUPT" in wishes:
            self._interrupt(cancel=False)
        if wishes - {"SILENT"}:
            self._ask("")
        elif wishes and self._answering is None:
            self._tell_resumable()

    def _cancel_calls(self, ids: Sequence[str]) -> None:
        for call_id in ids:
            del self._pending[call_id]
        kept: list[Message] = []
        for message in self.got.history:
            calls = tuple(call for call in message.calls if call.call_id not in ids)
            if calls or message.text or not message.calls:
                kept.append(msgspec.structs.replace(message, calls=calls))
        self.got.history[:] = kept
        self._slot = None
        self._put({"toolCallCancellation": {"ids": list(ids)}})


def _words(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    return re.findall(r"\s*\S+", text)


# -- the server --------------------------------------------------------------------------------------------------------


class ScriptedGemini:
    """Gemini's Live API on loopback. `model` is a function of what is asked, or answers to give one after the other.

    The behaviour's fields are keyword arguments, and may be changed at any time in `behaviour`. The client must trust
    the server's certificate: `ssl_context` does. An error in the script, as of a model that raises, is raised where
    the server's `async with` ends.
    """

    def __init__(self, model: Model | Sequence[Sequence[Act]] = (), **behaviour: Any) -> None:
        self.model = model if callable(model) else scripted(model)
        self.behaviour = Behaviour(**behaviour)
        self.got: list[Got] = []
        self.connections: list[GeminiConnection] = []
        self.failures: list[Exception] = []
        self.ssl_context = loopback().client
        self._handles: dict[str, tuple[Message, ...]] = {}
        self._given = itertools.count(1)
        self._call_ids = itertools.count(1)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState while the server does not run."""
        if self._server is None:
            raise IllegalState("a ScriptedGemini has an address only inside its `async with`")
        return f"https://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> ScriptedGemini:
        self._server = await serve(
            self._accept,
            HOST,
            0,
            ssl=loopback().server,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
            max_size=_MAX_MESSAGE,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in self.connections:
            connection.abort()
        server.close()
        await server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if not _PATH.fullmatch(request.path):
            return connection.respond(404, "Not Found\n")
        if self.behaviour.refuse > 0:
            self.behaviour.refuse -= 1
            return connection.respond(503, "The service is currently unavailable.\n")
        return None

    async def _accept(self, websocket: ServerConnection) -> None:
        connection = GeminiConnection(self, websocket, len(self.got) + 1)
        self.got.append(connection.got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)

    # -- what all connections share ------------------------------------------------------------------------------------

    def understand(self, pcm: bytes) -> str:
        """What the caller is taken to have said."""
        transcripts = self.behaviour.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        if not transcripts:
            return ""
        self.behaviour.transcripts = transcripts[1:]
        return transcripts[0]

    def remember(self, history: Sequence[Message]) -> str:
        """A handle to a session that has got so far."""
        handle = f"handle-{next(self._given)}"
        self._handles[handle] = tuple(history)
        if len(self._handles) > KEEP_HANDLES:
            del self._handles[next(iter(self._handles))]
        return handle

    def recall(self, handle: str) -> list[Message]:
        """The history at a handle."""
        if self.behaviour.refuse_handles or handle not in self._handles:
            raise _Refused("Invalid session resumption handle.")
        return list(self._handles[handle])

    def new_call_id(self) -> str:
        """An id that no call of this server's had before."""
        return f"function-call-{next(self._call_ids)}"
