"""`Responses`: what a connection to OpenAI Realtime knows of the responses that it brought."""

from __future__ import annotations

import binascii
from typing import Any, TypeAlias

import msgspec

from ...errors import BadInput
from ...frames import ResponseStatus, Usage
from ..native.events import Called, Consumed, Event, Refused, ResponseBegan, ResponseFinished, Said, Voiced
from .options import SAMPLE_RATE
from .read import Memory, count, member, members, string

SERVICE = "OpenAIRealtime"
"""Whose usage it is."""
MALFORMED = "malformed_arguments"
"""The one argument of a call whose arguments are no JSON object: what the model wrote instead, as text.

No tool has it, so the call is answered with an error that the model can act upon; running the tool with no arguments
at all could do something that was not asked for.
"""
FATAL = frozenset(
    (
        "account_deactivated",
        "billing_hard_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
    )
)
"""Errors that trying again does not help."""

_BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
_Call: TypeAlias = tuple[str, str, str]  # its id, the name, the arguments as they came
_STATUS: dict[str, ResponseStatus] = {"completed": "completed", "cancelled": "interrupted"}


class Responses:
    """Makes events of the messages about responses. Each reader raises BadInput before it has changed anything.

    A response begins with its first message, whichever that is, and nothing is told of it after its end.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls = Memory[dict[str, _Call]](64)  # of the responses that go on
        self._over = Memory[bool](256)  # responses
        self._received = Memory[int](64)  # bytes of audio of each item
        self._complete = Memory[bool](64)  # items of which all audio has come

    @property
    def spoken(self) -> bool:
        """Whether there was audio on this connection."""
        return bool(self._received)

    def is_over(self, response: str) -> bool:
        """Whether the response has ended."""
        return response in self._over

    def heard(self, item: str, heard_ms: int) -> int | None:
        """Where to cut an item of which so much was heard, in ms; None if there is nothing to cut."""
        received_ms = self._received.get(item, 0) // _BYTES_PER_MS
        if item not in self._received or (heard_ms >= received_ms > 0 and item in self._complete):
            return None
        return max(0, min(heard_ms, received_ms))

    def _begin(self, response: str, tag: str = "") -> list[Event]:
        """Nothing for one that has begun; it may have lost the message that it begins with."""
        if response in self._calls:
            return []
        self._calls[response] = {}
        return [ResponseBegan(response=response, tag=tag)]

    def created(self, message: dict[str, Any]) -> list[Event]:
        plain = member(message, "response")
        response, tag = string(plain, "id"), string(member(plain, "metadata"), "tag", "")
        return [] if response in self._over else self._begin(response, tag)

    def text(self, message: dict[str, Any]) -> list[Event]:
        response, delta = string(message, "response_id"), string(message, "delta")
        if response in self._over or not delta:
            return []
        return [*self._begin(response), Said(response=response, text=delta)]

    def audio(self, message: dict[str, Any]) -> list[Event]:
        """Audio in a message that is not quite as expected."""
        response, item, delta = string(message, "response_id"), string(message, "item_id", ""), string(message, "delta")
        try:
            pcm = binascii.a2b_base64(delta, strict_mode=True)
        except ValueError as error:
            raise BadInput(f"delta is no base64: {error}") from error
        if len(pcm) % 2:
            raise BadInput(f"delta is {len(pcm)} bytes, which are no 16-bit samples")
        return self.voiced(response, item, pcm)

    def voiced(self, response: str, item: str, pcm: bytes) -> list[Event]:
        if response in self._over or not pcm:
            return []
        self._received[item] = self._received.get(item, 0) + len(pcm)
        voiced = Voiced(response=response, item=item, pcm=pcm)
        return [voiced] if response in self._calls else [*self._begin(response), voiced]

    def item_done(self, message: dict[str, Any]) -> list[Event]:
        response, plain = string(message, "response_id"), member(message, "item")
        item, call = string(plain, "id", ""), _call(plain)
        if string(plain, "status", "completed") == "completed":
            self._complete[item] = True
        if call is None or response in self._over:
            return []
        began = self._begin(response)
        self._calls[response][call[0]] = call
        return began

    def done(self, message: dict[str, Any]) -> list[Event]:
        plain = member(message, "response")
        response, wire_status = string(plain, "id"), string(plain, "status", "completed")
        details, tag = member(plain, "status_details"), string(member(plain, "metadata"), "tag", "")
        usage, output = self._usage(member(plain, "usage")), members(plain, "output")
        error = member(details, "error")
        code, what = string(error, "code", "") or string(error, "type", ""), string(error, "message", "")
        reason = string(details, "reason", "") or ": ".join(filter(None, (code, what[:500])))
        calls = {call[0]: call for call in map(_call, output) if call is not None}
        if response in self._over:
            return []
        calls |= self._calls.get(response, {})
        status = _STATUS.get(wire_status, "failed")
        if wire_status == "incomplete" and reason == "max_output_tokens":
            status = "completed"
        if response not in self._calls and not (output or tag or status == "failed"):
            self._over[response] = True
            return [] if usage is None else [Consumed(usage=usage)]
        out = self._begin(response, tag)
        if wire_status == "completed":
            out += [Called(response=response, call_id=c, name=n, arguments=_arguments(a)) for c, n, a in calls.values()]
        reason = reason or ("" if status == "completed" else wire_status)
        out.append(ResponseFinished(response=response, status=status, reason=reason, usage=usage))
        if code in FATAL:
            out.append(Refused(code=code, message=what[:500], about=tag, fatal=True))
        del self._calls[response]
        self._over[response] = True
        return out

    def _usage(self, usage: dict[str, Any]) -> Usage | None:
        if not usage:
            return None
        taken, given = member(usage, "input_token_details"), member(usage, "output_token_details")
        return Usage(
            service=SERVICE,
            model=self._model,
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            cached_tokens=count(taken, "cached_tokens"),
            input_audio_tokens=count(taken, "audio_tokens"),
            output_audio_tokens=count(given, "audio_tokens"),
        )


def _call(item: dict[str, Any]) -> _Call | None:
    if string(item, "type", "") != "function_call":
        return None
    return string(item, "call_id"), string(item, "name"), string(item, "arguments", "")


def _arguments(arguments: str) -> dict[str, Any]:
    """The arguments of a call; nothing at all is no argument."""
    try:
        plain = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        plain = None
    return plain if isinstance(plain, dict) else {MALFORMED: arguments[:1000]}
