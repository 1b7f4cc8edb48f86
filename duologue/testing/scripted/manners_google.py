"""`GeminiManners`: the faults of a plan in the messages of Gemini's Live API."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any

from .manners import Manners
from .manners_filter import MannersFilter
from .server import Wait

ServerMessage = dict[str, Any]

RARELY = 0.1
"""The probability of an unknown message before a message."""
STALL_AFTER = 3
"""The number of pieces of an answer after which it stalls."""


class GeminiManners(MannersFilter):
    """One connection. The faults of an answer hold until its `turnComplete`: answers have no ids."""

    def __init__(self, manners: Manners, late: Callable[[float, ServerMessage], None]) -> None:
        super().__init__(manners, late)
        self._answers = 0
        self._in_answer = False
        self._silent = False
        """True: nothing more of the answer is sent."""
        self._wordless = self._endless = False
        self._late: dict[str, ServerMessage] | None = None
        """The latest words, which are held back, and a copy of the latest audio, of an answer with late pieces."""
        self._stall_after = 0
        """The pieces that are left until the stall, 0 without one."""
        self._held: list[ServerMessage] = []
        """Words that the next message overtakes."""

    def send(self, message: ServerMessage) -> Iterator[ServerMessage | Wait]:
        """Yield what goes over the wire in the place of a message."""
        manners, content = self.manners, message.get("serverContent") or {}
        piece = "modelTurn" in content or "outputTranscription" in content
        ends = bool(content.get("turnComplete"))
        if piece and not self._in_answer:
            self._begin()
        if self._silent and (piece or ends or "generationComplete" in content):
            if ends:
                self._end()
            return
        if "setupComplete" not in message and manners.draw("unknown-events", "gemini", str(list(message)), RARELY):
            yield {"tideTable": {"high": []}}
        if piece:
            if pause_s := manners.pause_s("gemini", self._where):
                yield Wait(pause_s)
            if self._stall_after:
                yield from self._stall()
                if self._silent:
                    return
        if "outputTranscription" in content:
            if self._wordless:
                return
            if self._late is not None and content["outputTranscription"].get("text"):
                if before := self._late.get("words"):
                    yield self._spoil(before)
                self._late["words"] = message
                return
        yield from self._in_order(message, content)
        if ends and self._in_answer:
            late = self._late or {}
            self._end()
            for one in late.values():
                self.send_late(one)

    @property
    def _where(self) -> str:
        return f"in answer {self._answers}"

    def _begin(self) -> None:
        manners = self.manners
        self._answers += 1
        self._in_answer = True
        if manners.draw("audio-without-words", "gemini", self._where):
            self._wordless = True
        elif manners.draw("late-pieces", "gemini", self._where):
            self._late = {}
        if manners.spoil("missing-end", "gemini", self._where):
            self._endless = True
        elif manners.spoil("stall-in-the-middle", "gemini", self._where):
            self._stall_after = STALL_AFTER

    def _end(self) -> None:
        self._in_answer = self._silent = self._wordless = self._endless = False
        self._late, self._stall_after = None, 0

    def _stall(self) -> Iterator[Wait]:
        self._stall_after -= 1
        if self._stall_after:
            return
        stall_s = self.manners.stall_s()
        if math.isinf(stall_s):
            self._silent = True
        else:
            yield Wait(stall_s)

    def _in_order(self, message: ServerMessage, content: ServerMessage) -> Iterator[ServerMessage]:
        """Yield a message and those that it overtakes, or hold it back for the next one."""
        manners = self.manners
        if "inputTranscription" in content and "reordering" in manners.faults:
            manners.draw("reordering", "gemini", "the caller's words", often=1.0)
            self.overtaken(self._spoil(message))
            return
        if (
            "outputTranscription" in content
            and not self._held
            and manners.draw("reordering", "gemini", f"words {self._where}")
        ):
            self._held.append(message)
            return
        overtakes = "modelTurn" in content
        if self._held and not overtakes:
            yield from self._release()
        if overtakes:
            yield from self._audio(message, content)
        elif content.get("turnComplete"):
            yield from self._turn_complete(message)
        else:
            yield self._spoil(message)
            if "generationComplete" in content and manners.draw("repeated-end", "gemini", f"generated {self._where}"):
                yield self._spoil(message)
        if self._held and overtakes:
            yield from self._release()

    def _audio(self, message: ServerMessage, content: ServerMessage) -> Iterator[ServerMessage]:
        (part,) = content["modelTurn"]["parts"]
        blob = part["inlineData"]
        pieces = self.manners.cut(base64.b64decode(blob["data"]), "gemini", self._where)
        parts = [{"inlineData": blob | {"data": base64.b64encode(piece).decode()}} for piece in pieces]
        if len(parts) > 1 and self.manners.random.random() < 0.5:  # all in one message
            yield self._spoil({"serverContent": {"modelTurn": {"role": "model", "parts": parts}}})
        else:
            for one in parts:
                yield self._spoil({"serverContent": {"modelTurn": {"role": "model", "parts": [one]}}})
        if self._late is not None:
            self._late["audio"] = message

    def _turn_complete(self, message: ServerMessage) -> Iterator[ServerMessage]:
        manners = self.manners
        if self._endless:
            return
        usage = {"usageMetadata": message["usageMetadata"]} if "usageMetadata" in message else {}
        if usage and manners.draw("reordering", "gemini", f"usage {self._where}"):
            yield self._spoil(usage)
            message = {key: value for key, value in message.items() if key != "usageMetadata"}
        yield self._spoil(message)
        if self._in_answer and manners.draw("repeated-end", "gemini", f"end {self._where}"):
            yield self._spoil({"serverContent": message["serverContent"]})

    def flush(self) -> Iterator[ServerMessage]:
        """Yield the messages that were held back, because the connection ends."""
        yield from super().flush()
        yield from self._release()

    def _release(self) -> Iterator[ServerMessage]:
        held, self._held = self._held, []
        yield from (self._spoil(one) for one in held)

    def _spoil(self, message: ServerMessage) -> ServerMessage:
        """Return a message with nulls, and with other types in fields of no importance."""
        manners, where = self.manners, str(list(message))
        if "setupComplete" in message:
            return message  # the SDK reads it
        if manners.draw("nulls", "gemini", where):
            message = _with_nulls(message)
        if manners.draw("odd-types", "gemini", where):
            message = _with_odd_types(message)
        return message


OPTIONAL = (
    "serverContent", "toolCall", "toolCallCancellation", "usageMetadata", "goAway", "sessionResumptionUpdate",
)  # fmt: skip
OPTIONAL_CONTENT = (
    "modelTurn", "turnComplete", "interrupted", "groundingMetadata", "generationComplete", "inputTranscription",
    "outputTranscription", "urlContextMetadata", "waitingForInput",
)  # fmt: skip


def _with_nulls(message: ServerMessage) -> ServerMessage:
    message = dict.fromkeys(OPTIONAL) | message
    if content := message["serverContent"]:
        message["serverContent"] = dict.fromkeys(OPTIONAL_CONTENT) | content
    return message


def _with_odd_types(message: ServerMessage) -> ServerMessage:
    message = dict(message)
    if usage := message.get("usageMetadata"):  # JSON of protobuf writes some numbers as texts
        message["usageMetadata"] = {
            key: str(value) if isinstance(value, int) else value for key, value in usage.items()
        } | {"trafficType": 5}
    if content := message.get("serverContent"):
        message["serverContent"] = content | {"groundingMetadata": "none", "turnCompleteReason": 7}
    return message
