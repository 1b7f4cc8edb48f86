"""The bottom of a pipeline: what a session does with the frames that no processor downstream handles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import ToolError
from ..frames import BotText, End, Frame, ResponseEnded, ResponseStarted, ToolCall, ToolResult
from ..processors.kernel.host import Target
from ..processors.kernel.routes import drop
from .audio import CallAudio
from .ledger import Ledger


class Bottom:
    """Ends the call at an `End`, settles responses where there is no playout, and answers stray tool calls."""

    def __init__(
        self,
        audio: CallAudio,
        ledger: Ledger,
        *,
        finish: Callable[[str], None],
        report: Callable[[Exception, str], None],
        send_up: Callable[[Frame], Awaitable[None]],
    ) -> None:
        self._audio = audio
        self._ledger = ledger
        self._finish = finish
        self._report = report
        self._send_up = send_up

    def resolve(self, frame_type: type[Frame]) -> Target:
        """Return what takes frames of this type."""
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
        self._finish(frame.reason)

    async def _take(self, frame: ResponseStarted) -> None:
        # Without a TTS the text that leaves the pipeline is the agent's.
        self._ledger.take(frame.response_id, self)

    async def _show(self, frame: BotText) -> None:
        self._ledger.speak(frame.response_id, frame.text, self)

    async def _shown(self, frame: ResponseEnded) -> None:
        # Without a playout nothing is heard: a response that leaves the pipeline was said.
        if not self._audio.has_playout:
            self._ledger.all_given(frame)
            self._ledger.finish(frame.response_id, interrupted=frame.status == "interrupted")

    async def _refuse(self, call: ToolCall) -> None:
        # Without a result the agent would owe the caller an answer for ever.
        error = f"the tool {call.name!r} cannot be called: nobody in the pipeline runs tools"
        self._report(ToolError(error), "Session")
        await self._send_up(
            ToolResult(call_id=call.call_id, name=call.name, turn=call.turn, result={"error": error}, is_error=True)
        )
