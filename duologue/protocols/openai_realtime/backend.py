"""`Backend`: the model behind a Realtime session."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Protocol

from .response import ServerItem, ServerResponse


class Backend(Protocol):
    """The model behind a session, and its turn detection. The methods must not block."""

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Apply the settings in `session`, of which those named in `changed` were given. Raises Refusal.

        May alter `session`, which the client receives afterwards.
        """

    def audio(self, pcm: bytes, rate: int) -> None:
        """Take audio of the caller: mono s16le at `rate` Hz."""

    def cleared(self) -> None:
        """Discard the audio that was not committed."""

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Take `item` for a turn of the caller. May raise Refusal.

        The turn is the audio from `start_ms` to `end_ms`, counted from the start of all the caller's audio.
        """

    def created(self, item: ServerItem, place: int) -> None:
        """Take an item that the client adds at this place among the conversation's items. May raise Refusal."""

    def deleted(self, item: ServerItem) -> None:
        """Delete an item for the client. May raise Refusal."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Forget the part of an item after `audio_end_ms`, which the caller did not hear."""

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raise Refusal if a response cannot have the settings that the client's `response.create` asks for.

        Its `input` is a list of items. May remove settings from `asked`: the response then has those of the session.
        """

    def respond(self, response: ServerResponse) -> None:
        """Fill a response that has begun."""

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """Stop filling a response. Returns its usage, as `finish` takes it."""
