"""`OneTurn`: the mode "one_turn". Once the caller has heard an answer, the microphone is closed until `Session.arm`."""

from __future__ import annotations

import asyncio

from ..agents.engine import Engine, Resting
from ..errors import IllegalState
from ..processors.kernel.groups import active_members
from .gate import AudioGate, GatedSession
from .item import Item


class OneTurn(AudioGate):
    """Closes the microphone once an answer to the caller has been heard to its end, with all that it asked of tools.

    An engine whose provider charges for the time of the connection disconnects then, as far as it can (`Resting`). It
    connects again for `arm`, and for an answer to what the caller types meanwhile.
    """

    def __init__(self, session: GatedSession) -> None:
        super().__init__(session, open=True)
        self.connecting = False
        """True while an engine connects again for `arm`."""
        self._question, self._turn = "", 0  # the id of the caller's latest message, and its turn
        self._answered = self._due = False
        self._rests: asyncio.Task[None] | None = None
        self._wakes: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        session.conversation.listen(self._logged, self._removed)
        session.floor.on_life(self._look)

    # -- the exchange ----------------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if item.kind != "message":
            return
        if item.role == "caller":
            if item.id != self._question and not (item.author or item.backchannel or item.name == "image"):
                self._question, self._turn, self._answered = item.id, item.turn, False
        elif item.role == "agent" and self._question and item.status != "in_progress" and item.turn >= self._turn:
            self._answered = item.status == "complete"

    def _removed(self, item: Item) -> None:
        if item.id == self._question:
            self._question = ""

    def _look(self) -> None:
        """Look at the exchange in a moment, when all that follows from a sign of life has happened."""
        if not self._due and (self._answered or not self.open):
            self._due = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._due = False
        session = self.session
        if not session.host.life.live or session.draining or not self._over:
            return
        if self.open:
            if not self._answered:
                return
            self.open = self._answered = False
            self._question = ""
        if self._rests is None and any(not engine.resting for engine in self._by_the_clock()):
            self._rests = session.host.start_task(session.pipeline, self._rest())
        session.host.life.settle("answered")

    @property
    def _over(self) -> bool:
        """True while nobody speaks, and the agent owes nothing."""
        floor, calls = self.session.floor, self.session.conversation.calls
        return floor.owner == "caller" and not (floor.caller_speaking or calls.open() or calls.late())

    # -- the connection --------------------------------------------------------------------------------------------

    def _by_the_clock(self) -> list[Resting]:
        """Return the active engines whose provider charges for the time of the connection."""
        return [
            node
            for node in active_members(self.session.pipeline)
            if isinstance(node, Engine) and isinstance(node, Resting) and node.capabilities.billing == "clock"
        ]

    async def _rest(self) -> None:
        try:
            for engine in self._by_the_clock():
                await engine.rest()
        finally:
            self._rests = None

    async def arm(self) -> None:
        """Open the microphone for another exchange. Returns once the engine is connected."""
        host = self.session.host
        host.require_running("arm the microphone")
        if not self.open:
            self.open, self._answered, self._question, self._failure = True, False, "", None
            if self._rests is not None:
                self._rests.cancel()
            self.connecting = any(engine.resting for engine in self._by_the_clock())
            if self.connecting:
                self._wakes = host.start_task(self.session.pipeline, self._wake())
            host.life.settle("armed")
        if self._wakes is None:
            return
        await asyncio.wait({self._wakes})
        if self._failure is not None:
            raise self._failure
        if not host.life.live:
            raise IllegalState("the call has ended before the engine was connected")

    async def _wake(self) -> None:
        try:
            for engine in self._by_the_clock():
                await engine.wake()
        except Exception as error:
            self._failure, self.open = error, False
        finally:
            self.connecting, self._wakes = False, None
            self.session.host.life.settle("armed" if self.open else str(self._failure))
