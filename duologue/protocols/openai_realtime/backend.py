"""`Backend`: the model behind a Realtime session."""

from __future__ import annotations

from typing import Any, Protocol

from .response import ServerItem, ServerResponse


class Backend(Protocol):
    """The model behind a session, and the ears in front of it. No method may wait."""

    def configure(self, session: dict[str, Any], change: dict[str, Any]) -> None:
        """Take the settings in, of which `change` is new. Raises Refusal for ones that cannot be applied.

        May alter `session`: the client receives it as it is afterwards.
        """

    def audio(self, pcm: bytes, rate: int) -> None:
        """Take audio of the caller: mono s16le at `rate` Hz."""

    def cleared(self) -> None:
        """The audio that has not been committed is void."""

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """This part of all the caller's audio, counted from its beginning, is the turn `item`. May raise Refusal."""

    def created(self, item: ServerItem, at_end: bool) -> None:
        """The client adds an item, at the end of the conversation or elsewhere. May raise Refusal."""

    def deleted(self, item: ServerItem) -> None:
        """The client deletes an item. May raise Refusal."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """The caller heard this item to `audio_end_ms`."""

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raise Refusal if a response cannot be as the client's `response.create` asks."""

    def respond(self, response: ServerResponse) -> None:
        """A response has begun: fill it."""

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """Stop filling a response. Returns its usage, as `finish` takes it."""
