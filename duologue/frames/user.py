"""What the caller does, apart from the audio itself."""

from __future__ import annotations

from typing import Any

from .base import Input, Word


class SpeechStarted(Input, frozen=True, kw_only=True, tag="SpeechStarted"):
    """The caller began to speak at session time `at` (seconds). Marks a place in the audio.

    `utterance` is the id of the utterance that begins, once an engine has given it one.
    """

    at: float = 0.0
    utterance: str = ""


class SpeechStopped(Input, frozen=True, kw_only=True, tag="SpeechStopped"):
    """The caller fell silent: `at` is when the last speech was heard, before the silence that proved it."""

    at: float = 0.0


class EndOfTurn(Input, frozen=True, kw_only=True, tag="EndOfTurn"):
    """The caller has finished and expects an answer. `at` is the end of the speech, `by` who decided."""

    at: float = 0.0
    by: str = "silence"


class UserTranscript(Input, frozen=True, kw_only=True, tag="UserTranscript"):
    """What the caller said. Interim texts (`final=False`) replace each other until the final one.

    `start_s` and `end_s` are session times of the speech. A final text of "" means speech that was not understood.
    `utterance` is the same in all texts of one utterance, and the id of the log's item for it; "" where none is known.
    """

    text: str
    final: bool = True
    start_s: float = 0.0
    end_s: float = 0.0
    utterance: str = ""
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()


class UserText(Input, frozen=True, kw_only=True, tag="UserText"):
    """Text that the caller typed, or that `author` put into the conversation. Asks for an answer if `respond`."""

    text: str
    author: str = "caller"
    respond: bool = True


class UserImage(Input, frozen=True, kw_only=True, tag="UserImage"):
    """An image, as bytes of type `mime` (for example image/jpeg), or by its `url`."""

    image: bytes = b""
    mime: str = "image/jpeg"
    url: str = ""


class Dtmf(Input, frozen=True, kw_only=True, tag="Dtmf"):
    """A key of the telephone: one of 0 to 9, *, #, A to D."""

    digit: str


class Say(Input, frozen=True, kw_only=True, tag="Say"):
    """The application asks the agent to say `text` as it stands. `protected` speech is not interrupted.

    `turn` makes it part of a turn that goes on; 0 begins a new one.
    """

    text: str
    protected: bool = False
    turn: int = 0


class Respond(Input, frozen=True, kw_only=True, tag="Respond"):
    """The application asks the agent for a response now, with `instructions` for this one response."""

    instructions: str = ""


class ToolResult(Input, frozen=True, kw_only=True, tag="ToolResult"):
    """The result of a tool call, on its way up to the engine that asked. Any JSON value, also a falsy one.

    `final` results of one turn's calls together cause one continuation; `respond=False` causes none.
    """

    call_id: str
    name: str
    result: Any
    turn: int = 0
    is_error: bool = False
    respond: bool = True
