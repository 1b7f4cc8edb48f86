"""Out-of-band news. Every processor and listener that wants one has it before the push returns."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .base import Signal


class SessionStarted(Signal, frozen=True, kw_only=True, tag="SessionStarted"):
    """Everything is open; frames may flow."""

    session_id: str


class SessionEnding(Signal, frozen=True, kw_only=True, tag="SessionEnding"):
    """The session has begun to end, for `reason`."""

    reason: str


class Interrupted(Signal, frozen=True, kw_only=True, tag="Interrupted"):
    """Everything of turns up to `turn` is void. `heard` is what the caller heard of it, `heard_s` how long."""

    turn: int
    heard: str = ""
    heard_s: float = 0.0
    reason: str = "barge-in"


class CallerStartedSpeaking(Signal, frozen=True, kw_only=True, tag="CallerStartedSpeaking"):
    """The caller speaks, since session time `at`."""

    at: float = 0.0


class CallerStoppedSpeaking(Signal, frozen=True, kw_only=True, tag="CallerStoppedSpeaking"):
    """The caller has been silent since session time `at`."""

    at: float = 0.0


class Transcribed(Signal, frozen=True, kw_only=True, tag="Transcribed"):
    """What the caller says has been recognised. Interim texts (`final=False`) replace each other until the final one.

    `start_s` and `end_s` are session times of the speech. A final text of "" means speech that was not understood.
    `utterance` is the id of the utterance, as in `UserTranscript`.
    """

    text: str
    final: bool = True
    start_s: float = 0.0
    end_s: float = 0.0
    utterance: str = ""
    language: str = ""


class AudioLevel(Signal, frozen=True, kw_only=True, tag="AudioLevel"):
    """How loud one side is, about ten times per second: `dbfs` of the last 100 ms, -96 for silence."""

    who: Literal["caller", "agent"]
    dbfs: float
    at: float = 0.0


class AccessChanged(Signal, frozen=True, kw_only=True, tag="AccessChanged"):
    """The caller may speak (`active`), is `muted`, or `revoked`: see `Session.access`."""

    access: Literal["active", "muted", "revoked"]
    by: str = ""


class ToolCalled(Signal, frozen=True, kw_only=True, tag="ToolCalled"):
    """A tool is called, with the arguments that the hooks have left it. It may still wait for approval."""

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    turn: int = 0


class ApprovalWanted(Signal, frozen=True, kw_only=True, tag="ApprovalWanted"):
    """A tool that needs approval was called; it runs once `ApprovalGiven` says so."""

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    agent: str = ""


class ApprovalGiven(Signal, frozen=True, kw_only=True, tag="ApprovalGiven"):
    """Somebody (`by`) lets a tool run that waits for approval, or not."""

    call_id: str
    approved: bool
    by: str = ""
    reason: str = ""


class ClientChanged(Signal, frozen=True, kw_only=True, tag="ClientChanged"):
    """The caller's connection: `lost` while nothing is heard of the client, `reconnected` when it is back."""

    state: Literal["connected", "lost", "reconnected", "gone"]
    transport: str = ""
    reason: str = ""


class BotStartedSpeaking(Signal, frozen=True, kw_only=True, tag="BotStartedSpeaking"):
    """The caller begins to hear the agent. `at` is the session time."""

    turn: int
    at: float = 0.0


class BotStoppedSpeaking(Signal, frozen=True, kw_only=True, tag="BotStoppedSpeaking"):
    """The caller no longer hears the agent."""

    turn: int
    at: float = 0.0


class BotPaused(Signal, frozen=True, kw_only=True, tag="BotPaused"):
    """The agent's speech is on hold from now on. `owners` names the owner of the first hold, such as "caller"."""

    turn: int
    owners: tuple[str, ...] = ()


class BotResumed(Signal, frozen=True, kw_only=True, tag="BotResumed"):
    """No hold is out any more: the speech goes on. `owners` names the owners of all holds since `BotPaused`.

    After an interruption that ends a hold there is no `BotResumed`.
    """

    turn: int
    owners: tuple[str, ...] = ()


class Idle(Signal, frozen=True, kw_only=True, tag="Idle"):
    """Nothing has happened for `seconds`. `owner` is whose move it is: caller or agent."""

    seconds: float
    owner: str


class ErrorRaised(Signal, frozen=True, kw_only=True, tag="ErrorRaised"):
    """Something failed. `category` is that of `duologue.errors`; `fatal` means it cannot go on by itself."""

    processor: str
    category: str
    message: str
    fatal: bool = False


class Usage(Signal, frozen=True, kw_only=True, tag="Usage"):
    """What one response (or one transcript) consumed. Tokens are the provider's, seconds are of audio.

    `input_audio_tokens` and `output_audio_tokens` are the part of the tokens that is audio, where the provider tells.
    """

    service: str
    model: str = ""
    turn: int = 0
    response_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    characters: int = 0
    input_audio_s: float = 0.0
    output_audio_s: float = 0.0


class ConnectionChanged(Signal, frozen=True, kw_only=True, tag="ConnectionChanged"):
    """The connection of a native engine or of a remote service, `engine`, has changed its state, for `reason`.

    `connecting` and `active` at its opening; `expiring` when its end is near; `refreshing` while a new connection takes
    its place at a quiet point; `reconnecting` after it was lost, `attempt` counted from 1; `lost` when that was given
    up, and `closed`. With `active`, `how` says what the provider knows of the conversation: "fresh", "resumed by
    handle" or "replayed N messages", and `gap_ms` how long there was no connection.
    """

    engine: str
    state: Literal["connecting", "active", "expiring", "refreshing", "reconnecting", "lost", "closed"]
    reason: str = ""
    how: str = ""
    attempt: int = 0
    gap_ms: float = 0.0


class ResumptionHandle(Signal, frozen=True, kw_only=True, tag="ResumptionHandle"):
    """With this handle the provider resumes the conversation as it is now, also in another call: keep it if you want.

    Given to the engine of the next call (`handle=…`), together with the log.
    """

    engine: str
    handle: str


class HandoffStarted(Signal, frozen=True, kw_only=True, tag="HandoffStarted"):
    """A hand-off was accepted and begins."""

    source: str
    target: str
    reason: str = ""


class HandoffCompleted(Signal, frozen=True, kw_only=True, tag="HandoffCompleted"):
    """The new agent has the call. `gap_ms` is how long neither agent had it.

    `engine` names the engine that it has the call on, if there are several. Source and target are the same agent if
    only that has changed.
    """

    source: str
    target: str
    reason: str = ""
    summary: str = ""
    engine: str = ""
    gap_ms: float = 0.0


class HandoffFailed(Signal, frozen=True, kw_only=True, tag="HandoffFailed"):
    """A hand-off was refused or rolled back: `source` keeps the call."""

    source: str
    target: str
    error: str
