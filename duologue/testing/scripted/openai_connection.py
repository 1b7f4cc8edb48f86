"""One connection to a scripted OpenAI server: the wire, the clock of the script, and what the session remembers."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from ...audio.resample import Resampler
from ...errors import IllegalState
from ...protocols.openai_realtime.config import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...services.context import Message, ToolRequest
from ..tones import TurnFinder, tone
from .server import SPEECH_CHARACTERS_PER_S, Act, Asked, Call, Close, Fail, Got, HalfOpen, Raw, Speak, Twice, Wait

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from .openai import ScriptedOpenAI

OUTPUT_RATE = 24_000
START_MS = 40
"""Of speech without a pause, for the caller to have begun."""
THRESHOLD_DBFS = -40.0
EXPIRED = "Your session hit the maximum duration of 60 minutes."


class OpenAIConnection:
    """A client's connection while it lives. `session` is its state as the wire shows it, `got` what it has brought."""

    def __init__(self, server: ScriptedOpenAI, socket: ServerConnection, got: Got, model: str, expires_at: int) -> None:
        self.got = got
        self.session = RealtimeServerSession(self._emit, self, model=model, tag=str(got.number), expires_at=expires_at)
        self._server = server
        self._socket = socket
        self._tasks: anyio.abc.TaskGroup | None = None
        self._outgoing: asyncio.Queue[str | bytes | Close | HalfOpen] = asyncio.Queue()
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._twice = False
        self._frozen = False
        self._calls = 0
        self._told: str | None = None
        self._finder: TurnFinder | None = None
        self._finder_from_ms = 0.0

    # -- for tests -------------------------------------------------------------------------------------------------

    def begin_turn(self, transcript: str = "") -> None:
        """With turns that are told: the caller begins to speak, and this is what he will have said ("" for the next
        of the server's transcripts). Raises IllegalState if the session has no turn detection."""
        if self.session.turn_detection is None:
            raise IllegalState("begin_turn: this session has no turn detection, so the client says when turns end")
        self._told = transcript
        self.session.speech_started(self.session.received_ms)

    def end_turn(self) -> None:
        """With turns that are told: the caller has finished, and the model answers."""
        self.session.speech_stopped(self.session.received_ms)

    def close(self, code: int = 1011, reason: str = "") -> None:
        """Close it after what waits to be sent; a `code` of 0 breaks it off."""
        self._outgoing.put_nowait(Close(code, reason))

    def send(self, raw: str | bytes) -> None:
        """Send a message as it is."""
        self._outgoing.put_nowait(raw)

    def go_half_open(self) -> None:
        """From now on neither read nor write, and do not close."""
        self._frozen = True
        self._socket.transport.pause_reading()

    def end(self) -> None:
        """The server ends: break off what cannot be closed."""
        if self._frozen:
            self._socket.transport.abort()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    # -- the connection --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve it until it ends."""
        from websockets.exceptions import ConnectionClosed

        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._write)
            tasks.start_soon(self._expire)
            self.session.open()
            try:
                while True:
                    message = await self._socket.recv()
                    if self._frozen:
                        await anyio.sleep_forever()
                    self._take(message)
            except ConnectionClosed:
                tasks.cancel_scope.cancel()

    def _take(self, message: str | bytes) -> None:
        try:
            event = json.loads(message)
        except ValueError:
            event = {"type": "", "raw": message}
        if not isinstance(event, dict) or event.get("type") != "input_audio_buffer.append":
            self.got.messages.append(event if isinstance(event, dict) else {"type": "", "raw": message})
        self.session.receive(message)

    async def _write(self) -> None:
        from websockets.exceptions import ConnectionClosed

        behaviour = self._server.behaviour
        await _sleep(behaviour.setup_delay_s)
        try:
            while True:
                message = await self._outgoing.get()
                await _sleep(behaviour.delay_s)
                if isinstance(message, HalfOpen):
                    self.go_half_open()
                if self._frozen:
                    await anyio.sleep_forever()
                if isinstance(message, Close):
                    await self._close(message)
                elif not isinstance(message, HalfOpen):
                    await self._socket.send(message)
        except ConnectionClosed:
            pass

    async def _close(self, how: Close) -> None:
        if how.code in (0, 1006):  # 1006 stands for a connection that broke off: it cannot be sent
            self._socket.transport.abort()
        else:
            await self._socket.close(how.code, how.reason)

    async def _expire(self) -> None:
        await _sleep(self._server.behaviour.session_limit_s)
        self.close(1001, EXPIRED)

    def _emit(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("conversation.item."):
            self.got.history[:] = self._history(self.session.items)
        self._put(json.dumps(event))

    def _put(self, message: str | bytes) -> None:
        for _ in range(2 if self._twice else 1):
            self._outgoing.put_nowait(message)
        self._twice = False

    # -- what the session asks for ---------------------------------------------------------------------------------

    def configure(self, session: dict[str, Any], change: dict[str, Any]) -> None:
        """Note how the session is set up."""
        if self._server.refuse_updates:
            raise Refusal("invalid_value", "This change cannot be made now.", "session")
        self.got.instructions = session["instructions"]
        self.got.voice = _voice(session)
        self.got.tools = tuple(session["tools"])
        detection = session["audio"]["input"]["turn_detection"]
        if detection != self.session.turn_detection:
            self._finder = None

    def audio(self, pcm: bytes, rate: int) -> None:
        """Record it, and find turns in it."""
        self.got.audio += pcm
        if self.session.turn_detection is None or self._server.behaviour.turn_detection == "told":
            return
        if self._finder is None or self._finder.sample_rate != rate:
            silence_ms = self.session.turn_detection.get("silence_duration_ms") or 500
            self._finder = TurnFinder(rate, silence_ms, speech_ms=START_MS, threshold_dbfs=THRESHOLD_DBFS)
            self._finder_from_ms = self.session.received_ms - len(pcm) / (2 * rate) * 1000
        for speech in self._finder.feed(pcm):
            if speech.begun:
                self.session.speech_started(self._finder_from_ms + speech.at * 1000 / rate)
            else:
                self.session.speech_stopped(self._finder_from_ms + speech.found * 1000 / rate)

    def cleared(self) -> None:
        """What was told about the turn is void."""
        self._told = None

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Understand the turn now, and tell its transcript later."""
        samples = self.session.input_rate / 1000
        start, end = round(start_ms * samples), round(end_ms * samples)
        self.got.turns.append((start, end))
        item.text = self._told or self._server.behaviour.understand(bytes(self.got.audio[2 * start : 2 * end]))
        self._told = None
        assert self._tasks is not None
        self._tasks.start_soon(self._transcribe, item, (end_ms - start_ms) / 1000)

    async def _transcribe(self, item: ServerItem, seconds: float) -> None:
        await _sleep(self._server.behaviour.transcript_delay_s)
        self.session.transcribed(item, item.text, seconds)

    def created(self, item: ServerItem, at_end: bool) -> None:
        """Note results of tools."""
        if item.wire["type"] == "function_call_output":
            self.got.results.append((item.wire["call_id"], item.wire["output"]))

    def deleted(self, item: ServerItem) -> None:
        """The session has forgotten it."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Forget the words that were not heard."""
        words = _words(item.text)
        if item.audio_ms:
            words = words[: int(len(words) * audio_end_ms / item.audio_ms + 1e-9)]
        item.text = "".join(words).rstrip()
        self.got.truncated.append((item.id, audio_end_ms))

    def check_response(self, asked: dict[str, Any]) -> None:
        """Any response may be asked for."""

    def respond(self, response: ServerResponse) -> None:
        """Ask the model, and do what it says."""
        scope = self._scopes[response.id] = anyio.CancelScope()
        assert self._tasks is not None
        self._tasks.start_soon(self._answer, response, scope, self._asked(response))

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """Stop it."""
        self._scopes.pop(response.id).cancel()
        return self._usage(response)

    # -- the model -------------------------------------------------------------------------------------------------

    def _asked(self, response: ServerResponse) -> Asked:
        history = self._history(self.session.items if response.input is None else response.input)
        last = history[-1] if history else None
        own, general = response.own_instructions, self.session.config["instructions"]
        return Asked(
            connection=self.got.number,
            instructions="\n\n".join(part for part in (general, own) if part),
            voice=_voice(response.settings),
            tools=tuple(response.settings["tools"]),
            history=tuple(history),
            said=last.text if last is not None and last.role == "user" else "",
        )

    async def _answer(self, response: ServerResponse, scope: anyio.CancelScope, asked: Asked) -> None:
        with scope:
            try:
                for act in self._server.ask(asked):
                    await self._perform(act, response)
            except Exception as error:
                self._server.failures.append(error)
                await self._perform(Fail(message=f"The script failed: {error}"), response)
            self._scopes.pop(response.id, None)
            if not response.over:
                response.finish(usage=self._usage(response))
            self.session.emit("rate_limits.updated", rate_limits=_RATE_LIMITS)

    async def _perform(self, act: Act, response: ServerResponse) -> None:
        match act:
            case Speak():
                await self._speak(act, response)
            case Call():
                self._calls += 1
                call_id = act.call_id or f"call_{self.got.number}_{self._calls}"
                response.call(call_id, act.name, json.dumps(act.arguments))
            case Wait():
                await _sleep(act.seconds)
            case Fail():
                error = {"type": "server_error", "code": act.code, "message": act.message}
                response.finish("failed", error=error, usage=self._usage(response))
            case Close() | HalfOpen():
                self._outgoing.put_nowait(act)
                await anyio.sleep_forever()
            case Raw():
                self._put(json.dumps(act.message) if isinstance(act.message, dict) else act.message)
            case Twice():
                self._twice = True

    async def _speak(self, act: Speak, response: ServerResponse) -> None:
        words = _words(act.text)
        if words and response.output and response.output[-1].text:
            words[0] = " " + words[0]
        if not response.speaks:
            response.say("".join(words))
            return
        seconds = len(act.text) / SPEECH_CHARACTERS_PER_S if act.seconds is None else act.seconds
        pcm = act.audio or tone(seconds, OUTPUT_RATE)
        if response.rate != OUTPUT_RATE:
            resampler = Resampler(OUTPUT_RATE, response.rate)
            pcm = resampler.process(pcm) + resampler.flush()
        size = response.rate * act.chunk_ms // 1000 * 2
        chunks = [pcm[at : at + size] for at in range(0, len(pcm), size)] or [b""]
        began = anyio.current_time()
        said = 0
        for number, chunk in enumerate(chunks):
            if act.pace and number:
                await anyio.sleep_until(began + number * act.chunk_ms / 1000 / act.pace)
            until = math.ceil(len(words) * (number + 1) / len(chunks))
            response.say("".join(words[said:until]))
            response.voice(chunk)
            said = until

    def _history(self, items: Sequence[ServerItem]) -> list[Message]:
        return [message for item in items if (message := _message(item)) is not None]

    def _usage(self, response: ServerResponse) -> dict[str, Any]:
        asked = self.session.config["instructions"] + "".join(item.text for item in self.session.items)
        heard = sum(end - start for start, end in self.got.turns) / self.session.input_rate
        text_in, audio_in = len(asked) // 4, round(10 * heard)
        text_out = sum(len(item.text or item.wire.get("arguments", "")) for item in response.output) // 4
        audio_out = round(sum(item.audio_ms for item in response.output) / 50)
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": text_in + audio_in + text_out + audio_out,
            "input_tokens": text_in + audio_in,
            "output_tokens": text_out + audio_out,
            "input_token_details": {
                "text_tokens": text_in,
                "audio_tokens": audio_in,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
        }


_RATE_LIMITS = [{"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 0.5}]


async def _sleep(seconds: float) -> None:
    if math.isinf(seconds):
        await anyio.sleep_forever()
    elif seconds > 0:
        await anyio.sleep(seconds)


def _voice(settings: dict[str, Any]) -> str:
    voice = settings["audio"]["output"]["voice"]
    return voice if isinstance(voice, str) else str(voice.get("id", ""))


def _words(text: str) -> list[str]:
    """Words with the space that follows them."""
    return re.findall(r"\s*\S+\s*", text)


def _message(item: ServerItem) -> Message | None:
    wire = item.wire
    if wire["type"] == "function_call":
        call = ToolRequest(call_id=wire["call_id"], name=wire["name"], arguments=_object(wire["arguments"]))
        return Message(role="assistant", calls=(call,))
    if wire["type"] == "function_call_output":
        return Message(role="tool", text=wire["output"], call_id=wire["call_id"])
    if wire["role"] == "assistant" and not item.text:
        return None
    image = next((part["image_url"] for part in wire["content"] if part.get("type") == "input_image"), "")
    return Message(role=wire["role"], text=item.text, url=image)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
