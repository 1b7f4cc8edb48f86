"""The dialects of Deepgram's text-to-speech. Neither wire has contexts: audio belongs to the oldest unfinished text."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from ...processors.kernel.tasks import loop_time
from ..remote.dialect import Event, Opened, Refused, WireMessage
from ..remote.errors import fatal
from ..remote.lenient import message_reader
from ..remote.speech_context import ContextAudio, ContextDone
from ..remote.tts import TTSDialect
from .options import FLUSHES_PER_MINUTE, MAX_TEXT
from .pronunciations import Pronunciations
from .wire import deepgram_message

MINUTE_S = 60.0
WORN_FLUSHES = 12
"""The number of `Flush` messages in a minute after which a response gets another connection."""
KEPT_FLUSHES = 2
"""The number of `Flush` messages a minute that are kept for the ends of responses."""


class _InterruptedTurn(msgspec.Struct, frozen=True, kw_only=True):
    speech_id: str = ""


class SpeakMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of `/v1/speak` or `/v2/speak`. `type` determines which fields have a meaning."""

    type: str
    request_id: str = ""
    sequence_id: int = -1
    speech_id: str = ""
    metadata: _InterruptedTurn | None = None
    code: str | None = None
    description: str | None = None


decode_speak = message_reader(SpeakMessage, "Deepgram")


def speak(text: str, pronunciations: Pronunciations) -> list[WireMessage]:
    """Return the messages for a text, cut at spaces into messages that are not too long."""
    return [deepgram_message("Speak", text=piece) for piece in pronunciations.pieces(text, MAX_TEXT)]


def trouble(got: SpeakMessage, about: str) -> Refused:
    """Return a warning or an error of the vendor. An error is about the connection, a warning about `about`."""
    code, told = got.code or got.type, got.description or ""
    final = got.type == "Error" and fatal(reason=f"{code} {told}")
    return Refused(code=code, message=told, about="" if got.type == "Error" else about, fatal=final)


@dataclass(slots=True)
class _Owed:
    """An answer that Aura owes: to a `Flush`, or to the `Clear` that ends a context."""

    context: str
    clears: bool = False


class AuraDialect(TTSDialect):
    """Translates for one connection to Aura.

    Each sentence is flushed if the limit of flushes allows it. Otherwise it is spoken with the end of the response.
    All audio comes before the `Flushed` of its `Flush`; after a `Clear` it is dropped up to the `Cleared`.
    """

    one_at_a_time: ClassVar[bool] = True

    def __init__(self, pronunciations: Mapping[str, str]) -> None:
        self._pronunciations = Pronunciations(pronunciations)
        self._owed: deque[_Owed] = deque()
        self._context = ""  # of the latest text
        self._waiting = False  # text was sent and not flushed
        self._ended = ""  # the context that has ended
        self._flushed_at: deque[float] = deque(maxlen=FLUSHES_PER_MINUTE)
        self._sequence = -1  # the number of the latest `Flushed`

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the messages with a sentence."""
        self._context, self._waiting = context, True
        return speak(text, self._pronunciations)

    def flush(self, context: str) -> Sequence[WireMessage]:
        """Return the message that makes Aura speak, unless too many were sent in the last minute."""
        return self._flush(context) if self._recent_flushes() < FLUSHES_PER_MINUTE - KEPT_FLUSHES else ()

    def _recent_flushes(self) -> int:
        since = loop_time() - MINUTE_S
        return sum(1 for at in self._flushed_at if at > since)

    def is_worn(self) -> bool:
        """Return True if few more `Flush` messages are obeyed in this minute."""
        return self._recent_flushes() >= WORN_FLUSHES

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the message that makes Aura speak the rest."""
        self._ended = context
        return self._flush(context)

    def _flush(self, context: str) -> Sequence[WireMessage]:
        if not self._waiting:
            return ()
        self._waiting = False
        self._flushed_at.append(loop_time())
        self._owed.append(_Owed(context))
        return (deepgram_message("Flush"),)

    def is_spoken(self, context: str) -> bool:
        """Return True if no audio of the context is owed."""
        return not self._waiting and all(owed.context != context for owed in self._owed)

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the message that stops the speech, unless all of it has come."""
        if self.is_spoken(context):
            return ()
        self._waiting = False
        self._owed.append(_Owed(context, clears=True))
        return (deepgram_message("Clear"),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        if isinstance(message, bytes):
            return (ContextAudio(context=self._speaking(), pcm=message),)
        got = decode_speak(message)
        match got.type:
            case "Flushed":
                return self._flushed(got.sequence_id)
            case "Cleared":
                self._cleared()
            case "Warning" | "Error":
                return self._warned(got)
        return ()

    def _speaking(self) -> str:
        """Return the context of the audio that comes now, "" for one that is over."""
        if not self._owed:
            return self._context
        return "" if self._owed[0].clears else self._owed[0].context

    def _flushed(self, sequence: int) -> Sequence[Event]:
        repeated = sequence == self._sequence and sequence >= 0
        self._sequence = sequence
        owed = self._owed
        if repeated or not self._speaking() or not owed:
            return ()
        context = owed.popleft().context
        if context == self._ended and self.is_spoken(context):
            return (ContextDone(context=context),)
        return ()

    def _cleared(self) -> None:
        if any(owed.clears for owed in self._owed):
            while not self._owed.popleft().clears:
                pass

    def _warned(self, got: SpeakMessage) -> Sequence[Event]:
        if "flush" not in f"{got.code} {got.description}".lower():
            return (trouble(got, got.type),)
        # The text of the latest `Flush` still waits. A response that has ended cannot be spoken any more.
        if self._owed and not self._owed[-1].clears:
            context, self._waiting = self._owed.pop().context, True
            return (trouble(got, context if context == self._ended else got.type),)
        return (trouble(got, got.type),)


@dataclass(slots=True)
class _Turn:
    """A response that the vendor speaks."""

    context: str
    flushed: bool = False
    speech: str = ""
    """The vendor's id, once it has begun."""


class FluxSpeechDialect(TTSDialect):
    """Translates for one connection to Flux TTS.

    A response is a turn. The vendor speaks it while its text comes, and `Flush` ends it. All audio comes between
    `SpeechStarted` and `SpeechMetadata`. `Interrupt` ends it early; the vendor ignores one before the first audio; the
    turn is spoken to its end then, and its audio dropped.
    """

    confirms_opening: ClassVar[bool] = True
    one_at_a_time: ClassVar[bool] = True

    def __init__(self, pronunciations: Mapping[str, str]) -> None:
        self._pronunciations = Pronunciations(pronunciations)
        self._turns: deque[_Turn] = deque()
        self._latest = ""  # the vendor's id of the latest turn that is over

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the messages with a sentence."""
        if not self._turns or self._turns[-1].context != context or self._turns[-1].flushed:
            self._turns.append(_Turn(context))
        return speak(text, self._pronunciations)

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the message that ends the turn."""
        if self._turns and self._turns[-1].context == context and not self._turns[-1].flushed:
            self._turns[-1].flushed = True
            return (deepgram_message("Flush"),)
        return ()

    def is_spoken(self, context: str) -> bool:
        """Return True if no audio of the context is owed."""
        return all(turn.context != context for turn in self._turns)

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the messages that stop the turn."""
        return () if self.is_spoken(context) else (deepgram_message("Interrupt"), *self.end(context))

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        turns = self._turns
        if isinstance(message, bytes):
            return (ContextAudio(context=turns[0].context if turns else "", pcm=message),)
        got = decode_speak(message)
        match got.type:
            case "Connected":
                return (Opened(session_id=got.request_id),)
            case "SpeechStarted":
                return self._started(got.speech_id)
            case "SpeechMetadata":
                return self._over(got.speech_id)
            case "SpeechInterrupted":
                return self._over(got.metadata.speech_id if got.metadata is not None else "")
            case "Warning" if got.code in IGNORED_WARNINGS:
                return ()
            case "Warning" | "Error" | "ConfigureFailure":
                return (trouble(got, got.type),)
        return ()

    def _started(self, speech: str) -> Sequence[Event]:
        turns = self._turns
        over: Sequence[Event] = ()
        if len(turns) > 1 and turns[0].speech not in ("", speech):
            over = (ContextDone(context=turns.popleft().context),)  # its end did not come
        if turns:
            turns[0].speech = speech
        return over

    def _over(self, speech: str) -> Sequence[Event]:
        if not self._turns or speech == self._latest or self._turns[0].speech not in ("", speech):
            return ()  # a turn that was over already
        self._latest = speech
        return (ContextDone(context=self._turns.popleft().context),)


IGNORED_WARNINGS = ("NO_ACTIVE_SPEECH", "NO_AUDIO_GENERATED", "INTERRUPT_IN_PROGRESS", "SYNTHESIS_RETRYING")
"""Warnings that say that there was nothing to interrupt or to end, or that the vendor tries once more."""
