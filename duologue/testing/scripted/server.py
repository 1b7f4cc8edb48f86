"""What all scripted providers share: the script of a model, and the record of what a server got.

A scripted server speaks a provider's real wire on loopback, so that the official SDK talks to it as to the provider.
The script says what the model does and when; faults are acts like any other.

    server = ScriptedOpenAI([[Speak("Hello.")], [Call("weather", {"city": "Paris"})], [Speak("It is sunny.")]])
    async with server:
        engine = OpenAIRealtime(api_key="test", base_url=server.url)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...services.context import Message

SPEECH_CHARACTERS_PER_S = 15.0
"""How fast a scripted model speaks if a `Speak` does not say how long it takes."""


@dataclass(frozen=True, slots=True)
class Speak:
    """The model says this. Its audio is `audio` (mono s16le, 24 kHz), or a tone of `seconds`.

    Goes out in pieces of `chunk_ms`, `pace` times as fast as real time; 0 means all at once.
    """

    text: str
    seconds: float | None = None
    audio: bytes = b""
    pace: float = 0.0
    chunk_ms: int = 100


@dataclass(frozen=True, slots=True)
class Call:
    """The model asks for a tool. Without a `call_id` the server makes one."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The response fails."""

    code: str = "server_error"
    message: str = "The model has failed."


@dataclass(frozen=True, slots=True)
class Close:
    """The server closes the connection, in an orderly way with `code`; a `code` of 0 breaks it off."""

    code: int = 1011
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """From now on the server neither reads nor writes on this connection, and does not close it."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server tells that it will close the connection in `left_s`, and does so. For wires that can tell."""

    left_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Raw:
    """The server sends this as it is: a message of an unknown type, or no JSON at all."""

    message: dict[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class Twice:
    """The next message is sent twice."""


Act: TypeAlias = Speak | Call | Wait | Fail | Close | HalfOpen | GoAway | Raw | Twice


@dataclass(frozen=True, slots=True)
class Asked:
    """A response is asked of the model. `said` is the transcript of the turn that asks, "" for none."""

    connection: int
    """Which connection of the server's, counted from 1."""
    instructions: str
    """Those of the session, and after an empty line those of this one response."""
    voice: str
    tools: tuple[dict[str, Any], ...]
    history: tuple[Message, ...]
    """All that the session remembers, the turn that asks included, and nothing that was truncated."""
    said: str = ""


Model: TypeAlias = Callable[[Asked], Sequence[Act]]


def scripted(answers: Sequence[Sequence[Act]]) -> Model:
    """A model that gives one answer after the other; when they are used up it says "Yes."."""
    waiting = list(answers)
    return lambda asked: waiting.pop(0) if waiting else [Speak("Yes.")]


@dataclass(slots=True)
class Got:
    """What one connection brought. The server keeps it after the connection has ended."""

    number: int
    """Counted from 1, in the order in which connections were accepted."""
    handle: str = ""
    """What the client wanted resumed."""
    audio: bytearray = field(default_factory=bytearray)
    """All audio of the caller, in order: mono s16le at the provider's input rate."""
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Where in `audio` (in samples) the turns lie that the model was asked to answer."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All other messages, as they came."""
    instructions: str = ""
    voice: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    history: list[Message] = field(default_factory=list)
    """What the session remembers now."""
    truncated: list[tuple[str, int]] = field(default_factory=list)
    """Item and milliseconds of each truncation that was carried out."""
    results: list[tuple[str, str]] = field(default_factory=list)
    """Call id and result of each tool result that came as one."""
    closed: int | None = None
    """The close code, None while it is open."""


@dataclass(kw_only=True)
class Behaviour:
    """How a scripted server behaves apart from the model. May be changed at any time; holds from then on."""

    key: str = "test"
    """Another key is refused as the provider refuses one."""
    models: frozenset[str] = frozenset()
    """Other models are refused; empty for any."""
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """What the caller's turns are understood as, one after the other, or a recogniser of their audio."""
    transcript_delay_s: float = 0.0
    setup_delay_s: float = 0.0
    """Before the session is set up; `inf` for never."""
    refuse: int = 0
    """So many connections from now on are refused at the door, as by an overloaded server."""
    refuse_handles: bool = False
    delay_s: float = 0.0
    """Before every message."""
    session_limit_s: float = 3600.0
    turn_detection: Literal["energy", "told"] = "energy"
    """How server-side turns are found: by the level of the audio, or by the test, which calls `begin_turn` and
    `end_turn`."""

    def understand(self, pcm: bytes) -> str:
        """What a turn of the caller's is understood as."""
        transcripts = self.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        self.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""
