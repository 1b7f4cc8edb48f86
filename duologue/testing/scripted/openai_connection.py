"""`OpenAIConnection`: one connection to a `ScriptedOpenAI`, and the backend of the connection's protocol session."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Sequence, Set
from typing import Any

from websockets.asyncio.server import ServerConnection

from ...audio.resample import Resampler
from ...errors import IllegalState
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...services.context import Message, ToolRequest
from ..tones import TurnFinder
from .connection import ScriptedConnection, forever
from .languages import words_before_space
from .manners_openai import OpenAIManners
from .server import SCRIPTED_RATE, Act, Asked, CallTool, Fail, Got, ScriptedServer, Speak

START_MS = 40
"""Milliseconds of uninterrupted speech that begin a turn of the caller."""
THRESHOLD_DBFS = -40.0
EXPIRED = "Your session hit the maximum duration of 60 minutes."
_RATE_LIMITS = [{"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 0.5}]


class OpenAIConnection(ScriptedConnection):
    """An open connection. `session` is the protocol's state."""

    def __init__(
        self,
        server: ScriptedServer[OpenAIConnection],
        socket: ServerConnection,
        got: Got,
        model: str,
        expires_at: int,
        *,
        refuses_updates: Callable[[], bool],
        echoes: Callable[[], bool],
    ) -> None:
        super().__init__(server, socket, got)
        self.session = RealtimeServerSession(self._emit, self, model=model, tag=str(got.number), expires_at=expires_at)
        self._model_name = model
        self._refuses_updates, self._echoes = refuses_updates, echoes
        self._answers: dict[str, asyncio.Task[None]] = {}
        """The task for each response in progress, by the id of the response."""
        self._call_count = 0
        self._transcript: str | None = None
        """The test's transcript for the turn in progress."""
        self._finder: TurnFinder | None = None
        self._finder_from_ms = 0.0

    # -- for tests -------------------------------------------------------------------------------------------------

    def begin_turn(self, transcript: str = "") -> None:
        """Begin a turn of the caller. `transcript` is the turn's text, "" for the server's next one.

        Raises IllegalState if the session has no turn detection.
        """
        if self.session.turn_detection is None:
            raise IllegalState("begin_turn: this session has no turn detection, so the client commits its turns")
        self._transcript = transcript
        self.session.input.speech_started(self.session.input.received_ms)

    def end_turn(self) -> None:
        """End the caller's turn."""
        self.session.input.speech_stopped(self.session.input.received_ms)

    def mannered(self) -> OpenAIManners | None:
        """Return the filter that shows the server's faults on this connection, None without any."""
        manners = self.server.manners
        return None if manners is None else OpenAIManners(manners, self.send_late)

    # -- life ------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Open the session, and take the client's messages."""
        models = self.server.behaviour.models
        if models and self._model_name not in models:
            problem = f"The model `{self._model_name}` does not exist or you do not have access to it."
            self.session.error("model_not_found", problem)
            self.close(4000, "invalid_request_error.model_not_found")
            return
        await self.set_up_delay()
        self.later(self.server.behaviour.session_limit_s, lambda: self.close(1001, EXPIRED))
        self.session.open()
        async for message in self.socket:
            if self.over:
                break
            self._take(message)

    def _take(self, message: str | bytes) -> None:
        try:
            event: Any = json.loads(message)
        except ValueError:
            event = None
        event = event if isinstance(event, dict) else {"type": "", "raw": message}
        if event.get("type") != "input_audio_buffer.append":
            self.got.messages.append(event)
        self.session.receive(message)

    def _emit(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("conversation.item."):
            self.got.history[:] = _as_messages(self.session.items)
        if "response" in event and not self._echoes():
            event["response"].pop("metadata", None)
        self.send(event)

    # -- the backend -----------------------------------------------------------------------------------------------

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Record the settings."""
        if self._refuses_updates():
            raise Refusal("invalid_value", "This change cannot be made now.", "session")
        self.got.instructions = session["instructions"]
        self.got.voice = _voice(session)
        self.got.tools = tuple(session["tools"])
        detection = session["audio"]["input"]["turn_detection"]
        if detection != self.session.turn_detection:
            self._finder = None

    def audio(self, pcm: bytes, rate: int) -> None:
        """Record audio, and find turns in it."""
        self.got.audio += pcm
        if self.session.turn_detection is None or self.server.behaviour.turn_detection == "told":
            return
        if self._finder is None or self._finder.sample_rate != rate:
            silence_ms = self.session.turn_detection.get("silence_duration_ms") or 500
            self._finder = TurnFinder(rate, silence_ms, speech_ms=START_MS, threshold_dbfs=THRESHOLD_DBFS)
            self._finder_from_ms = self.session.input.received_ms - len(pcm) / (2 * rate) * 1000
        for speech in self._finder.feed(pcm):
            if speech.begun:
                self.session.input.speech_started(self._finder_from_ms + speech.at * 1000 / rate)
            else:
                self.session.input.speech_stopped(self._finder_from_ms + speech.found * 1000 / rate)

    def cleared(self) -> None:
        """Forget the transcript of the turn."""
        self._transcript = None

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Transcribe the turn now, and send its transcript later."""
        samples = self.session.input_rate / 1000
        start, end = round(start_ms * samples), round(end_ms * samples)
        self.got.turns.append((start, end))
        item.text = self._transcript or self.server.understand(bytes(self.got.audio[2 * start : 2 * end]))
        self._transcript = None
        seconds, delay_s = (end_ms - start_ms) / 1000, self.server.behaviour.transcript_delay_s
        self.later(delay_s, lambda: self.session.transcribed(item, item.text, seconds))

    def created(self, item: ServerItem, place: int) -> None:
        """Record the result of a tool."""
        if item.wire["type"] == "function_call_output":
            self.got.results.append((item.wire["call_id"], item.wire["output"]))

    def deleted(self, item: ServerItem) -> None:
        """Do nothing: no data is kept for an item."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Remove the unheard words from the history."""
        kept = len(item.text) * audio_end_ms / item.audio_ms + 1e-9 if item.audio_ms else math.inf
        ends = itertools.accumulate(map(len, words := words_before_space(item.text)))
        item.text = "".join(word for word, end in zip(words, ends, strict=True) if end <= kept).rstrip()
        self.got.truncated.append((item.id, audio_end_ms))

    def check_response(self, asked: dict[str, Any]) -> None:
        """Accept any response."""

    def respond(self, response: ServerResponse) -> None:
        """Ask the model for its acts, and carry them out."""
        self._answers[response.id] = self.start(self._answer(response, self._asked(response)))

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """Stop the answer. Returns its usage."""
        self._answers.pop(response.id).cancel()
        return self._usage(response)

    # -- the model -------------------------------------------------------------------------------------------------

    def _asked(self, response: ServerResponse) -> Asked:
        history = _as_messages(self.session.items if response.input is None else response.input)
        instructions = (self.session.config["instructions"], response.own_instructions)
        return self.asked(
            instructions="\n\n".join(filter(None, instructions)),
            voice=_voice(response.settings),
            tools=tuple(response.settings["tools"]),
            history=tuple(history),
            said=history[-1].text if history and history[-1].role == "user" else "",
        )

    async def _answer(self, response: ServerResponse, asked: Asked) -> None:
        try:
            for act in self.server.ask(asked):
                await self._do(act, response)
        except Exception as error:
            self.server.failures.append(error)
            await self._do(Fail(message=f"The script failed: {error}"), response)
        self._answers.pop(response.id, None)
        if not response.over:
            response.finish(usage=self._usage(response))
        self.session.emit("rate_limits.updated", rate_limits=_RATE_LIMITS)

    async def _do(self, act: Act, response: ServerResponse) -> None:
        match act:
            case Speak():
                await self._speak(act, response)
            case CallTool():
                self._call_count += 1
                call_id = act.call_id or f"call_{self.got.number}_{self._call_count}"
                response.call(call_id, act.name, json.dumps(act.arguments))
            case Fail():
                error = {"type": "server_error", "code": act.code, "message": act.message}
                response.finish("failed", error=error, usage=self._usage(response))
            case _:
                await self.perform(act)
        if self.over:
            await forever()  # this task is cancelled already, and ends here

    async def _speak(self, act: Speak, response: ServerResponse) -> None:
        words = words_before_space(act.text)
        if words and response.output and response.output[-1].text:
            words[0] = " " + words[0]
        if not response.speaks:
            response.say("".join(words))
            return
        resampler = Resampler(SCRIPTED_RATE, response.rate) if response.rate != SCRIPTED_RATE else None
        async for said, part in self.spoken(act, words):
            response.say(said)
            response.voice(part if resampler is None else resampler.process(part))
        if resampler is not None:
            response.voice(resampler.flush())

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


def _voice(settings: dict[str, Any]) -> str:
    voice = settings["audio"]["output"]["voice"]
    return voice if isinstance(voice, str) else str(voice.get("id", ""))


def _as_messages(items: Sequence[ServerItem]) -> list[Message]:
    return [message for item in items if (message := _as_message(item)) is not None]


def _as_message(item: ServerItem) -> Message | None:
    wire = item.wire
    if wire["type"] == "function_call":
        call = ToolRequest(call_id=wire["call_id"], name=wire["name"], arguments=_parsed_object(wire["arguments"]))
        return Message(role="assistant", calls=(call,))
    if wire["type"] == "function_call_output":
        return Message(role="tool", text=wire["output"], call_id=wire["call_id"])
    if wire["role"] == "assistant" and not item.text:
        return None
    image = next((part["image_url"] for part in wire["content"] if part.get("type") == "input_image"), "")
    return Message(role=wire["role"], text=item.text, url=image)


def _parsed_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
