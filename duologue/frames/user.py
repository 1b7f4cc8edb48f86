"""Frames for the engine, apart from audio: from the caller, from the application, and the results of tools."""

from __future__ import annotations

from typing import Any, Literal

from .base import Input, Word
from .text import WellFormed

ImageSource = Literal["picture", "camera", "screen"]
"""The origin of an image: a picture that the caller shows, or a frame of their camera or screen."""


class SpeechStarted(Input, frozen=True, kw_only=True, tag="SpeechStarted"):
    """The caller began to speak at session time `at` (seconds). Marks a place in the audio.

    `utterance` is the id of the utterance that begins, once an engine has given it one.
    """

    at: float = 0.0
    utterance: str = ""


class SpeechStopped(Input, frozen=True, kw_only=True, tag="SpeechStopped"):
    """The caller fell silent. `at` is the session time of the speech's end, before the silence that proved it."""

    at: float = 0.0


class EagerEndOfTurn(WellFormed, Input, frozen=True, kw_only=True, tag="EagerEndOfTurn"):
    """The caller has probably finished. `text` is what they said in the turn, `at` the session time of its end.

    It comes after the turn's `SpeechStarted`, which has the same `utterance`. Then follows either `TurnResumed`,
    because the caller goes on, and possibly another `EagerEndOfTurn`; or the final `UserTranscript` and the
    `EndOfTurn`. If the final text equals `text`, an answer to it that was prepared meanwhile is the answer to the turn.
    A turn may end without this frame, and after a change of engines in mid-turn nothing follows it.
    `Endpointing` gives it without a text, which the speech-to-text adds: the words since the latest final transcript.

    Nothing that is prepared may reach the caller, the log or a tool before the `EndOfTurn`. Processors that prepare
    nothing ignore these two frames: the caller's turn goes on.
    """

    texts = ("text",)

    at: float = 0.0
    text: str = ""
    utterance: str = ""
    confidence: float = 1.0
    """The probability that the turn has ended, from 0 to 1; 1 if it is not known."""


class TurnResumed(Input, frozen=True, kw_only=True, tag="TurnResumed"):
    """The caller goes on after an `EagerEndOfTurn`: the turn has not ended. `at` is the session time of its report."""

    at: float = 0.0
    utterance: str = ""


class EndOfTurn(Input, frozen=True, kw_only=True, tag="EndOfTurn"):
    """The caller has finished and expects an answer. `at` is the session time of the speech's end, `by` the cause.

    `instructions` and `tool_choice` are for this one answer, as in `Respond`.
    """

    at: float = 0.0
    by: str = "silence"
    instructions: str = ""
    tool_choice: str = ""


class UserTranscript(WellFormed, Input, frozen=True, kw_only=True, tag="UserTranscript"):
    """The caller's words. Interim texts (`final=False`) replace each other until the final one.

    `start_s` and `end_s` are session times of the speech. A final text of "" means speech that was not understood, or,
    if `failed`, speech that was not transcribed because the service failed.
    `utterance` is the same in all texts of one utterance, and the id of its item in the log; "" if it is not known.
    `original` is the text of the service if a `Correction` has changed it, else "".
    """

    texts = ("text", "original")

    text: str
    final: bool = True
    start_s: float = 0.0
    end_s: float = 0.0
    utterance: str = ""
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()
    failed: bool = False
    original: str = ""


class UserText(WellFormed, Input, frozen=True, kw_only=True, tag="UserText"):
    """Text that the caller typed, or that `author` put into the conversation. Asks for an answer if `respond`.

    `id` is that of its item in the log, "" for a new one.
    """

    texts = ("text", "author")

    text: str
    author: str = "caller"
    respond: bool = True
    id: str = ""


class UserImage(WellFormed, Input, frozen=True, kw_only=True, tag="UserImage"):
    """An image of the caller, as bytes, or by its `url`, from which the engine fetches it.

    The engine checks and converts it, and then logs it with its size. `mime` is its declared type, for example
    image/jpeg. A frame of a "camera" or a "screen" is one of many: an engine that takes video receives them at a steady
    rate, and another one the newest, with the caller's next question. `name` is that of a file. `width` and `height`
    are in pixels, 0 if they are not known. `id` is that of its item in the log, "" for a new one.
    """

    texts = ("url", "name")

    image: bytes = b""
    mime: str = "image/jpeg"
    url: str = ""
    id: str = ""
    source: ImageSource = "picture"
    name: str = ""
    width: int = 0
    height: int = 0


class Dtmf(Input, frozen=True, kw_only=True, tag="Dtmf"):
    """A key of a telephone: one of 0 to 9, *, #, A to D."""

    digit: str


class Say(WellFormed, Input, frozen=True, kw_only=True, tag="Say"):
    """The application asks the agent to say `text` word for word. The caller cannot interrupt `protected` speech.

    `turn` makes it part of a turn in progress; 0 begins a new one. With the `call_id` of a tool call of that turn the
    text fills the time until its result: it is not said once the result is there or the turn is over.
    """

    texts = ("text",)

    text: str
    protected: bool = False
    turn: int = 0
    call_id: str = ""


class Respond(WellFormed, Input, frozen=True, kw_only=True, tag="Respond"):
    """The application asks the agent for a response now, with `instructions` for this one response.

    `tool_choice` is for this response as well: "none", "required" or the name of a tool; "" leaves it to the model.
    An engine that cannot obey it (`Capabilities.answer_settings`) leaves it to the model, too.
    """

    texts = ("instructions",)

    instructions: str = ""
    tool_choice: str = ""


class ToolResult(WellFormed, Input, frozen=True, kw_only=True, tag="ToolResult"):
    """The result of a tool call, on its way up to the engine. Any JSON value is a result, also a falsy one.

    When all results of a turn's calls are in, the engine continues its answer, once. With `respond=False` a result
    does not ask for that. A result that is not `final` says that the tool still runs; the final one takes its place.
    """

    texts = ("name",)
    plain_data = ("result",)

    call_id: str
    name: str
    result: Any
    turn: int = 0
    is_error: bool = False
    respond: bool = True
    final: bool = True
