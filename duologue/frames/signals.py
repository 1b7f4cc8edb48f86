"""Signals: out-of-band events. Every interested processor and listener has received one before its push returns."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

import msgspec
from msgspec.structs import force_setattr

from .base import Signal
from .text import WellFormed

SessionState = Literal["new", "connecting", "active", "armed", "refreshing", "ending", "ended"]


class SessionStarted(Signal, frozen=True, kw_only=True, tag="SessionStarted"):
    """Everything is open; frames may flow."""

    session_id: str


class StateChanged(WellFormed, Signal, frozen=True, kw_only=True, tag="StateChanged"):
    """The state of the session was `before` and is `state` from now on, for `reason`: see `duologue.session.State`."""

    texts = ("reason",)

    state: SessionState
    before: SessionState
    reason: str = ""


class SessionEnding(WellFormed, Signal, frozen=True, kw_only=True, tag="SessionEnding"):
    """The session has begun to end, for `reason`."""

    texts = ("reason",)

    reason: str


class Interrupted(Signal, frozen=True, kw_only=True, tag="Interrupted"):
    """The turns up to `turn` are void. `heard` is the text of them that the caller heard, in `heard_s` seconds."""

    turn: int
    heard: str = ""
    heard_s: float = 0.0
    reason: str = "barge-in"


class CallerStartedSpeaking(Signal, frozen=True, kw_only=True, tag="CallerStartedSpeaking"):
    """The caller has been speaking since session time `at`."""

    at: float = 0.0


class CallerStoppedSpeaking(Signal, frozen=True, kw_only=True, tag="CallerStoppedSpeaking"):
    """The caller has been silent since session time `at`."""

    at: float = 0.0


class Transcribed(WellFormed, Signal, frozen=True, kw_only=True, tag="Transcribed"):
    """The caller's words were recognised. Interim texts (`final=False`) replace each other until the final one.

    `start_s` and `end_s` are session times of the speech. A final text of "" means speech that was not understood.
    `utterance` is the id of the utterance, as in `UserTranscript`.
    """

    texts = ("text",)

    text: str
    final: bool = True
    start_s: float = 0.0
    end_s: float = 0.0
    utterance: str = ""
    language: str = ""


class AudioLevel(Signal, frozen=True, kw_only=True, tag="AudioLevel"):
    """The level of one side in the last 100 ms, in dB below full scale: -96 for silence. About ten times a second."""

    who: Literal["caller", "agent"]
    dbfs: float
    at: float = 0.0


class AccessChanged(Signal, frozen=True, kw_only=True, tag="AccessChanged"):
    """`by` has changed the caller's access to `active`, `muted` or `revoked`: see `Session.set_access`."""

    access: Literal["active", "muted", "revoked"]
    by: str = ""


class ToolCalled(WellFormed, Signal, frozen=True, kw_only=True, tag="ToolCalled"):
    """A tool is called, with its arguments after all hooks. It may still wait for approval."""

    texts = ("name",)
    plain_data = ("arguments",)

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    turn: int = 0


class ToolBegan(WellFormed, Signal, frozen=True, kw_only=True, tag="ToolBegan"):
    """The function of a tool begins. Its listeners run in the function's task, and in its context."""

    texts = ("name",)

    call_id: str
    name: str
    turn: int = 0


class ApprovalWanted(WellFormed, Signal, frozen=True, kw_only=True, tag="ApprovalWanted"):
    """A tool that needs approval was called. It runs when an `ApprovalGiven` approves the call."""

    texts = ("name",)
    plain_data = ("arguments",)

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    agent: str = ""


class ApprovalGiven(WellFormed, Signal, frozen=True, kw_only=True, tag="ApprovalGiven"):
    """`by` has approved or denied a tool call that waits for approval, for `reason`."""

    texts = ("by", "reason")

    call_id: str
    approved: bool
    by: str = ""
    reason: str = ""


class ClientChanged(WellFormed, Signal, frozen=True, kw_only=True, tag="ClientChanged"):
    """The state of the client's connection: `lost` while nothing arrives from the client, `reconnected` after that."""

    texts = ("reason",)

    state: Literal["connected", "lost", "reconnected", "gone"]
    transport: str = ""
    reason: str = ""


class BotStartedSpeaking(Signal, frozen=True, kw_only=True, tag="BotStartedSpeaking"):
    """The caller begins to hear the agent, at session time `at`."""

    turn: int
    at: float = 0.0


class BotStoppedSpeaking(Signal, frozen=True, kw_only=True, tag="BotStoppedSpeaking"):
    """The caller no longer hears the agent, since session time `at`."""

    turn: int
    at: float = 0.0


class BotPaused(Signal, frozen=True, kw_only=True, tag="BotPaused"):
    """The agent's speech is on hold from now on. `owners` names the owner of the first hold, such as "caller"."""

    turn: int
    owners: tuple[str, ...] = ()


class BotResumed(Signal, frozen=True, kw_only=True, tag="BotResumed"):
    """The last hold was released: the agent's speech goes on. `owners` names all owners of holds since `BotPaused`.

    An interruption also ends a hold; no `BotResumed` follows then.
    """

    turn: int
    owners: tuple[str, ...] = ()


class Dismissed(Signal, frozen=True, kw_only=True, tag="Dismissed"):
    """A sound from session time `start_s` to `end_s` did not interrupt the agent's `turn`, for its `cause`.

    It was a backchannel of the caller; a noise, or speech that was not understood; an aside, a voice that is much
    quieter than the caller's; or an echo of the agent.
    """

    turn: int
    cause: Literal["backchannel", "noise", "aside", "echo"]
    start_s: float = 0.0
    end_s: float = 0.0


class Idle(Signal, frozen=True, kw_only=True, tag="Idle"):
    """Nothing has happened for `seconds`. `owner` has the floor: "caller" or "agent"."""

    seconds: float
    owner: str


class ErrorRaised(WellFormed, Signal, frozen=True, kw_only=True, tag="ErrorRaised"):
    """An error in `processor`. `category` is that of `DuologueError`; after a `fatal` one it cannot go on."""

    texts = ("message",)

    processor: str
    category: str
    message: str
    fatal: bool = False


class Usage(Signal, frozen=True, kw_only=True, tag="Usage"):
    """The consumption of one response or one transcript, or a second of an open connection.

    The tokens are as the provider counts them: `input_tokens` and `output_tokens` are totals. `input_audio_tokens`,
    `input_image_tokens` and `cached_tokens` are parts of the input, `cached_audio_tokens` and `cached_image_tokens`
    parts of `cached_tokens`; `output_audio_tokens` and `thought_tokens` are parts of the output. Images include frames
    of video. The seconds are of audio, `connection_s` of an open connection that is charged by the clock.

    `discarded` is the consumption of an answer that was prepared and thrown away: it belongs to no response. With
    `estimated`, the provider has not reported the tokens.

    An amount that is not a number, not finite or negative counts as 0; `faults` names its field.
    """

    service: str
    model: str = ""
    turn: int = 0
    response_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    output_audio_tokens: int = 0
    thought_tokens: int = 0
    characters: int = 0
    input_audio_s: float = 0.0
    output_audio_s: float = 0.0
    connection_s: float = 0.0
    discarded: bool = False
    estimated: bool = False
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in AMOUNTS:
            value = getattr(self, name)
            if value.__class__ is int and value >= 0:
                continue
            if value.__class__ is float and 0 <= value < inf:
                if not name.endswith("_s"):
                    force_setattr(self, name, int(value))
                continue
            force_setattr(self, name, 0)
            force_setattr(self, "faults", (*self.faults, name))


AMOUNTS = tuple(name for name in Usage.__struct_fields__ if name.endswith(("_tokens", "_s")) or name == "characters")
"""The fields of `Usage` that are amounts."""


class ConnectionChanged(WellFormed, Signal, frozen=True, kw_only=True, tag="ConnectionChanged"):
    """The connection of `engine`, a native engine or a remote service, has changed its state, for `reason`.

    `connecting` and `active` when it opens; `expiring` when its end is near; `refreshing` while a new connection
    replaces it at a quiet point; `reconnecting` after a loss, with the `attempt` counted from 1; `lost` when that was
    given up; `closed` at the end. With `active`, `how` says how the provider knows the conversation: "fresh", "resumed
    by handle" or "replayed N messages"; `gap_ms` is the time without a connection in milliseconds.
    """

    texts = ("reason",)

    engine: str
    state: Literal["connecting", "active", "expiring", "refreshing", "reconnecting", "lost", "closed"]
    reason: str = ""
    how: str = ""
    attempt: int = 0
    gap_ms: float = 0.0


class ServiceChanged(WellFormed, Signal, frozen=True, kw_only=True, tag="ServiceChanged"):
    """In a `Fallback`, the service `target` takes the place of `source`, for `reason`: a failure, or its recovery."""

    texts = ("reason",)

    kind: Literal["stt", "llm", "tts"]
    source: str
    target: str
    reason: str = ""


class GuardrailActed(WellFormed, Signal, frozen=True, kw_only=True, tag="GuardrailActed"):
    """A guardrail did not simply let `text` through, a sentence of the agent or words of the caller.

    `action` says what became of it. `cause` is "refused" for the verdict of the check, "late" for a check that took
    too long, "failed" for one that raised an error; `reason` is that of the verdict or the error. `replacement` is
    what is said, or heard, in its place. `turn` and `response_id` are those of the agent's answer.
    """

    texts = ("text", "reason", "replacement")

    guardrail: str
    side: Literal["agent", "caller"]
    action: Literal["passed", "replaced", "dropped", "stopped", "answered", "blocked"]
    cause: Literal["refused", "late", "failed"]
    text: str
    reason: str = ""
    replacement: str = ""
    turn: int = 0
    response_id: str = ""


class ResumptionHandle(Signal, frozen=True, kw_only=True, tag="ResumptionHandle"):
    """The provider's handle for the conversation as it is now.

    A later call can resume it: give that call's engine the handle (`handle=…`), together with the log. The session does
    not know the items of the log whose ids are in `lacks` yet.
    """

    engine: str
    handle: str
    lacks: tuple[str, ...] = ()


class CallResumed(WellFormed, Signal, frozen=True, kw_only=True, tag="CallResumed"):
    """The call goes on from the earlier `call`, of whose log `items` items were restored; "" if it begins anew.

    `how` is "handle" if the provider has resumed its own session, "replay" if it got the log, "fresh" if it begins
    anew. `why` is the reason if there is a better way that was not taken.
    """

    texts = ("why",)

    call: str
    how: Literal["handle", "replay", "fresh"]
    why: str = ""
    items: int = 0


class HandoffStarted(WellFormed, Signal, frozen=True, kw_only=True, tag="HandoffStarted"):
    """A hand-off was accepted and begins."""

    texts = ("reason",)

    source: str
    target: str
    reason: str = ""


class HandoffCompleted(WellFormed, Signal, frozen=True, kw_only=True, tag="HandoffCompleted"):
    """The agent `target` has the call. For `gap_ms` milliseconds neither agent had it.

    `engine` names its engine, if the pipeline has several. `source` equals `target` if only the engine has changed.
    """

    texts = ("reason", "summary")

    source: str
    target: str
    reason: str = ""
    summary: str = ""
    engine: str = ""
    gap_ms: float = 0.0


class HandoffFailed(WellFormed, Signal, frozen=True, kw_only=True, tag="HandoffFailed"):
    """A hand-off was refused or rolled back: `source` keeps the call."""

    texts = ("error",)

    source: str
    target: str
    error: str
