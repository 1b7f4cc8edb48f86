"""`ToolContext`: what the function of a tool may know of its call, and tell while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..errors import IllegalState


class ToolContext:
    """One call of a tool. A parameter with this type receives it, and is not shown to the model.

        async def find_flights(to: str, context: ToolContext) -> list[str]:
            context.progress("found three flights, and still searching")

    Functions without this parameter, and those that they call, get it from `ToolContext.current()`.
    """

    __slots__ = ("_report", "agent", "arguments", "call_id", "name", "respond", "session", "turn")

    def __init__(
        self,
        session: Any = None,
        *,
        call_id: str = "",
        name: str = "",
        arguments: dict[str, Any] | None = None,
        agent: str = "",
        turn: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.session = session
        """The session of the call."""
        self.call_id = call_id
        """The id of the tool call, unique in the session."""
        self.name = name
        """The name of the tool."""
        self.arguments = {} if arguments is None else arguments
        """The arguments as the model gave them, after all hooks."""
        self.agent = agent
        """The name of the agent whose model asks for the call."""
        self.turn = turn
        """The turn in which the model asks for the call."""
        self.respond = True
        """Set it to False if the result wants no answer of the model. An error is answered all the same."""
        self._report = report

    @property
    def key(self) -> str:
        """The idempotency key of the call: unique among all sessions, and the same if the provider repeats the
        call.

        Give it to a service that takes idempotency keys: an order that is sent twice is made once.
        """
        return f"{getattr(self.session, 'id', '')}/{self.call_id}"

    def progress(self, text: str) -> None:
        """Report progress. Returns at once, and may be called from a worker thread.

        The model receives the progress of a tool that runs in the background, and speaks of it when the floor is free,
        unless the tool has `announce=False`. While the model waits for the result of a tool, the agent says the text
        itself, word for word. Of reports that follow each other within a second, the last one counts.
        """
        if self._report is not None:
            self._report(text)

    @staticmethod
    def current() -> ToolContext:
        """Return the context of the tool whose function is running here. Raises IllegalState outside a tool."""
        if (context := current_context.get()) is None:
            raise IllegalState("no tool is running here: ToolContext.current() belongs into the function of a tool")
        return context


current_context: ContextVar[ToolContext | None] = ContextVar("current_context", default=None)
"""The context of the tool that runs in this task or thread; None outside a tool."""
