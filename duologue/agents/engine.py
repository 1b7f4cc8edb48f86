"""The engine contract. An engine sits between the caller's audio and the agent's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from ..errors import ConfigurationError
from ..frames import Configure, Input, ToolResult, UserImage
from ..frames.text import WellFormed
from ..images.limits import DEFAULT_IMAGES, ImageLimits
from .tool import ToolSpec

AnswerSetting = Literal["turn_instructions", "no_tools", "tool_choice"]
"""A setting of one answer: instructions for the answer to speech, no tools, a choice of tools."""


Billing = Literal["tokens", "clock", "audio", "characters", "none"]
"""The unit of a provider's charges: tokens, the time of the open connection, seconds of audio, characters, or none."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of an engine as data."""

    input_sample_rate: int
    """The rate of the caller's audio that the engine takes, in Hz."""
    output_sample_rate: int
    """The rate of the agent's audio that the engine gives, in Hz."""
    resumption: Literal["native", "replay", "none"]
    """How a new connection knows the conversation: by the provider's handle, or by a replay of the log."""
    changes_in_session: frozenset[str]
    """The settings that change without a new connection: instructions, voice, language, tools, options."""
    history_survives: bool
    """True if the model still knows the conversation after a reconnection, a hand-off or a change of engines."""
    model_may_change: bool
    """True if the model can be exchanged during the call."""
    truncation: bool
    """True if the model forgets the part of an answer that the caller did not hear."""
    turn_detection: frozenset[Literal["server", "client"]]
    """The sides that can find the caller's turns: the provider ("server") or the pipeline ("client")."""
    manual_turns: bool
    """True if the pipeline can end the caller's turn, for example for push-to-talk."""
    text_input: bool
    """True if the caller can type."""
    video_input: bool
    """True if the model takes frames of the caller's camera one after the other. Otherwise the newest frame goes with
    the caller's words, like an image that they show."""
    tools: Literal["blocking", "async", "none"]
    """The tool calls of the model. After a "blocking" call it waits for the result; during an "async" one it speaks."""
    billing: Billing
    """The unit of the provider's charges."""
    session_limit_s: float | None = None
    """Seconds after which the provider ends a connection; None without a limit."""
    affect: bool = False
    """True if the model hears the caller's mood and answers in kind."""
    text_may_change: bool = False
    """True if hooks may change a sentence before it is spoken. Otherwise they can only block it."""
    early_answers: bool = False
    """True if an answer can begin at a probable end of the caller's turn, and be taken back without a trace. A native
    engine can with the pipeline's turns only."""
    conformance: int = 1
    """The version of the conformance suite for which the engine was written."""
    answer_settings: frozenset[AnswerSetting] = frozenset()
    """The settings that one answer can have. All engines take instructions for an answer that `Respond` asks for."""
    images: ImageLimits | None = DEFAULT_IMAGES
    """The images that the model takes; others are converted. None for a model that takes none."""
    voices: str = ""
    """The family of the engine's voices, by which an `Agent` can name a voice for each engine."""


NO_ENGINE = "(an STT, an LLM and a TTS become one engine as Cascade(stt, llm, tts))"
"""The mend that an error names if a pipeline has services, but not an engine."""


def language_line(language: str) -> str:
    """Return the instruction to answer in a language."""
    return f"Language: Always respond in {language}"


class EngineConfig(WellFormed, msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of an engine."""

    texts = ("instructions",)
    plain_data = ("options",)

    agent: str = ""
    instructions: str = ""
    voice: str = ""
    language: str = ""
    model: str = ""
    """The model that answers; "" for the service's own."""
    tools: tuple[ToolSpec, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The instructions, with the language to answer in."""
        line = language_line(self.language)
        if not self.language or line in self.instructions:
            return self.instructions
        return f"{self.instructions}\n\n{line}".lstrip()

    def changed(self, change: Configure) -> EngineConfig:
        """Return this configuration with a change applied. Fields that are None in the change stay as they are.

        Raises ConfigurationError for a tool whose specification is malformed.
        """
        fields = {
            name: value
            for name in ("agent", "instructions", "voice", "language", "model", "options")
            if (value := getattr(change, name)) is not None
        }
        if "options" in fields:
            fields["options"] = {**self.options, **fields["options"]}
        if change.tools is not None:
            try:
                fields["tools"] = msgspec.convert(change.tools, tuple[ToolSpec, ...])
            except msgspec.ValidationError as error:
                raise ConfigurationError(f"a tool's specification is malformed: {error}") from error
        return msgspec.structs.replace(self, **fields)


def plain_specs(specs: Iterable[ToolSpec]) -> tuple[dict[str, Any], ...]:
    """Return the specifications as plain data, as `Configure.tools` has them."""
    return tuple(msgspec.to_builtins(spec) for spec in specs)


Pending = Literal["", "noise", "failed", "words"]
"""The content of a turn: nothing, speech that was not understood, speech that no service could transcribe, or words."""


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """The work that one engine leaves to the next at a change of engines, which the caller must not notice.

    `speech` has no transcript yet: the audio from before the speech was detected, `SpeechStarted`, the rest of the
    audio, and the `EndOfTurn` if there was one. All of it has gone downstream already, except the `EndOfTurn`. `asked`
    are the `EndOfTurn`, `UserText`, `Respond`, `Say` and `ToolResult` frames that no response has answered; results
    among them are in the log. `results` are results that are not in the log yet. `said` is the content of the caller's
    turn in progress, `unanswered` the content of finished turns that nobody has answered. `images` are not
    ready for a model yet, the last of them possibly the newest frame of a camera.
    """

    speech: tuple[Input, ...] = ()
    asked: tuple[Input, ...] = ()
    results: tuple[ToolResult, ...] = ()
    images: tuple[UserImage, ...] = ()
    said: Pending = ""
    unanswered: Pending = ""


@runtime_checkable
class Resting(Protocol):
    """An engine that can leave its provider in mid-call, and come back with the conversation."""

    @property
    def resting(self) -> bool:
        """True while it has left its provider."""

    async def rest(self) -> None:
        """Disconnect at the next quiet moment. An answer that is asked for connects again."""

    async def wake(self) -> None:
        """Connect again. Raises an error if that fails; the engine rests on then."""


@runtime_checkable
class Engine(Protocol):
    """The methods that every engine has, apart from handling frames."""

    config: EngineConfig
    replaceable: bool
    """True if another engine takes the call when this one is lost: the loss is not a fatal error then."""

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of the engine."""

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError, with the reason, if the change cannot be applied. Does not change anything."""

    async def configure(self, change: Configure) -> None:
        """Apply all of a change, or none of it. Raises ConfigurationError with the reason."""

    async def drain(self) -> None:
        """Finish the responses that have begun and the `Say`s that wait; begin no others: another engine follows."""

    def stay(self) -> None:
        """Go on after `drain`: the change of engines was called off."""

    def release(self) -> Handover:
        """Return the unfinished work, at the moment of the change, and do none of it any more."""

    def adopt(self, left: Handover) -> None:
        """Take over the unfinished work of another engine, ahead of all later frames."""
