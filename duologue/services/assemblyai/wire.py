"""AssemblyAI's options and messages.

Source: the streaming pages of assemblyai.com/docs, as of November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ...errors import ConfigurationError, check_range
from ...frames import Word
from ..remote.dialect import GoingAway, Refused
from ..remote.errors import fatal
from ..remote.lenient import message_reader

RATE = 16_000
"""The sample rate of the audio, in Hz."""
FINAL_CODES = (1008, 3006)
"""Error codes for a refused key or account, and for a malformed request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyAISTTOptions:
    """Options of `AssemblyAISTT`. Raises ConfigurationError for a value that AssemblyAI would refuse."""

    model: str = "universal-3-6-pro"
    keyterms: tuple[str, ...] = ()
    """Words that the model should expect: at most 100, of at most 50 characters."""
    max_turn_silence_ms: int | None = None
    """Silence after which the vendor ends a segment by itself, from 50 to 10000 ms. None is the vendor's default."""

    def __post_init__(self) -> None:
        if len(self.keyterms) > 100 or any(not 0 < len(term) <= 50 for term in self.keyterms):
            raise ConfigurationError("keyterms: AssemblyAI takes 100, of 1 to 50 characters each")
        if self.max_turn_silence_ms is not None:
            check_range(self, max_turn_silence_ms=(50, 10_000))


class HeardWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word, with its start and end in milliseconds of the session's audio."""

    text: str
    start: float = 0.0
    end: float = 0.0
    confidence: float = 1.0

    def timed(self, began_s: float) -> Word:
        """Return the word with times of an utterance that begins at `began_s`."""
        start_s = max(0.0, self.start / 1000 - began_s)
        return Word(f"{self.text} ", start_s, max(start_s, self.end / 1000 - began_s))


class AssemblyAIMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message from AssemblyAI. `type` determines which fields have a meaning."""

    type: str
    expires_at: float | None = None
    turn_order: int | None = None
    end_of_turn: bool | None = None
    turn_is_formatted: bool | None = None
    transcript: str | None = None
    words: tuple[HeardWord, ...] | None = None
    language_code: str | None = None
    error_code: int | None = None
    error: str | None = None

    def trouble(self, *, started: bool) -> Refused | GoingAway:
        """Return what an error means for the connection: before its start, or if it would come again, a refusal."""
        code, text = self.error_code or 0, self.error or ""
        final = fatal(reason=text) or (code in FINAL_CODES and "concurrent" not in text.lower())
        if started and not final:
            return GoingAway(left_s=0.0, reason=f"{code}: {text}")
        return Refused(code=str(code), message=text, fatal=final)


decode_assemblyai = message_reader(AssemblyAIMessage, "AssemblyAI")
