"""The events of a call, as its `Feed` gives them: plain data with a tag and a time, ready for JSON."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..frames import FrustrationState, SessionState, Usage
from .cost import Cost
from .item import Item
from .ledger import Point

Speaker = Literal["caller", "agent"]


class CallEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """The base of the events of a call. `at` is the session time in seconds."""

    at: float = 0.0


class CallBegan(CallEvent, frozen=True, kw_only=True, tag="call_began"):
    """The pipeline is open, and the caller is heard."""

    session_id: str


class TakenUp(CallEvent, frozen=True, kw_only=True, tag="taken_up"):
    """The call goes on from the earlier `call`: see `duologue.frames.CallResumed`."""

    call: str
    how: Literal["handle", "replay", "fresh"]
    why: str
    items: int


class StateMoved(CallEvent, frozen=True, kw_only=True, tag="state_moved"):
    """The state of the session was `before` and is `state` now, for `reason`: see `duologue.session.State`."""

    state: SessionState
    before: SessionState
    reason: str


class CallEnding(CallEvent, frozen=True, kw_only=True, tag="call_ending"):
    """The call has begun to end. The last messages have become final before this."""

    reason: str


class Speaking(CallEvent, frozen=True, kw_only=True, tag="speaking"):
    """One side begins or ceases to speak. The agent counts as speaking while the caller hears it or it is on hold."""

    who: Speaker
    speaking: bool


class SpeechHeld(CallEvent, frozen=True, kw_only=True, tag="speech_held"):
    """The agent's speech is put on hold, or resumes where it stopped.

    `owners` names the owners of the holds, such as "caller".
    """

    held: bool
    turn: int
    owners: tuple[str, ...] = ()


class SpeechCut(CallEvent, frozen=True, kw_only=True, tag="speech_cut"):
    """All output of the turns up to `turn` is void: the caller or the application interrupted.

    `heard` is the text that the caller heard of it, `heard_s` the seconds of audio.
    """

    turn: int
    heard: str
    heard_s: float
    reason: str


class Recognised(CallEvent, frozen=True, kw_only=True, tag="recognised"):
    """Text of the caller's speech. Interim texts (`final=False`) replace each other until the final one.

    `utterance` is the id of the message that the text becomes. A final text of "" means speech that was not
    understood, or that a hook has blocked.
    """

    utterance: str
    text: str
    final: bool
    start_s: float
    end_s: float
    language: str


class TurnOver(CallEvent, frozen=True, kw_only=True, tag="turn_over"):
    """The caller's turn has ended, by a cause. `speech_end_s` is the session time of their last sound."""

    speech_end_s: float
    by: str


class MessageChanged(CallEvent, frozen=True, kw_only=True, tag="message_changed"):
    """A message is new, or has changed. `item` is its entry in the log; its id stays the same until it is `final`.

    A message of the caller carries the interim words as its `text` and a provisional `item` until the log has the final
    words. A message of the agent carries the text that has been generated; the caller has heard its first
    `heard_chars` characters, in `heard_s` seconds. It is updated at most ten times a second. Once it is `final`, `text`
    is the text that was heard.
    """

    item: Item
    text: str
    heard_chars: int = 0
    heard_s: float = 0.0
    final: bool


class MessageGone(CallEvent, frozen=True, kw_only=True, tag="message_gone"):
    """A message is withdrawn: the caller heard nothing of it, or it was not speech."""

    id: str


class ResponseOpened(CallEvent, frozen=True, kw_only=True, tag="response_opened"):
    """The agent begins a response. `id` is also the id of the response's message."""

    id: str
    turn: int
    agent: str


class ResponseText(CallEvent, frozen=True, kw_only=True, tag="response_text"):
    """`text` is the next piece of a response's text, as the model gives it."""

    id: str
    turn: int
    text: str


class ResponseReached(CallEvent, frozen=True, kw_only=True, tag="response_reached"):
    """A response has come to a point: its first `text`, or its first `audio` in the playout.

    For the answer of a cascade's model also: the model is `asked`, and has `written` all its text.
    """

    id: str
    turn: int
    point: Point


class ResponseComplete(CallEvent, frozen=True, kw_only=True, tag="response_complete"):
    """The engine has finished a response, or was stopped. The caller may not have heard it yet."""

    id: str
    turn: int
    status: Literal["completed", "interrupted", "failed"]


class ToolChanged(CallEvent, frozen=True, kw_only=True, tag="tool_changed"):
    """The state of a tool call has changed.

    The state is `called` when the log has the call, `changed` when a hook has changed its arguments, `running` when the
    log says that the tool still runs, with its progress, and `answered` when the log has its result; `item` is the
    entry of the log then. It is `waiting` while the call waits for an
    approval, then `approved` or `denied`, with the `by` and the `reason` of the decision.
    """

    state: Literal["called", "changed", "waiting", "approved", "denied", "running", "answered"]
    call_id: str
    name: str = ""
    arguments: Any = None
    result: Any = None
    agent: str = ""
    by: str = ""
    reason: str = ""
    item: Item | None = None


class ToolStarted(CallEvent, frozen=True, kw_only=True, tag="tool_started"):
    """The function of a tool begins to run. Watchers are called in its task: a context that they set is its context."""

    call_id: str
    name: str
    turn: int


class Noted(CallEvent, frozen=True, kw_only=True, tag="noted"):
    """The log has a new or changed entry that is neither a message nor of a tool: a note, or a hand-off."""

    item: Item


class HandedOff(CallEvent, frozen=True, kw_only=True, tag="handed_off"):
    """A hand-off has `started`, is `completed`, or has `failed` with an `error`, and `source` keeps the call.

    Source and target are the same agent if only the engine changes. `gap_ms` is the time between them.
    """

    state: Literal["started", "completed", "failed"]
    source: str
    target: str
    reason: str = ""
    summary: str = ""
    engine: str = ""
    gap_ms: float = 0.0
    error: str = ""


class AccessSwitched(CallEvent, frozen=True, kw_only=True, tag="access_switched"):
    """The caller may speak (`active`), is `muted`, or `revoked`."""

    access: Literal["active", "muted", "revoked"]
    by: str


class ClientMoved(CallEvent, frozen=True, kw_only=True, tag="client_moved"):
    """The client's connection is `connected`, `lost` for now, `reconnected`, or `gone` for good."""

    state: Literal["connected", "lost", "reconnected", "gone"]
    transport: str
    reason: str


class ConnectionMoved(CallEvent, frozen=True, kw_only=True, tag="connection_moved"):
    """The state of a service's connection has changed: see `duologue.frames.ConnectionChanged`."""

    engine: str
    state: str
    reason: str
    how: str
    attempt: int
    gap_ms: float


class ServiceMoved(CallEvent, frozen=True, kw_only=True, tag="service_moved"):
    """In a `Fallback`, the service `target` takes the place of `source`: see `duologue.frames.ServiceChanged`."""

    kind: Literal["stt", "llm", "tts"]
    source: str
    target: str
    reason: str


class WordsGuarded(CallEvent, frozen=True, kw_only=True, tag="words_guarded"):
    """A guardrail did not simply let words through: see `duologue.frames.GuardrailActed`."""

    guardrail: str
    side: Speaker
    action: str
    cause: str
    text: str
    reason: str
    replacement: str
    turn: int
    response_id: str


class AffectHeard(CallEvent, frozen=True, kw_only=True, tag="affect_heard"):
    """What a provider hears in the caller's voice: see `duologue.frames.Affect`."""

    source: str
    scores: dict[str, float]


class FrustrationMoved(CallEvent, frozen=True, kw_only=True, tag="frustration_moved"):
    """The caller's frustration has changed, or something is done: see `duologue.frames.FrustrationChanged`."""

    state: FrustrationState
    level: float
    reasons: tuple[str, ...]
    acts: tuple[str, ...]

    def __str__(self) -> str:
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"the caller is {self.state}{why}" + (f": {', '.join(self.acts)}" if self.acts else "")


class UsageReported(CallEvent, frozen=True, kw_only=True, tag="usage_reported"):
    """A service reports its consumption, `used`. `totals` are the sums of the call, one for each service and model."""

    used: Usage
    totals: tuple[Usage, ...]


class CostChanged(CallEvent, frozen=True, kw_only=True, tag="cost_changed"):
    """The cost of the call has changed: at most one event a second, and one at the end, which is `final`.

    A call that has consumed nothing has none.
    """

    cost: Cost
    final: bool = False


class Failed(CallEvent, frozen=True, kw_only=True, tag="failed"):
    """An error was reported. A `message` of the category "internal" may have details for the application only."""

    processor: str
    category: str
    message: str
    fatal: bool


class Level(CallEvent, frozen=True, kw_only=True, tag="level"):
    """The level of one side over the last 100 ms, in dB below full scale. Only for watchers that ask for it."""

    who: Speaker
    dbfs: float


class TurnTimed(CallEvent, frozen=True, kw_only=True, tag="turn_timed"):
    """The caller begins to hear the answer of a turn: its latency. Only for watchers that ask for it.

    `stages_ms` are the milliseconds of each stage of `duologue.session.latency`; `median_ms` is the median
    of the totals of all turns.
    """

    turn: int
    stages_ms: dict[str, float]
    total_ms: float
    median_ms: float


FeedEvent = (
    CallBegan
    | TakenUp
    | StateMoved
    | CallEnding
    | Speaking
    | SpeechHeld
    | SpeechCut
    | Recognised
    | TurnOver
    | MessageChanged
    | MessageGone
    | ResponseOpened
    | ResponseText
    | ResponseReached
    | ResponseComplete
    | ToolChanged
    | ToolStarted
    | Noted
    | HandedOff
    | AccessSwitched
    | ClientMoved
    | ConnectionMoved
    | ServiceMoved
    | WordsGuarded
    | AffectHeard
    | FrustrationMoved
    | UsageReported
    | CostChanged
    | Failed
    | Level
    | TurnTimed
)
ON_REQUEST: tuple[type[CallEvent], ...] = (Level, TurnTimed)
"""Events that require measurements. Only watchers that name them receive them."""
