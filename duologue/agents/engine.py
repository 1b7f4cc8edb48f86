"""The engine contract. An engine sits between the caller's audio and the agent's."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from ..errors import ConfigurationError
from ..frames import Configure, Input, ToolResult
from .agent import language_line
from .tool import ToolSpec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of an engine as data. Sample rates in Hz, limits in seconds (None for no limit)."""

    input_sample_rate: int
    output_sample_rate: int
    resumption: Literal["native", "replay", "none"]
    changes_in_session: frozenset[str]
    """Which of instructions, voice, language, tools and options change without a new connection."""
    history_survives: bool
    model_may_change: bool
    truncation: bool
    turn_detection: frozenset[Literal["server", "client"]]
    manual_turns: bool
    text_input: bool
    video_input: bool
    tools: Literal["blocking", "async", "none"]
    billing: Literal["token", "clock", "none"]
    session_limit_s: float | None = None
    affect: bool = False
    text_may_change: bool = False
    """Hooks may change a sentence before it is spoken. Without it they can only block one."""
    conformance: int = 1
    """The version of the conformance suite that the engine was written for."""
    voices: str = ""
    """The family that its voices belong to, by which an `Agent` can name one for each engine."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of an engine."""

    agent: str = ""
    instructions: str = ""
    voice: str = ""
    language: str = ""
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
        """Return this with a change. Fields that are None in it stay as they are.

        Raises ConfigurationError for a tool whose specification is malformed.
        """
        fields = {
            name: value
            for name in ("agent", "instructions", "voice", "language", "options")
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


Pending = Literal["", "noise", "words"]
"""The content of a turn: nothing, speech that was not understood, or words."""


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """The work that one engine leaves to the next at a change of engines: the caller must not notice it.

    `speech` has no transcript yet: the audio from before the speech was detected, `SpeechStarted`, the rest of the
    audio, and the `EndOfTurn` if there was one. All of it has been passed on downstream already, except the
    `EndOfTurn`. `asked` are the `EndOfTurn`, `UserText`, `Respond`, `Say` and `ToolResult` frames that no response has
    answered. Their results are in the log; `results` are not in it yet. `said` is the content of the caller's turn in
    progress, `unanswered` the content of finished turns that nobody has answered.
    """

    speech: tuple[Input, ...] = ()
    asked: tuple[Input, ...] = ()
    results: tuple[ToolResult, ...] = ()
    said: Pending = ""
    unanswered: Pending = ""


@runtime_checkable
class Engine(Protocol):
    """The methods of every engine, beside its frames."""

    config: EngineConfig
    replaceable: bool
    """True if another engine takes the call when this one is lost. Then the loss is not a fatal error."""

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of the engine."""

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError, with the reason, if the change cannot be applied. Changes nothing."""

    async def configure(self, change: Configure) -> None:
        """Apply all of a change, or none of it. Raises ConfigurationError with the reason."""

    async def drain(self) -> None:
        """Another engine takes over: finish the responses that have begun and the `Say`s that wait; begin no others."""

    def stay(self) -> None:
        """The change of engines does not come about: go on."""

    def release(self) -> Handover:
        """Give away the work that is not done, at the moment of the change. Nothing of it goes on here."""

    def adopt(self, left: Handover) -> None:
        """Take over the work that another engine has left, ahead of all later frames."""
