"""The model's side of a connection to a `ScriptedGemini`: it carries out what the script says."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...audio.pcm import BYTES_PER_SAMPLE
from ...errors import BadInput
from ...services.context import Message, ToolRequest
from ..tones import pieces, tone
from .google_rules import Refused, words_of
from .server import SPEECH_CHARACTERS_PER_S, Act, Asked, Call, Close, Fail, GoAway, HalfOpen, Raw, Speak, Twice, Wait

if TYPE_CHECKING:
    from .google_connection import GeminiConnection

INPUT_RATE = 16_000
OUTPUT_RATE = 24_000
AUDIO_TOKENS_PER_S = 25
CHARACTERS_PER_TOKEN = 4


class _Pending(NamedTuple):
    """A tool call without a result."""

    name: str
    blocking: bool


class GeminiModel:
    """Answers what it is asked on one connection, by the server's script."""

    def __init__(self, link: GeminiConnection) -> None:
        self.asked = False
        self.got = link.got
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: asyncio.Task[None] | None = None
        self._wanted: str | None = None  # what the next answer, which has to wait, is to
        self._slot: int | None = None  # where in the history the answer is
        self._pending: dict[str, _Pending] = {}
        self._called: list[str] = []  # in this answer
        self._results = asyncio.Event()
        self._plays_until = 0.0
        self._spoken = 0  # samples of this turn of the model's

    def stop(self) -> None:
        """Do nothing any more."""
        self._answering = None
        for task in self._tasks:
            task.cancel()

    async def stopped(self) -> None:
        """Wait until what was stopped has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, said: str) -> None:
        """The model is to answer: at once, or when it and the caller have said what they are saying."""
        self._wanted = said or self._wanted or ""
        self._go_on()

    def _go_on(self) -> None:
        if self._wanted is None or self._answering is not None or self._link.hearing or self._link.over:
            return
        said, self._wanted = self._wanted, None
        self.asked = True
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
            self._link.fail(error)

    def _acts(self, said: str) -> Sequence[Act]:
        self._slot = None
        got = self.got
        return self._link.server.model(
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
                self._link.close(1011, message)
            case Close(code, reason):
                self._link.close(code, reason)
            case HalfOpen():
                self._link.go_half_open()
            case GoAway(left_s):
                self._link.go_away(left_s)
            case Raw(message):
                self._link.send(message)
            case Twice():
                self._link.send_twice()
            case _:
                raise BadInput(f"a script says {act!r}, which is no act")
        if self._link.over:
            await asyncio.Event().wait()  # until this task, cancelled already, ends here

    async def _speak(self, act: Speak) -> None:
        seconds = len(act.text) / SPEECH_CHARACTERS_PER_S if act.seconds is None else act.seconds
        pcm = act.audio or tone(seconds, OUTPUT_RATE)
        parts = list(pieces(pcm, OUTPUT_RATE, act.chunk_ms)) or [b""]
        words = words_of(act.text)
        began = self._loop.time()
        samples = said = 0
        for number, part in enumerate(parts, 1):
            data = base64.b64encode(part).decode()
            blob = {"mimeType": f"audio/pcm;rate={OUTPUT_RATE}", "data": data}
            if part:
                self._link.put_content(modelTurn={"role": "model", "parts": [{"inlineData": blob}]})
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
        if "outputAudioTranscription" in self._link.setup:
            self._link.put_content(outputTranscription={"text": text})

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
        if self._link.family.status and self._spoken and playing_s < seconds:
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
        if self._spoken and "outputAudioTranscription" in self._link.setup:
            self._link.put_content(outputTranscription={"finished": True})
        self._link.put_content(generationComplete=True)

    def _end_answer(self) -> None:
        self._answering = None
        self._called.clear()
        self._complete_turn("IDLE" if self._wanted is None else "IN_PROGRESS")
        self._tell_resumable()

    def _complete_turn(self, status: str) -> None:
        content: dict[str, Any] = {"turnComplete": True}
        if self._link.family.status:
            content["interactionStatus"] = status
        self._link.put({"serverContent": content, "usageMetadata": self._usage()})
        self._spoken = 0

    def interrupt(self, *, cancel: bool = True) -> None:
        """The model stops here. The calls that it made in this answer are cancelled, unless it goes on with them."""
        if self._answering is None:
            return
        self._answering.cancel()
        if cancel and (ids := [call_id for call_id in self._called if call_id in self._pending]):
            self._cancel_calls(ids)
        self._plays_until = self._loop.time()
        self._link.put_content(interrupted=True)
        self._end_answer()

    def _usage(self) -> dict[str, Any]:
        got = self.got
        heard = sum(end - start for start, end in got.turns) / (self._link.rate or INPUT_RATE)
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
        if "sessionResumption" not in self._link.setup or self._link.over:
            return
        if busy or self._pending:
            self._link.put({"sessionResumptionUpdate": {"resumable": False}})
        else:
            handle = self._link.server.remember(self.got.history)
            self._link.put({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def _call(self, calls: Sequence[Call]) -> bool:
        """Asks for tools. True if that made the model wait for their results."""
        asked = [(call.call_id or self._link.server.new_call_id(), call) for call in calls]
        message = self._in_history()
        requests = tuple(ToolRequest(call_id=key, name=call.name, arguments=call.arguments) for key, call in asked)
        self._to_history(msgspec.structs.replace(message, calls=(*message.calls, *requests)))
        for key, call in asked:
            self._pending[key] = _Pending(call.name, self._blocks(call.name))
            self._called.append(key)
        wire = [{"id": key, "name": call.name, "args": call.arguments} for key, call in asked]
        self._link.put({"toolCall": {"functionCalls": wire}})
        blocking = {key for key, _ in asked if self._pending[key].blocking}
        while blocking & self._pending.keys():
            self._results.clear()
            await self._results.wait()
        if blocking:
            self._slot = None
        return bool(blocking)

    def _blocks(self, name: str) -> bool:
        behaviors = (tool.get("behavior") for tool in self.got.tools if tool.get("name") == name)
        return (next(behaviors, None) or self._link.family.tools[0]) == "BLOCKING"

    def take_results(self, responses: Sequence[dict[str, Any]]) -> None:
        """The results of calls, as the client gives them."""
        wishes: set[str] = set()
        for response in responses:
            call_id = response.get("id")
            if not call_id:
                raise Refused("Request contains an invalid argument: a function response without an id.")
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
        self._link.put({"toolCallCancellation": {"ids": list(ids)}})
