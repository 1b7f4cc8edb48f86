"""`Dialect`: the pure translator between a speech-to-speech provider's wire and the events of all providers.

A dialect does no I/O and knows no session. One instance belongs to one connection and keeps that connection's state.
Ids in events are the provider's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ...agents.engine import EngineConfig
from ...frames import ResponseStatus, Usage, UserImage
from ..context import Message
from ..remote.dialect import ConnectionDialect, WireMessage
from ..remote.dialect import Event as Event
from ..remote.dialect import GoingAway as GoingAway
from ..remote.dialect import Opened as Opened
from ..remote.dialect import Refused as Refused


class Dialect(ConnectionDialect):
    """Translates for one connection. Lists of strings are messages to send, in order."""

    answers_turns: ClassVar[bool] = True
    """True if `turn_ends` makes the model answer without `respond`."""
    answers_results: ClassVar[bool] = False
    """True if the model continues by itself once it has the results of its calls."""
    acknowledges_updates: ClassVar[bool] = True
    """True if the provider answers `update`, with `Configured` or `Refused`."""
    tells_speech: ClassVar[bool] = False
    """True if the provider reports the caller's speech: `SpeechBegan`, `SpeechCeased`, `TurnTaken`."""
    takes_back: bool = False
    """True if a response that was asked for too early can be cancelled and removed from the model's memory: the audio
    after it becomes another part of the caller's turn. Needs `forget`; only without `server_turns`."""
    requests_stop: ClassVar[bool] = False
    """True if a request for a response stops the response in progress."""
    stops_at_speech: bool = False
    """True if `turn_begins` stops a response that the provider takes to be in progress."""
    holds_text: bool = False
    """True if the dialect holds a text that asks for no answer back until the next text that does."""
    announces_responses: ClassVar[bool] = True
    """True if `ResponseBegan` is a message of the provider. If False, the first piece of a response stands for it."""
    server_turns: bool = True
    """True if the provider finds the ends of the caller's turns in a stream of audio without gaps. If False, the
    pipeline finds them, and only the audio of turns is sent."""

    @property
    def speaks(self) -> bool:
        """True if the model answers with audio, False if it is set to answer with text only."""
        return True

    @property
    def gives_voice(self) -> bool:
        """True if the provider has shown that it gives audio. Some servers of others never do."""
        return True

    @property
    def may_be_silent(self) -> bool:
        """True if the model may end a spoken turn without an answer, and may speak without being asked."""
        return False

    @property
    def interruptible(self) -> bool:
        """True if the caller's speech interrupts the agent, False if the provider is set not to be interrupted."""
        return True

    # -- set-up ----------------------------------------------------------------------------------------------------

    def setup(self) -> list[str]:
        """Return the first messages on the open connection. One `Opened` event answers all of them."""
        return []

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Return the messages that change the configuration in place, None if the change needs a new connection."""
        raise NotImplementedError

    # -- the caller -----------------------------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Return the message with audio of the caller: mono s16le at the engine's input rate."""
        raise NotImplementedError

    def turn_begins(self) -> list[str]:
        """Return the messages that begin the caller's turn, before its audio. Only without `server_turns`."""
        return []

    def turn_ends(self) -> list[str]:
        """Return the messages that end the caller's turn. Only without `server_turns`."""
        return []

    def history(self, messages: Sequence[Message]) -> list[str]:
        """Return the messages that replay the log to a new session. They ask for no answer."""
        raise NotImplementedError

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Return the messages for a text of the caller ("user") or a note ("system").

        They ask for an answer if there is a `tag` for it.
        """
        raise NotImplementedError

    def image(self, image: UserImage) -> list[str]:
        """Return the messages for an image. They ask for no answer. Raises BadInput for an unknown type."""
        raise NotImplementedError

    def respond(self, tag: str, instructions: str = "", tool_choice: str = "") -> list[str]:
        """Return the messages that ask for a response now. `ResponseBegan` has the tag if the provider repeats it.

        `tool_choice` is that of `Respond`; a dialect whose engine cannot choose tools ignores it.
        """
        raise NotImplementedError

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """Return the messages with the result of a call that this connection asked for."""
        raise NotImplementedError

    # -- interruption ----------------------------------------------------------------------------------------------

    def cancel(self, response: str) -> list[str]:
        """Return the messages that stop a response; none if the provider stops by itself or cannot stop."""
        return []

    def give_up(self, response: str) -> list[str]:
        """Return the messages that stop a response of which nothing has come for long, and drop its later pieces."""
        return self.cancel(response)

    def truncate(self, item: str, heard_ms: int) -> list[str]:
        """Return the messages that cut an item to the first `heard_ms`; none if the provider cannot truncate."""
        return []

    def forget(self, item: str) -> list[str]:
        """Return the messages that remove an item from the model's memory; none if the provider cannot."""
        return []

    # -- the provider ---------------------------------------------------------------------------------------------

    def read(self, message: WireMessage) -> list[Event]:
        """Return the events in a message. Raises BadInput for a malformed one, which changes nothing."""
        raise NotImplementedError


class Configured(Event, frozen=True, kw_only=True):
    """The change with this `update_id` is in force as a whole."""

    update_id: str


class SpeechBegan(Event, frozen=True, kw_only=True):
    """The provider hears the caller speak, from `at_ms` of the audio that was sent on this connection."""

    item: str = ""
    at_ms: float = 0.0


class SpeechCeased(Event, frozen=True, kw_only=True):
    """The provider hears silence; the speech ended at `at_ms` of the audio that was sent on this connection."""

    item: str = ""
    at_ms: float = 0.0


class TurnTaken(Event, frozen=True, kw_only=True):
    """The caller's turn `item` is complete. If `answered`, the provider answers it by itself."""

    item: str
    answered: bool


class TurnTranscribed(Event, frozen=True, kw_only=True):
    """The transcript of the whole item up to now. A final "" means that it was not understood."""

    item: str = ""
    text: str
    final: bool = True
    language: str = ""


class ResponseBegan(Event, frozen=True, kw_only=True):
    """A response begins. `tag` is the tag of its request, "" if the provider began it by itself."""

    response: str
    tag: str = ""


class Said(Event, frozen=True, kw_only=True):
    """A piece of the response's text."""

    response: str
    text: str


class Voiced(Event, frozen=True, kw_only=True):
    """A piece of the response's audio: mono s16le at the output rate. `item` is the unit that can be truncated."""

    response: str
    item: str = ""
    pcm: bytes


class AudioComplete(Event, frozen=True, kw_only=True):
    """All audio of the response has come. Its `ResponseFinished` comes later, or never."""

    response: str


class Called(Event, frozen=True, kw_only=True):
    """The response asks for a tool. Comes before its `ResponseFinished`."""

    response: str
    call_id: str
    name: str
    arguments: dict[str, Any]


class CallsCancelled(Event, frozen=True, kw_only=True):
    """The provider no longer wants the results of these calls."""

    call_ids: tuple[str, ...]


class ResponseFinished(Event, frozen=True, kw_only=True):
    """The response is over. `usage` is its consumption, if the provider reports it; the ids in it are empty.

    `items` are the ids of its items in the model's memory, for a provider that can remove them.
    """

    response: str
    status: ResponseStatus = "completed"
    reason: str = ""
    usage: Usage | None = None
    items: tuple[str, ...] = ()


class Crossed(Event, frozen=True, kw_only=True):
    """The provider has not taken the request for a response with this tag, because it gives another one."""

    tag: str


class Consumed(Event, frozen=True, kw_only=True):
    """Consumption that is not reported with a response."""

    usage: Usage


class CutShort(Event, frozen=True, kw_only=True):
    """The provider has stopped its response because the caller spoke."""


class HandleGiven(Event, frozen=True, kw_only=True):
    """The handle that resumes the session, "" while it cannot be resumed."""

    handle: str


class Odd(Event, frozen=True, kw_only=True):
    """A field of a message did not fit, and the message was read without it."""

    problem: str


class Unknown(Event, frozen=True, kw_only=True):
    """A message of the unknown type `kind`. Messages of known types without use yield no event."""

    kind: str
