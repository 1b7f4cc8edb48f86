"""`Asks`: the replies that a provider was asked for, or is expected to begin by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from .audio_ring import Utterance
from .turns import Turns

UNWANTED_S = 5.0
"""Seconds within which a reply that was interrupted before it began is still recognised, and discarded."""

ReplyOutcome = Literal["finished", "lost", "again"]


@dataclass(slots=True, eq=False)
class Ask:
    """A reply that was asked for, or that the provider is expected to begin by itself: then it has no `tag`."""

    tag: str
    turn: int
    utterance: Utterance | None = None
    """The latest of the caller's turns that it answers."""
    sent_at: float = 0.0
    """Loop time."""
    void: bool = False
    """The caller has interrupted: if it begins, it is stopped."""
    answer: asyncio.Future[ReplyOutcome] | None = None
    """The outcome, for the task that asked."""
    said: bool = False
    """Something was said before the connection was lost."""

    def settle(self, outcome: ReplyOutcome) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)


class Asks:
    """The replies that are waited for, oldest first. A provider begins those that were not asked for in their order."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._open: list[Ask] = []
        self._tags = 0
        self._unwanted: Ask | None = None  # interrupted before the provider has begun it by itself

    @property
    def any_open(self) -> bool:
        """True while a reply is waited for."""
        return bool(self._open)

    @property
    def waits_since(self) -> float | None:
        """Loop time since which a reply is waited for, None if there is none."""
        return min((ask.sent_at for ask in self._open), default=None)

    def expect(self, turn: int, utterance: Utterance | None) -> None:
        """The provider will answer the caller's turn by itself."""
        self._unwanted = None
        self._open.append(Ask("", turn, utterance, sent_at=_loop_time()))

    def expect_none(self) -> None:
        """The caller goes on to speak: the provider will not answer the part of the turn that it has heard."""
        self._unwanted = None
        self._open = [ask for ask in self._open if ask.tag]

    def add(self, turn: int, *, tagged: bool) -> Ask:
        """Wait for a reply to the caller's latest turn, and for its outcome. Without a tag the provider begins it."""
        answer: asyncio.Future[ReplyOutcome] = asyncio.get_running_loop().create_future()
        ask = Ask("", turn, self._turns.latest_taken, sent_at=_loop_time(), answer=answer)
        if tagged:
            self._tags += 1
            ask.tag = f"ask_{self._tags}"
        self._open.append(ask)
        return ask

    def take(self, tag: str) -> Ask | None:
        """Return the ask for a reply that begins, None for one that nobody has expected."""
        ask = next((ask for ask in self._open if ask.tag == tag), None)
        if ask is None:
            ask, self._unwanted = self._unwanted, None
            return ask if ask is not None and _loop_time() - ask.sent_at < UNWANTED_S else None
        self._open.remove(ask)
        return ask

    def refuse(self, tag: str = "") -> bool:
        """The provider refuses the reply with this tag, or without one all that have a tag. Returns whether any was."""
        refused = [ask for ask in self._open if ask.tag and ask.tag == (tag or ask.tag)]
        for ask in refused:
            self._open.remove(ask)
            ask.settle("again")
        return bool(refused)

    def interrupt(self, turn: int) -> None:
        """The replies of all turns up to this one are void, should they begin."""
        for ask in [ask for ask in self._open if ask.turn <= turn]:
            ask.void = True
            if not ask.tag:
                self._open.remove(ask)
                self.expect_unwanted(ask)

    def expect_unwanted(self, ask: Ask) -> None:
        """The provider may begin a reply that is void. If the caller has spoken since, the next reply is to that."""
        if all(utterance is ask.utterance for utterance in self._turns.waiting):
            ask.sent_at = _loop_time()
            self._unwanted = ask

    def abandon(self) -> list[Ask]:
        """The connection is gone. Returns the asks that the provider still owed by itself."""
        owed = [ask for ask in self._open if ask.answer is None and not ask.void]
        for ask in self._open:
            ask.settle("lost")
        self._open.clear()
        self._unwanted = None
        return owed


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
