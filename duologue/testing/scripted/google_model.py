"""`GeminiModel`: the model's side of a connection to a `ScriptedGemini`, which carries out the script."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ...audio.pcm import BYTES_PER_SAMPLE
from ...services.context import Message, ToolRequest
from .connection import forever
from .google_rules import GeminiRefusal
from .google_wire import GeminiWire
from .languages import words_after_space
from .server import SCRIPTED_RATE, Act, CallTool, Fail, Speak, Wait

DEFAULT_INPUT_RATE = 16_000
AUDIO_TOKENS_PER_S = 25
CHARACTERS_PER_TOKEN = 4


class _PendingCall(NamedTuple):
    """A tool call without a result."""

    name: str
    blocking: bool


class GeminiModel:
    """Answers on one connection with the server's script."""

    def __init__(self, wire: GeminiWire) -> None:
        self.asked = False
        """True once the model has received a request."""
        self.got = wire.got
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._answering: asyncio.Task[None] | None = None
        self._wanted: str | None = None
        """The caller's words that wait for an answer, None if none wait."""
        self._spoke = False
        """True if nothing but speech of the caller waits for an answer."""
        self._slot: int | None = None
        """The index of the current answer in the history."""
        self._pending: dict[str, _PendingCall] = {}
        self._called: list[str] = []
        """The ids of the current answer's tool calls."""
        self._results = asyncio.Event()
        self._plays_until = 0.0
        self._spoken = 0
        """The number of audio samples in the model's current turn."""

    def ask(self, said: str, *, spoken: bool = False) -> None:
        """Let the model answer: at once, or when it and the caller have finished speaking."""
        self._spoke = spoken and (self._wanted is None or self._spoke)
        self._wanted = said or self._wanted or ""
        self._go_on()

    def _go_on(self) -> None:
        if self._wanted is None or self._answering is not None or self._wire.turn_start is not None or self._wire.over:
            return
        said, self._wanted = self._wanted, None
        self.asked = True
        self._answering = self._wire.start(self._answer(said, self._spoke))

    async def _answer(self, said: str, spoken: bool) -> None:
        try:
            self._tell_resumable(busy=True)
            while await self._perform(self._acts(said, spoken)):
                said, spoken = "", False
            await self._finish_turn()
        except Exception as error:
            self._wire.fail(error)

    def _acts(self, said: str, spoken: bool) -> Sequence[Act]:
        self._slot = None
        return self._wire.server.ask(self._wire.asked(said=said, spoken=spoken))

    async def _perform(self, acts: Sequence[Act]) -> bool:
        """Carry out acts. Returns True if the model has waited for results and continues with them."""
        waited = False
        for _, group in itertools.groupby(acts, lambda act: isinstance(act, CallTool)):
            together = list(group)
            if calls := [act for act in together if isinstance(act, CallTool)]:
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
                self._wire.close(1011, message)
            case _:
                await self._wire.perform(act)
        if self._wire.over:
            await forever()  # this task is cancelled already, and ends here

    async def _speak(self, act: Speak) -> None:
        begun = self._slot is not None and bool(self._in_history().text)
        async for words, part in self._wire.spoken(act, words_after_space(act.text)):
            data = base64.b64encode(part).decode()
            blob = {"mimeType": f"audio/pcm;rate={SCRIPTED_RATE}", "data": data}
            if part:
                self._wire.send_content(modelTurn={"role": "model", "parts": [{"inlineData": blob}]})
            samples = len(part) // BYTES_PER_SAMPLE
            self._spoken += samples
            self._plays_until = max(self._plays_until, self._loop.time()) + samples / SCRIPTED_RATE
            self._say(f" {words}" if begun and words and not words.startswith(" ") else words)
            begun = begun and not words

    def _say(self, text: str) -> None:
        """Add text to the model's answer."""
        if not text:
            return
        message = self._in_history()
        self._to_history(msgspec.structs.replace(message, text=message.text + text))
        if "outputAudioTranscription" in self._wire.setup:
            self._wire.send_content(outputTranscription={"text": text})

    def _in_history(self) -> Message:
        if self._slot is None:
            self._slot = len(self.got.history)
            self.got.history.append(Message(role="assistant"))
        return self.got.history[self._slot]

    def _to_history(self, message: Message) -> None:
        assert self._slot is not None
        self.got.history[self._slot] = message

    async def _think(self, seconds: float) -> None:
        """Pause. For families whose interactions have several turns, the words before the pause are a turn."""
        playing_s = self._plays_until - self._loop.time()
        if self._wire.family.status and self._spoken and playing_s < seconds:
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
        if self._spoken and "outputAudioTranscription" in self._wire.setup:
            self._wire.send_content(outputTranscription={"finished": True})
        self._wire.send_content(generationComplete=True)

    def _end_answer(self) -> None:
        self._answering = None
        self._called.clear()
        self._complete_turn("IDLE" if self._wanted is None else "IN_PROGRESS")
        self._tell_resumable()

    def _complete_turn(self, status: str) -> None:
        content: dict[str, Any] = {"turnComplete": True}
        if self._wire.family.status:
            content["interactionStatus"] = status
        self._wire.send({"serverContent": content, "usageMetadata": self._usage()})
        self._spoken = 0

    def interrupt(self, *, cancel: bool = True) -> None:
        """Stop the answer. With `cancel` its tool calls are cancelled, too."""
        if self._answering is None:
            return
        self._answering.cancel()
        if cancel and (ids := [call_id for call_id in self._called if call_id in self._pending]):
            self._cancel_calls(ids)
        self._plays_until = self._loop.time()
        self._wire.send_content(interrupted=True)
        self._end_answer()

    def _usage(self) -> dict[str, Any]:
        got = self.got
        heard = sum(end - start for start, end in got.turns) / (self._wire.rate or DEFAULT_INPUT_RATE)
        text = len(got.instructions) + sum(len(message.text) for message in got.history)
        prompt = {"AUDIO": round(heard * AUDIO_TOKENS_PER_S), "TEXT": text // CHARACTERS_PER_TOKEN}
        response = {"AUDIO": round(self._spoken / SCRIPTED_RATE * AUDIO_TOKENS_PER_S)}
        return {
            "promptTokenCount": sum(prompt.values()),
            "responseTokenCount": sum(response.values()),
            "totalTokenCount": sum(prompt.values()) + sum(response.values()),
            "promptTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in prompt.items()],
            "responseTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in response.items()],
        }

    def _tell_resumable(self, *, busy: bool = False) -> None:
        if "sessionResumption" not in self._wire.setup or self._wire.over:
            return
        if busy or self._pending:
            self._wire.send({"sessionResumptionUpdate": {"resumable": False}})
        else:
            handle = self._wire.memory.remember(self.got.history)
            self._wire.send({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def _call(self, calls: Sequence[CallTool]) -> bool:
        """Call tools. Returns True if the model has waited for their results."""
        asked = [(call.call_id or self._wire.memory.new_call_id(), call) for call in calls]
        message = self._in_history()
        requests = tuple(ToolRequest(call_id=key, name=call.name, arguments=call.arguments) for key, call in asked)
        self._to_history(msgspec.structs.replace(message, calls=(*message.calls, *requests)))
        for key, call in asked:
            self._pending[key] = _PendingCall(call.name, self._blocks(call.name))
            self._called.append(key)
        wire = [{"id": key, "name": call.name, "args": call.arguments} for key, call in asked]
        self._wire.send({"toolCall": {"functionCalls": wire}})
        blocking = {key for key, _ in asked if self._pending[key].blocking}
        while blocking & self._pending.keys():
            self._results.clear()
            await self._results.wait()
        if blocking:
            self._slot = None
        return bool(blocking)

    def _blocks(self, name: str) -> bool:
        behaviors = (tool.get("behavior") for tool in self.got.tools if tool.get("name") == name)
        return (next(behaviors, None) or self._wire.family.tools[0]) == "BLOCKING"

    def take_results(self, responses: Sequence[dict[str, Any]]) -> None:
        """Take the client's results of tool calls."""
        wishes: set[str] = set()
        for response in responses:
            call_id = response.get("id")
            if not call_id:
                raise GeminiRefusal("Request contains an invalid argument: a function response without an id.")
            if (call := self._pending.get(call_id)) is None:
                continue  # the call was cancelled meanwhile
            if call.blocking or not response.get("willContinue"):
                del self._pending[call_id]
            text = json.dumps(response.get("response", {}), ensure_ascii=False)
            self.got.results.append((call_id, text))
            self.got.history.append(Message(role="tool", text=text, call_id=call_id, name=call.name))
            wishes.add("SILENT" if call.blocking else response.get("scheduling", "WHEN_IDLE"))
        self._results.set()
        if "INTERRUPT" in wishes:
            self.interrupt(cancel=False)
        if wishes - {"SILENT"}:
            self.ask("")
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
        self._wire.send({"toolCallCancellation": {"ids": list(ids)}})
