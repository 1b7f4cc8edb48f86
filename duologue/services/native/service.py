"""`NativeService`: the half of a native engine that a vendor gives, and the answers that it owes."""

from __future__ import annotations

from ...agents.engine import Capabilities, EngineConfig
from ...frames import EndOfTurn, Respond, ToolCall, ToolResult
from ..answers import Answers
from ..remote.wire import Wire
from ..tool_schemas import check_tools
from .dialect import Dialect
from .replies import CONTINUE


class NativeService(Answers):
    """A vendor gives `capabilities`, `check_config`, `dial` (an open connection of its SDK) and `dialect` (the
    translator for one connection)."""

    model: str = ""
    extra: str = ""
    """The extra that brings the service."""
    replaceable: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of the model as data."""
        raise NotImplementedError

    def check_config(self, config: EngineConfig) -> None:
        """Raise ConfigurationError, with the reason, for a setting that the model does not take. Does no I/O."""

    def checked(self, config: EngineConfig) -> EngineConfig:
        """Return the configuration. Raises ConfigurationError for tools or settings that the model does not take."""
        check_tools(config.tools, self.extra)
        self.check_config(config)
        return config

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection, and resume the session of `handle` unless it is "". Raises ConnectionLost."""
        raise NotImplementedError

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """Return a translator for one connection."""
        raise NotImplementedError

    # -- answers that are owed -------------------------------------------------------------------------------------

    def owe_answer(self, by: str, at: float | None = None) -> None:
        """Ask for an answer to the caller's words as soon as the answers before it are given.

        `by` and `at` are those of an `EndOfTurn`; `at` is now by default.
        """
        self._unanswered = "words"
        self._queue(EndOfTurn(at=self.session.now() if at is None else at, by=by))

    def owe_continuation(self) -> None:
        """Have the model go on with an answer that broke off with its connection."""
        self._queue(Respond(instructions=CONTINUE))

    def settle(self, turn: int) -> None:
        """A reply of this turn is over; the turn is, too, unless more of it is to come."""
        self._settle(turn)

    def refuse_call(self, call: ToolCall, error: str) -> None:
        """Answer a tool call with an error without making it."""
        self._take_result(
            ToolResult(call_id=call.call_id, name=call.name, turn=call.turn, result={"error": error}, is_error=True)
        )
