"""`Bottom`: the end of a pipeline."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from ..errors import ToolError
from ..frames import BotText, End, Frame, ResponseEnded, ResponseStarted, ToolCall
from ..processors.kernel.groups import LinkedPipeline
from ..processors.kernel.host import Host, Target
from ..processors.kernel.lane import DONE
from ..processors.kernel.node import drop
from .life import Life
from .tool_calls import call_refused


class _CallHost(Host, Protocol):
    """The host of a call."""

    @property
    def life(self) -> Life:
        """The states of the call."""

    @property
    def linked(self) -> LinkedPipeline:
        """The pipeline."""


class Bottom:
    """The end of the pipeline: takes the frames that no processor downstream handles.

    It ends the call at an `End`, settles responses in a pipeline without a playout, and answers stray tool calls.
    """

    def __init__(self, host: _CallHost) -> None:
        self._host = host

    def resolve(self, frame_type: type[Frame]) -> Target:
        """Return the target that takes frames of this type."""
        if issubclass(frame_type, End):
            return self._drained
        if issubclass(frame_type, ResponseEnded):
            return self._shown
        if issubclass(frame_type, ResponseStarted):
            return self._take
        if issubclass(frame_type, BotText):
            return self._show
        if issubclass(frame_type, ToolCall):
            return self._refuse
        return drop

    async def _drained(self, frame: End) -> None:
        self._host.life.finish(frame.reason)

    def _take(self, frame: ResponseStarted) -> Awaitable[None]:
        # Without a TTS, the text that leaves the pipeline is the agent's.
        self._host.session.ledger.take(frame.response_id, self)
        return DONE

    def _show(self, frame: BotText) -> Awaitable[None]:
        self._host.session.ledger.speak(frame.response_id, frame.text, self)
        return DONE

    async def _shown(self, frame: ResponseEnded) -> None:
        # Without a playout, a response counts as said once it leaves the pipeline.
        session = self._host.session
        if not session.audio.has_playout:
            session.ledger.all_given(frame)
            session.ledger.finish(frame.response_id, interrupted=frame.status == "interrupted")

    async def _refuse(self, call: ToolCall) -> None:
        # Without a result, the agent would owe the caller an answer for ever.
        error = f"the tool {call.name!r} cannot be called: nobody in the pipeline runs tools"
        self._host.report(ToolError(error), "Session")
        await self._host.linked.send_up(call_refused(call, error))
