"""`NativeAnswers`: how a native engine answers, and hands over the answers that it has not given."""

from __future__ import annotations

import msgspec

from ...agents.engine import EngineConfig, Handover
from ...frames import End, EndOfTurn, Input, Interrupted, Say, ToolResult
from ...processors.processor import handles
from ..context import SAY
from .parts import Parts
from .service import NativeService


class NativeAnswers(NativeService):
    """Asks the provider for the answers that are due, one after the other."""

    _parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """The parts of the engine, from `open` on."""
        assert self._parts is not None
        return self._parts

    @handles(End)
    async def end(self, frame: End) -> None:
        """The call ends once the responses that were asked for have been given."""
        await super().end(frame)
        await self.parts.until_idle()
        await self.parts.outlet.drain()

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Stop the provider, and have it forget what the caller has not heard."""
        super().interrupted(signal)
        if self._parts is not None:
            self._parts.interrupt(signal)

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        self._unanswered = ""
        replies = self.parts.replies
        with self.session.floor.scope(turn):
            if not await (replies.go_on(turn) if isinstance(asked, ToolResult) else replies.ask(turn, extra)):
                self._unanswered = "words"
                self._kept.append(asked)  # for the engine that takes the call over

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        with self.session.floor.scope(turn):
            if not await self.parts.replies.ask(turn, SAY + text):
                self._kept.append(Say(text=text))

    async def _not_understood(self, config: EngineConfig) -> int:
        self._unanswered = ""
        return 0

    def _take_result(self, frame: ToolResult) -> None:
        super()._take_result(frame)
        self.parts.give_result(frame)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Let out what has begun and what is to be said; begin nothing else, and send nothing of the caller's."""
        self.parts.leave(True)
        await super().drain()
        await self.parts.finish()

    def stay(self) -> None:
        """The change does not come about: go on."""
        super().stay()
        self.parts.leave(False)

    def release(self) -> Handover:
        """Give away the work that is not done."""
        left = super().release()
        speech, words, over = self.parts.release()
        asked = tuple(frame for frame in left.asked if not (over and isinstance(frame, EndOfTurn)))
        if words and not asked:
            asked = (EndOfTurn(at=self.session.now(), by="hand-off"),)
        return msgspec.structs.replace(
            left, speech=speech, asked=asked, unanswered="words" if words else left.unanswered
        )

    def adopt(self, left: Handover) -> None:
        """Take over the work that another engine has released, ahead of all that comes."""
        self.parts.adopt(left.speech)
        for result in left.results:  # into the log, from which the provider learns of them with the rest
            super()._take_result(result)
        super().adopt(msgspec.structs.replace(left, results=()))
        self.parts.activate()
