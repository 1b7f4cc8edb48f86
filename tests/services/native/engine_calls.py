"""`EngineCall`: a call over one native engine, whose caller writes."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from duologue.frames import ResponseEnded
from duologue.processors import Pipeline, Processor
from duologue.session import Session
from duologue.session.item import Item
from duologue.testing import BareCall, Probe

E = TypeVar("E", bound=Processor)
S = TypeVar("S")


class EngineCall(BareCall, Generic[E, S]):
    """A call over an engine and `more` processors behind it. It is cancelled at its end."""

    def __init__(self, engine: E, server: S, *more: Any) -> None:
        super().__init__(Session(Pipeline([engine, *more, Probe()])), ends=False)
        self.engine, self.server = engine, server

    async def asks(self, text: str) -> None:
        """The caller writes, and waits until the agent has answered."""
        ended = len(self.ended)
        await self.types(text)
        await self.hears(ended + 1)

    async def hears(self, answers: int) -> None:
        """The caller waits until the agent has given this many answers since the call began."""
        await self.until(lambda: len(self.ended) >= answers, f"{answers} answers", 60.0)

    @property
    def ended(self) -> list[ResponseEnded]:
        """The ends of all responses."""
        return self.came(ResponseEnded)

    def line(self, item: Item) -> str:
        """Only messages have lines."""
        return super().line(item) if item.kind == "message" else ""
