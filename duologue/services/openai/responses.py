"""`Responses` and `InputItems`: turn OpenAI's messages about the model's answers and the caller's turns into events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ...frames import ResponseStatus, Usage
from ...frames.text import from_json
from ..native.dialect import (
    Called,
    Consumed,
    Event,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from ..remote.ids import Recent
from .options import SAMPLE_RATE, SettingsInForce
from .wire_in import (
    NOTHING_USED,
    AudioDelta,
    BufferSpeechStarted,
    BufferSpeechStopped,
    CachedDetails,
    ErrorDetail,
    InputCommitted,
    InputTokens,
    OutputItemDone,
    OutputTokens,
    ResponseCreated,
    ResponseDone,
    SpokenTextDelta,
    TextDelta,
    TimeoutTriggered,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    WireItem,
    WireResponse,
    WireUsage,
)

_MAX_TRANSCRIPT = 100_000  # the most characters in the transcript of an item
SERVICE = "OpenAIRealtime"
"""`Usage.service`."""
MALFORMED = "malformed_arguments"
"""The name of the only argument of a call whose arguments are not a JSON object. Its value is the model's text.

No tool has an argument with this name: the call is answered with an error that the model can act upon. A run of the
tool without arguments could do something that nobody asked for.
"""
FINAL_ERRORS = frozenset(
    (
        "account_deactivated",
        "billing_hard_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
    )
)
"""Codes and types of errors that are final."""
MAX_ERROR_TEXT = 500
"""The most characters of the provider's text in an error."""
_BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
_STATUS: dict[str, ResponseStatus] = {"completed": "completed", "cancelled": "interrupted"}


class InputItems:
    """The items of the conversation that hold the caller's turns, from the first sound to the final transcript."""

    def __init__(self, settings: SettingsInForce) -> None:
        self._settings = settings
        self._item = ""
        """The item of the caller's latest speech, for messages that do not name theirs."""
        self._silent = Recent[bool](16)
        """The items that hold the silence after which the model speaks by itself."""
        self._partial = Recent[str](64)
        """The incomplete transcripts by item."""
        self._transcribed = Recent[bool](256)
        """The items with a final transcript."""

    def on_began(self, message: BufferSpeechStarted) -> list[Event]:
        """The caller begins to speak."""
        self._item = message.item_id or ""
        return [SpeechBegan(item=self._item, at_ms=message.audio_start_ms or 0.0)]

    def on_ceased(self, message: BufferSpeechStopped) -> list[Event]:
        """The caller has ceased to speak."""
        # The provider's time includes the silence by which it found the end of the speech.
        silence_ms = (self._settings.input["turn_detection"] or {}).get("silence_duration_ms") or 0
        at_ms = max(0.0, (message.audio_end_ms or 0.0) - silence_ms)
        return [SpeechCeased(item=message.item_id or self._item, at_ms=at_ms)]

    def on_timeout(self, message: TimeoutTriggered) -> list[Event]:
        """Note the item of a silence after which the model speaks by itself: the caller has not spoken."""
        self._silent[message.item_id or ""] = True
        return []

    def on_committed(self, message: InputCommitted) -> list[Event]:
        """The caller's turn is complete."""
        self._item = item = message.item_id or self._item
        if self._silent.pop(item, False):
            return []
        detection = self._settings.input["turn_detection"]
        answered = detection is not None and detection["create_response"]
        return [TurnTaken(item=item, answered=answered)]

    def on_transcript_delta(self, message: TranscriptDelta) -> list[Event]:
        """A piece of a transcript has come."""
        item, delta = message.item_id or self._item, message.delta
        if item in self._transcribed or not delta:
            return []
        self._partial[item] = text = (self._partial.get(item, "") + delta)[:_MAX_TRANSCRIPT]
        return [TurnTranscribed(item=item, text=text, final=False)]

    def on_transcript(self, message: TranscriptCompleted) -> list[Event]:
        """The final transcript of a turn has come."""
        transcript = TurnTranscribed(
            item=message.item_id or self._item, text=message.transcript or "", language=message.language
        )
        final = self._final(transcript)
        return [*final, *self._consumed(message.usage)] if final else []

    def on_no_transcript(self, message: TranscriptFailed) -> list[Event]:
        """A turn could not be transcribed."""
        return self._final(TurnTranscribed(item=message.item_id or self._item, text=""))

    def _final(self, transcript: TurnTranscribed) -> list[Event]:
        self._partial.pop(transcript.item, None)
        if transcript.item in self._transcribed:
            return []
        if transcript.item:
            self._transcribed[transcript.item] = True
        return [transcript]

    def _consumed(self, usage: WireUsage | None) -> list[Event]:
        if usage is None or usage == NOTHING_USED:
            return []
        transcription = self._settings.input["transcription"]
        return [Consumed(usage=token_usage(usage, transcription["model"] if transcription else ""))]


@dataclass(slots=True)
class _ItemAudio:
    """The received audio of an item: its size in bytes, and True in `complete` once all of it has come."""

    size: int = 0
    complete: bool = False


class Responses:
    """Turns the messages about responses into events.

    A response begins with its first message of any type; messages after its end give no event.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls = Recent[dict[str, WireItem]](64)
        """The tool calls of each response in progress, by call id."""
        self._over = Recent[bool](256)
        """The responses that have ended: False for one that was given up, whose consumption is still to come."""
        self._audio = Recent[_ItemAudio](64)
        """The received audio by item, without the items that have none."""
        self._unnamed = 0  # the number of responses without an id of the provider's
        self.spoken = False
        """True once audio has come on this connection."""
        self._audible = False  # True once a response has named audio as its modality

    @property
    def gives_voice(self) -> bool:
        """True once audio has come, or a response whose modality is audio."""
        return self.spoken or self._audible

    def is_over(self, response: str) -> bool:
        """Return True if the response has ended."""
        return response in self._over

    def give_up(self, response: str) -> None:
        """End a response: its later messages give no event."""
        self._calls.pop(response, None)
        self._over[response] = False

    def cut_ms(self, item: str, heard_ms: int) -> int | None:
        """Return the ms at which to cut an item that was heard to `heard_ms`, None if there is nothing to cut."""
        audio = self._audio.get(item)
        if audio is None:
            return None
        received_ms = audio.size // _BYTES_PER_MS
        if heard_ms >= received_ms > 0 and audio.complete:
            return None
        return max(0, min(heard_ms, received_ms))

    def _id(self, told: str | None) -> str:
        """Return the id of a message's response: the one in progress, or a new one, if the message has no id."""
        return told or next(reversed(self._calls), "") or self._new_id()

    def _new_id(self) -> str:
        self._unnamed += 1
        return f"unnamed_{self._unnamed}"

    def _begin(self, response: str, tag: str = "") -> list[Event]:
        if response in self._calls:
            return []
        self._calls[response] = {}
        return [ResponseBegan(response=response, tag=tag)]

    # -- messages --------------------------------------------------------------------------------------------------

    def on_created(self, message: ResponseCreated) -> list[Event]:
        response = message.response
        self._audible |= "audio" in (response.output_modalities or ())
        # Without an id it cannot be the response in progress.
        response_id = response.id or self._new_id()
        return [] if response_id in self._over else self._begin(response_id, response.tag)

    def on_text(self, message: TextDelta | SpokenTextDelta) -> list[Event]:
        response, delta = message.response_id or self._id(None), message.delta
        if response in self._over or not delta:
            return []
        said = Said(response=response, text=delta)
        return [said] if response in self._calls else [*self._begin(response), said]

    def on_audio(self, message: AudioDelta) -> list[Event]:
        response, item, pcm = message.response_id or self._id(None), message.item_id or "", message.delta
        if response in self._over or not pcm:
            return []
        audio = self._audio.get(item)
        if audio is None:
            audio = self._audio[item] = _ItemAudio()
            self.spoken = True
        audio.size += len(pcm)
        voiced = Voiced(response=response, item=item, pcm=pcm)
        return [voiced] if response in self._calls else [*self._begin(response), voiced]

    def on_item_done(self, message: OutputItemDone) -> list[Event]:
        response, item = self._id(message.response_id), message.item
        if item is None:
            return []
        audio = self._audio.get(item.id or "")
        if audio is not None and item.status in (None, "completed"):
            audio.complete = True
        if item.type != "function_call" or response in self._over:
            return []
        began = self._begin(response)
        self._calls[response][item.call_key] = item
        return began

    def on_done(self, message: ResponseDone) -> list[Event]:
        response = message.response
        response_id = self._id(response.id)
        usage = self._usage(response.usage)
        if response_id in self._over:
            if usage is None or self._over[response_id]:
                return []  # it was counted before
            self._over[response_id] = True
            return [Consumed(usage=usage)]
        status, reason, code = _outcome(response)
        if response_id not in self._calls and not (response.output or response.tag or status == "failed"):
            self._over[response_id] = True
            return [] if usage is None else [Consumed(usage=usage)]
        events = self._begin(response_id, response.tag)
        calls = {item.call_key: item for item in response.output or () if item.type == "function_call"}
        if response.status in (None, "completed"):
            for item in (calls | self._calls[response_id]).values():
                events.append(
                    _called(response_id, item) if item.name else Unknown(kind="a function call without a name")
                )
        items = tuple(item.id for item in response.output or () if item.id)
        events.append(ResponseFinished(response=response_id, status=status, reason=reason, usage=usage, items=items))
        if code in FINAL_ERRORS:
            error = _error_of(response)
            text = (error.message or "")[:MAX_ERROR_TEXT]
            events.append(Refused(code=code, message=text, about=response.tag, fatal=True))
        del self._calls[response_id]
        self._over[response_id] = True
        return events

    def _usage(self, usage: WireUsage | None) -> Usage | None:
        if usage is None or usage == NOTHING_USED:
            return None
        return token_usage(usage, self._model)


def consumed(usage: WireUsage | None) -> Usage | None:
    """Return what a transcript has consumed, None if the server does not say."""
    return None if usage is None or usage == NOTHING_USED else token_usage(usage, "")


def token_usage(usage: WireUsage, model: str) -> Usage:
    """Return consumption in tokens or in seconds of audio as `Usage`."""
    taken, given = usage.input_token_details or InputTokens(), usage.output_token_details or OutputTokens()
    cached = taken.cached_tokens_details or CachedDetails()
    # A server that leaves out the totals still gives their parts.
    parts = [int(count or 0) for count in (taken.text_tokens, taken.audio_tokens, taken.image_tokens)]
    spoken = int(given.audio_tokens or 0)
    return Usage(
        service=SERVICE,
        model=model,
        input_tokens=int(sum(parts) if usage.input_tokens is None else usage.input_tokens),
        output_tokens=int((given.text_tokens or 0) + spoken if usage.output_tokens is None else usage.output_tokens),
        cached_tokens=int(taken.cached_tokens or 0),
        input_audio_tokens=parts[1],
        input_image_tokens=parts[2],
        cached_audio_tokens=int(cached.audio_tokens or 0),
        cached_image_tokens=int(cached.image_tokens or 0),
        output_audio_tokens=spoken,
        thought_tokens=int(given.reasoning_tokens or 0),
        input_audio_s=usage.seconds or 0.0,
    )


def _error_of(response: WireResponse) -> ErrorDetail:
    details = response.status_details
    return (details.error if details is not None else None) or ErrorDetail()


def _outcome(response: WireResponse) -> tuple[ResponseStatus, str, str]:
    """Return the status of a response that is over, the reason, and the error's code ("" without one)."""
    wire_status = response.status or "completed"
    error = _error_of(response)
    code = error.code or error.type or ""
    reason = response.status_details.reason or "" if response.status_details is not None else ""
    reason = reason or ": ".join(filter(None, (code, (error.message or "")[:MAX_ERROR_TEXT])))
    status = _STATUS.get(wire_status, "failed")
    if wire_status == "incomplete" and reason == "max_output_tokens":
        status = "completed"
    return status, reason or ("" if status == "completed" else wire_status), code


def _called(response: str, item: WireItem) -> Called:
    return Called(
        response=response,
        call_id=item.call_key,
        name=item.name or "",
        arguments=item.arguments if isinstance(item.arguments, dict) else _call_arguments(item.arguments or ""),
    )


def _call_arguments(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call. An empty text means none."""
    try:
        plain = from_json(arguments or "{}")
    except msgspec.DecodeError:
        plain = None
    return plain if isinstance(plain, dict) else {MALFORMED: arguments[:1000]}
