"""The behaviour of a scripted Deepgram, and the record of each of its connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .hearing import HearingBehaviour
from .server import SPEECH_CHARACTERS_PER_S
from .speaking import SpeakingBehaviour
from .vendor import VendorGot


@dataclass(kw_only=True)
class DeepgramBehaviour(HearingBehaviour, SpeakingBehaviour):
    """The behaviour of the server. May be changed at any time, with effect from then on.

    Nova answers each `Finalize` `answers` times; Flux tells each end of a turn `answers` times.
    """

    retry_after_s: int = 0
    """The header `Retry-After` of refusals; 0 for none."""
    idle_limit_s: float = 10.0
    """Seconds without a message after which a listening connection is closed with 1011 NET-0001."""

    final_words: int = 0
    """Nova: the number of interim words after which a segment becomes final before `Finalize`; 0 for never."""
    split_answer: bool = False
    """Nova: the text is sent as one final segment for each word."""
    answers_empty: bool = True
    """Nova: False: there is no answer to a `Finalize` if all text was already final."""
    silence_ms: float = 500.0
    """Flux: milliseconds of silence that end a turn."""
    eager_ms: float = 200.0
    """Flux: milliseconds of silence after which an end of the turn is likely, if the client wants to know that."""
    eager_texts: list[str] = field(default_factory=list)
    """Flux: the texts of the next eager ends; the text of the turn if there are none."""
    turn_detection: Literal["energy", "told"] = "energy"
    """Flux: turns are found by the audio's level, or by calls of `ListeningFlux.tell`."""

    characters_per_s: float = SPEECH_CHARACTERS_PER_S
    """Characters of text in a second of speech."""
    never_done: bool = False
    """True: the end of a speech is never told."""
    flushes_per_minute: int = 20
    """Aura: the number of `Flush` messages that are obeyed in 60 s."""


@dataclass(slots=True)
class DeepgramGot(VendorGot):
    """The messages that the server has received on one connection. Kept after its end.

    An utterance is the audio up to a `Finalize`, or that of a turn that Flux has ended.
    """

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages except audio."""
    refused: list[str] = field(default_factory=list)
    """The reasons for which messages were refused."""

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.messages]

    def texts(self) -> list[str]:
        """Return the texts to speak, in order."""
        return [message["text"] for message in self.messages if message["type"] == "Speak"]
