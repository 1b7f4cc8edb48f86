"""The engine contract: what sits between the caller's audio and the agent's."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from ..errors import ConfigurationError
from ..frames import Configure, Input, ToolResult
from .agent import language_line
from .tool import ToolSpec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do, as data. Sample rates in Hz, `session_limit_s` None for no limit."""

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
    voices: str = ""
    """The family that its voices belong to, by which an `Agent` can name one for each engine."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is set up now."""

    agent: str = ""
    instructions: str = ""
    voice: str = ""
    language: str = ""
    tools: tuple[ToolSpec, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The instructions, which say in what language to answer also if they did not before."""
        line = language_line(self.language)
        if not self.language or line in self.instructions:
            return self.instructions
        return f"{self.instructions}\n\n{line}".lstrip()

    def changed(self, change: Configure) -> EngineConfig:
        """This with the given changes; what is None persists.

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
"""What the caller has said: nothing, speech that was not understood, or words."""


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
    """What every engine offers beside its frames."""

    config: EngineConfig
    replaceable: bool
    """Somebody gives the call to another engine if this one is lost: that is no fatal error then."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError, with the reason, if the change cannot be applied. Changes nothing."""

    async def configure(self, change: Configure) -> None:
        """Apply all of a change, or none of it. Raises ConfigurationError with the reason."""

    async def drain(self) -> None:
        """Another engine takes over: let out what has been begun and what is to be said, and begin nothing else."""

    def stay(self) -> None:
        """The change does not come about: go on."""

    def release(self) -> Handover:
        """Give away what has not been dealt with, at the moment of the change; nothing of it is told here any more."""

    def adopt(self, left: Handover) -> None:
        """Take over what another engine has not dealt with, ahead of all that comes."""
