"""`InputItems`: turns the messages about the caller's turns on one connection to OpenAI Realtime into events."""

from __future__ import annotations

from ..native.dialect import Consumed, Event, SpeechBegan, SpeechCeased, TurnTaken, TurnTranscribed
from ..remote.ids import Recent
from .responses import token_usage
from .settings import SettingsInForce
from .wire_in import (
    NOTHING_USED,
    BufferSpeechStarted,
    BufferSpeechStopped,
    InputCommitted,
    TimeoutTriggered,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    WireUsage,
)

_MAX_TRANSCRIPT = 100_000  # the most characters in the transcript of an item


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
        return [*self._final(transcript), *self._consumed(message.usage)]

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
