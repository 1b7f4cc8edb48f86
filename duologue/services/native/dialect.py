"""`Dialect`: the pure translator between a provider's wire and what all providers have in common.

A dialect does no I/O, knows no session and starts nothing: it turns wishes into wire messages and wire messages into
`events`. One instance belongs to one connection and keeps what only that connection must know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ...agents.engine import EngineConfig
from ...frames import UserImage
from ..context import Message
from ..remote.dialect import ConnectionDialect
from ..remote.wire import WireMessage
from .events import Event


class Dialect(ConnectionDialect):
    """Translates for one connection. Everything that returns strings returns messages to send, in order."""

    answers_turns: ClassVar[bool] = True
    """Whether the model answers when the caller's turn has ended by `turn_ends`, without `respond`."""
    answers_results: ClassVar[bool] = False
    """Whether the model goes on by itself once it has the results of its calls."""
    acknowledges_updates: ClassVar[bool] = True
    """Whether `update` is answered by `Configured` or `Refused`."""
    tells_speech: ClassVar[bool] = False
    """Whether the provider tells when the caller speaks: `SpeechBegan`, `SpeechCeased`, `TurnTaken`."""
    holds_text: bool = False
    """Whether a text that asks for no answer waits for the next one that does."""
    server_turns: bool = True
    """Whether the provider decides, from a stream of audio without gaps, when the caller's turn is over. Else the
    framework does, and only the audio of turns is sent."""

    # -- set-up ----------------------------------------------------------------------------------------------------

    def setup(self) -> list[str]:
        """What is sent first on the open connection. The answer to all of it is one `Opened` event."""
        return []

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Change the configuration in place; None if that takes a new connection."""
        raise NotImplementedError

    # -- what the caller does --------------------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Audio of the caller: mono s16le at the engine's input rate."""
        raise NotImplementedError

    def turn_begins(self) -> list[str]:
        """Without `server_turns`: the caller's turn begins with the audio that follows."""
        return []

    def turn_ends(self) -> list[str]:
        """Without `server_turns`: the caller's turn is over."""
        return []

    def history(self, messages: Sequence[Message]) -> list[str]:
        """The conversation so far, for a session that knows nothing of it. Asks for no answer."""
        raise NotImplementedError

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Text of the caller ("user") or a note ("system"). Asks for an answer if there is a `tag` for it."""
        raise NotImplementedError

    def image(self, image: UserImage) -> list[str]:
        """An image of the caller's. Asks for no answer."""
        raise NotImplementedError

    def respond(self, tag: str, instructions: str = "") -> list[str]:
        """Ask for a response now. `Began` gives the tag back where the provider can."""
        raise NotImplementedError

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """The result of a call that this connection asked for."""
        raise NotImplementedError

    # -- interruption ----------------------------------------------------------------------------------------------

    def cancel(self, response: str) -> list[str]:
        """Stop a response that goes on. Nothing where the provider stops by itself, or not at all."""
        return []

    def truncate(self, item: str, heard_ms: int) -> list[str]:
        """The caller heard only so much of an item. Nothing where the provider has no such thing."""
        return []

    # -- what the provider tells -----------------------------------------------------------------------------------

    def read(self, message: WireMessage) -> list[Event]:
        """What a message means. Raises BadInput for a malformed one, which changes nothing."""
        raise NotImplementedError
