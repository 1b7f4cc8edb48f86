"""`OpenAIManners`: the faults of a plan in the events of OpenAI's Realtime API."""

from __future__ import annotations

import base64
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

from .manners import UNKNOWN, Manners
from .manners_filter import MannersFilter
from .server import Wait

Event = dict[str, Any]

WORDS, AUDIO = "response.output_audio_transcript.delta", "response.output_audio.delta"
AUDIO_DONE, DONE = "response.output_audio.done", "response.done"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
RARELY = 0.1
"""The probability of an unknown event before an event."""
STALL_AFTER = 3
"""The number of pieces of a response after which it stalls."""
REPEATED = (DONE, "response.output_item.done", TRANSCRIBED, "input_audio_buffer.committed")


class OpenAIManners(MannersFilter):
    """One connection. The faults of a response hold for all of its events."""

    def __init__(self, manners: Manners, late: Callable[[float, Event], None]) -> None:
        super().__init__(manners, late)
        self._begun: set[str] = set()
        self._silent: set[str] = set()
        """The responses of which nothing more is sent."""
        self._wordless: set[str] = set()
        self._endless: set[str] = set()
        self._late: dict[str, dict[str, Event]] = {}
        """The latest words, which are held back, and a copy of the latest audio, for responses with late pieces."""
        self._stalling: dict[str, int] = {}
        """The pieces that are left until the stall, for each response that stalls."""
        self._held: list[Event] = []
        """Words that the next events overtake."""

    def send(self, message: Event) -> Iterator[Event | Wait]:
        """Yield what goes over the wire in the place of an event."""
        kind, manners = message["type"], self.manners
        response_id = message.get("response_id") or (message.get("response") or {}).get("id", "")
        if kind.startswith("response.output_item.added") and response_id not in self._begun:
            self._begin(response_id)
        if response_id in self._silent and not _cancelled(message):
            return
        if manners.draw("unknown-events", "openai", f"before {kind}", RARELY):
            yield {"type": f"session.{UNKNOWN}", "event_id": "event_tide", "high": []}
        if kind in (WORDS, AUDIO):
            if pause_s := manners.pause_s("openai", f"in {response_id}"):
                yield Wait(pause_s)
            if response_id in self._stalling and (stall := self._stall(response_id)) is not None:
                yield from stall
                if response_id in self._silent:
                    return
        if response_id in self._wordless:
            if kind == WORDS:
                return
            message = _without_words(message)
        if kind == WORDS and response_id in self._late:
            if before := self._late[response_id].get(kind):
                yield self._spoil(before)
            self._late[response_id][kind] = message
            return
        if kind == DONE and response_id in self._endless and not _cancelled(message):
            return
        yield from self._in_order(kind, message)
        if kind in REPEATED and manners.draw("repeated-end", "openai", f"{kind} of {response_id}"):
            yield self._spoil(message)
        if kind == DONE:
            for event in self._late.pop(response_id, {}).values():
                self.send_late(event)

    def _begin(self, response_id: str) -> None:
        manners, where = self.manners, f"in {response_id}"
        self._begun.add(response_id)
        if manners.draw("audio-without-words", "openai", where):
            self._wordless.add(response_id)
        elif manners.draw("late-pieces", "openai", where):
            self._late[response_id] = {}
        if manners.spoil("missing-end", "openai", where):
            self._endless.add(response_id)
        elif manners.spoil("stall-in-the-middle", "openai", where):
            self._stalling[response_id] = STALL_AFTER

    def _stall(self, response_id: str) -> list[Event | Wait] | None:
        self._stalling[response_id] -= 1
        if self._stalling[response_id]:
            return None
        del self._stalling[response_id]
        stall_s = self.manners.stall_s()
        if not math.isinf(stall_s):
            return [Wait(stall_s)]
        self._silent.add(response_id)
        return []

    def _in_order(self, kind: str, message: Event) -> Iterator[Event | Wait]:
        """Yield an event and those that it overtakes, or hold it back for the next one."""
        if kind == TRANSCRIBED and self.manners.draw("reordering", "openai", kind):
            self.overtaken(self._spoil(message))
            return
        if kind == WORDS and not self._held and self.manners.draw("reordering", "openai", kind):
            self._held.append(message)
            return
        overtakes = kind == AUDIO or kind.startswith("response.output_item")
        if self._held and not overtakes:
            yield from self._release()
        if kind == AUDIO:
            pieces = self.manners.cut(base64.b64decode(message["delta"]), "openai", message["response_id"])
            for number, piece in enumerate(pieces):
                yield self._spoil(_renamed(message, number) | {"delta": base64.b64encode(piece).decode()})
            if message["response_id"] in self._late:
                self._late[message["response_id"]][AUDIO] = _renamed(message, "late")
        else:
            yield self._spoil(message)
        if self._held and overtakes:
            yield from self._release()

    def flush(self) -> Iterator[Event]:
        """Yield the messages that were held back, because the connection ends."""
        yield from super().flush()
        yield from self._release()

    def _release(self) -> Iterator[Event]:
        held, self._held = self._held, []
        yield from (self._spoil(event) for event in held)

    def _spoil(self, message: Event) -> Event:
        """Return an event with nulls, and with other types in fields of no importance."""
        kind, manners = message["type"], self.manners
        if manners.draw("nulls", "openai", kind):
            message = _with_nulls(message)
        if manners.draw("odd-types", "openai", kind):
            message = _with_odd_types(message)
        return message


def _renamed(message: Event, part: int | str) -> Event:
    """Return an event that was made of another, with an id of its own: clients leave out ids that repeat."""
    return message | {"event_id": f"{message['event_id']}_{part}"} if part and "event_id" in message else message


def _cancelled(message: Event) -> bool:
    return bool(message["type"] == DONE and message["response"]["status"] == "cancelled")


def _without_words(message: Event) -> Event:
    message = copy.deepcopy(message)
    message.pop("transcript", None)
    items = [message.get("item"), *(message.get("response") or {}).get("output", ())]
    for part in (message.get("part"), *(part for item in items if item for part in item.get("content", ()))):
        if part:
            part.pop("transcript", None)
    return message


def _with_nulls(message: Event) -> Event:
    message = message | {"event_id": None}
    if "previous_item_id" in message:
        message["previous_item_id"] = None
    for key in ("output_index", "content_index", "logprobs", "usage"):
        if key in message:
            message[key] = None
    if response := message.get("response"):
        optional = ("conversation_id", "max_output_tokens", "audio", "output_modalities", "object")
        message["response"] = response | dict.fromkeys(optional)
    if error := message.get("error"):
        message["error"] = error | {"param": None}
    if item := message.get("item"):
        message["item"] = item | {"object": None, "status": None, "phase": None}
    return message


def _with_odd_types(message: Event) -> Event:
    message = message | {"event_id": 17, "obfuscation": {"a": [1]}}
    for key in ("output_index", "content_index"):
        if key in message:
            message[key] = str(message[key])
    if "rate_limits" in message:
        message["rate_limits"] = "none"
    if message["type"] == TRANSCRIBED:
        message |= {"languages": "en", "logprobs": "none", "usage": "little"}
    if response := message.get("response"):
        message["response"] = response | {"max_output_tokens": {"n": "inf"}, "audio": "pcm", "conversation_id": 5}
    if session := message.get("session"):
        message["session"] = session | {"object": 3, "tracing": "yes", "prompt": 0}
        if isinstance(session.get("expires_at"), int):
            message["session"]["expires_at"] = str(session["expires_at"])
    return message
