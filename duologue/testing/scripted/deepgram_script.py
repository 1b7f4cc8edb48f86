"""The behaviour of a scripted Deepgram, and the record of each of its connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .server import SPEECH_CHARACTERS_PER_S


@dataclass(kw_only=True)
class DeepgramBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    setup_delay_s: float = 0.0
    """Seconds before a connection is accepted."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next connections are refused."""
    retry_after_s: int = 0
    """The header `Retry-After` of refusals; 0 for none."""
    idle_limit_s: float = 10.0
    """Seconds without a message after which a listening connection is closed with 1011 NET-0001."""

    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word or the recogniser's text; 0 for no interim."""
    final_words: int = 0
    """Nova: the number of interim words after which a segment becomes final before `Finalize`; 0 for never."""
    answer_delay_s: float = 0.0
    """Seconds between the end of an utterance and its text."""
    answers: int = 1
    """Nova: the number of answers to each `Finalize`. Flux: the number of times that an end of a turn is told."""
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
    chunk_bytes: int = 4_800
    """Bytes of audio in each message; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    first_audio_s: float = 0.0
    """Seconds before the first audio of a text."""
    late_audio: int = 0
    """The number of messages with audio between a `Clear` or an `Interrupt` and its answer."""
    never_done: bool = False
    """True: the end of a speech is never told."""
    silent: bool = False
    """True: no audio is sent."""
    flushes_per_minute: int = 20
    """Aura: the number of `Flush` messages that are obeyed in 60 s."""


@dataclass(slots=True)
class DeepgramGot:
    """The messages that the server has received on one connection. Kept after its end."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    audio: bytearray = field(default_factory=bytearray)
    """All audio, mono s16le."""
    utterances: list[bytes] = field(default_factory=list)
    """The audio of each utterance: up to each `Finalize`, or of each turn that Flux has ended."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages except audio."""
    refused: list[str] = field(default_factory=list)
    """The reasons for which messages were refused."""
    closed: int | None = None
    """The close code, None while the connection is open."""

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.messages]

    def texts(self) -> list[str]:
        """Return the texts to speak, in order."""
        return [message["text"] for message in self.messages if message["type"] == "Speak"]
