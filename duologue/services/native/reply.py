"""`Ask`: a reply that is owed. `Reply`: one that has begun. `Stray`: one that nobody expects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from ...audio.pcm import WholeSamples
from ...frames.text import TextPieces
from ...processors.kernel.tasks import loop_time
from .audio_ring import Utterance
from .dialect import Called, Said, Voiced

ReplyOutcome = Literal["finished", "lost", "again", "crossed"]
"""`again`: the reply failed unheard, and is to be asked for once more. `crossed`: the provider has not taken the
request, because it began a reply of its own."""


@dataclass(slots=True, eq=False)
class Ask:
    """A reply that was asked for, or that the provider is expected to begin by itself; the latter has no `tag`."""

    tag: str
    turn: int
    utterance: Utterance | None = None
    """The latest of the caller's turns that it answers."""
    sent_at: float = 0.0
    """Loop time at which it was sent, or at which the provider began to owe the reply."""
    void: bool = False
    """True once the caller has interrupted: the reply is stopped if it begins."""
    answer: asyncio.Future[ReplyOutcome] | None = None
    """The outcome, for the task that asked."""
    said: bool = False
    """True if part of the reply was said before the connection was lost."""
    early: bool = False
    """True if it was asked for before the caller's turn had ended, and is not wanted any more."""
    last: bool = False
    """True if its turn has reached the limit of tool calls, and the model knows it."""
    moves: int = 0
    """`Turns.moves` at the request."""
    again: bool = False
    """True if the reply has failed before: it is not asked for another time."""
    wait_s: float = 0.0
    """Seconds that the provider wants to have passed before it is asked once more."""

    @property
    def awaited(self) -> bool:
        """True if the caller or the application waits for the reply."""
        return bool(self.tag) or self.answer is not None or self.utterance is not None

    def settle(self, outcome: ReplyOutcome) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(slots=True, eq=False)
class Reply:
    """A reply that has begun."""

    provider_id: str
    ask: Ask
    turn: int
    id: str = ""
    """The id of the response, "" if none was opened."""
    void: bool = False
    """True once its output is dropped."""
    said: bool = False
    """True once part of it has gone out."""
    given: bool = False
    """True once all its audio has come."""
    audio_bytes: int = 0
    """Bytes of audio that have gone out."""
    items: dict[str, int] = field(default_factory=dict)
    """Bytes of audio received for each of the provider's items, in order."""
    cut: set[str] = field(default_factory=set)
    """The items that were truncated."""
    calls: list[Called] = field(default_factory=list)
    text: TextPieces = field(default_factory=TextPieces)
    whole: WholeSamples = field(default_factory=WholeSamples)
    text_size: int = 0
    """Characters received."""
    began_at: float = field(default_factory=loop_time)
    brought: int = 0
    """Its size at the latest look: see `quiet_for_s`."""
    brought_at: float = field(default_factory=loop_time)

    def quiet_for_s(self, bytes_per_s: int) -> float:
        """Return the seconds since it was last seen to grow, and since its audio, played from its beginning, ended.

        Providers send audio faster than it is played, and some end a reply only when it must have been played.
        """
        size, now = sum(self.items.values()), loop_time()
        if (brought := size + self.text_size + len(self.calls) + self.given) != self.brought:
            self.brought, self.brought_at = brought, now
        return now - max(self.brought_at, self.began_at + size / bytes_per_s)


@dataclass(slots=True)
class Stray:
    """A reply that nobody expects, on a connection whose dialect takes each piece for the beginning of a reply.

    It may be a late piece of the reply before. It becomes a reply once it is long enough.
    """

    provider_id: str
    pieces: list[Said | Voiced] = field(default_factory=list)
    audio_bytes: int = 0
    began_at: float = field(default_factory=loop_time)
