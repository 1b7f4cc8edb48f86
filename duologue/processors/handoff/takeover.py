"""`Takeover`: how a call goes to another configuration or another engine, as a whole or not at all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol

import anyio
import msgspec

from ...agents.engine import Engine, EngineConfig
from ...agents.tool import plain_specs
from ...errors import ConfigurationError
from ...frames import Configure, Frame, Say, ToolResult
from ...session.life import State
from ...session.session import Session
from ..kernel.tasks import stray, to_the_end
from ..switch import BranchChange, Switch
from .find import find_engine

FirstWords = list[Say | ToolResult]


class Script(Protocol):
    """What is said and noted at a hand-off."""

    async def farewell(self) -> None:
        """Have the old agent say its last words."""

    def commit(self, began: float) -> FirstWords:
        """The new agent has the call, and the old one had finished at this session time. Must not wait.

        Returns the frames that the new engine gets first.
        """

    async def tell(self, frame: Frame) -> None:
        """Give a frame to the engine, where it stays the same."""


def engines(session: Session) -> tuple[dict[str, Engine], str]:
    """Return the engines of a call by name, and the name of the active one. A single engine has the name "".

    Raises ConfigurationError if there is none.
    """
    place = find_engine(session.pipeline)
    if place is None:
        raise ConfigurationError("there is no engine in the pipeline")
    return ({**place.branches}, place.active) if isinstance(place, Switch) else ({"": place}, "")


class Takeover:
    """Lets an engine have the call, with another configuration. `run` takes these steps, in this order:

    1. `prepare`: the engine is configured and opened, while the old one still has the call.
    2. `farewell`: the old agent says its last words.
    3. `drain`: the old engine finishes what it has begun.
    4. `move`: in one step of the event loop, the old engine releases what it has not dealt with, the change is
       committed, and the new engine adopts it. Before this step nothing has changed for the caller; after it
       nothing goes back.
    5. `finish`: the engine without the call is closed. That is the old one; after a failure it is the new one, which
       also gets its former configuration back.

    If the engine stays the same it only gets the new configuration, in `move`. Raises ConfigurationError if there is
    no engine of this name, and if it refuses the configuration.
    """

    def __init__(self, session: Session, name: str, configured: Configure, script: Script, owner: str) -> None:
        named, active = engines(session)
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """"" once the call has moved, or the reason once a failure has been undone. It always comes."""
        self._session = session
        self._name = name
        self._configured = configured
        self._script = script
        self._owner = owner
        self._old, self._new = named[active], named[name]
        self._before: EngineConfig | None = None  # the new engine's configuration, once that is replaced
        self._change: BranchChange | None = None
        self._opened = AsyncExitStack()
        self._began = 0.0
        self._new.check(configured)

    async def run(self) -> None:
        """Take all steps. Errors are reported, and the first is the `outcome`."""
        problem: Exception | None = None
        try:
            await self.prepare()
            await self.farewell()
            await self.drain()
            await self.move()
            self._settle("")
        except Exception as error:
            problem = self._explained(error)
        except asyncio.CancelledError as error:
            problem = self._explained(stray(error))
        finally:
            try:
                await self.finish()
            except Exception as error:
                problem = problem or error
            if problem is not None:
                self._session.report(problem, self._owner)
                self._settle(str(problem) or type(problem).__name__)

    def ended(self, task: asyncio.Task[None]) -> None:
        """The task of `run` has ended: there is an outcome even if it was cancelled."""
        self._settle("the hand-off was cancelled")

    def _settle(self, outcome: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _explained(self, error: Exception) -> Exception:
        if self._before is None or self.outcome.done():
            return error
        explained = ConfigurationError(f"{self._configured.agent} cannot take the call: {error}")
        explained.__cause__ = error
        return explained

    async def prepare(self) -> None:
        """Configure and open the new engine."""
        if self._new is self._old:
            return
        place = find_engine(self._session.pipeline)
        assert isinstance(place, Switch)
        before = self._new.config
        await self._new.configure(self._configured)
        self._before = before
        self._change = await self._opened.enter_async_context(place.change(self._name))
        if not self._change.needed:
            raise ConfigurationError(f"the engine {self._name!r} has become active meanwhile")

    async def farewell(self) -> None:
        """Let the old agent say its last words."""
        await self._script.farewell()

    async def drain(self) -> None:
        """Let the old engine finish. What takes longer than the end of a call may take is cut."""
        if self._change is not None:
            try:
                deadlines = self._session.deadlines
                for limit_s in (deadlines.drain_s, deadlines.stop_s):
                    with anyio.move_on_after(limit_s) as scope:
                        await self._old.drain()
                    if not scope.cancelled_caught:
                        break
                    self._session.interrupt("hand-off")
            except BaseException:
                self._old.stay()
                raise
        self._began = self._session.now()

    async def move(self) -> None:
        """Give the call to the new engine, or the new configuration to the one that stays."""
        if self._change is None:
            await self._new.configure(self._configured)
            for frame in self._script.commit(self._began):
                await self._script.tell(frame)
            return
        with self._change.step():
            left = self._old.release()
            words = self._script.commit(self._began)
            self._new.adopt(
                msgspec.structs.replace(
                    left,
                    asked=(*(frame for frame in words if isinstance(frame, Say)), *left.asked),
                    results=tuple(frame for frame in words if isinstance(frame, ToolResult)),
                )
            )

    async def finish(self) -> None:
        """Close the engine that does not have the call. After a failure, undo the preparation."""
        await self._opened.aclose()
        failed = self._before is not None and not self.outcome.done()
        if failed and self._session.state in (State.CONNECTING, State.ACTIVE):
            assert self._before is not None
            await to_the_end(self._new.configure(_restoring(self._before)))


def _restoring(config: EngineConfig) -> Configure:
    return Configure(
        agent=config.agent,
        instructions=config.instructions,
        voice=config.voice,
        language=config.language,
        tools=plain_specs(config.tools),
    )
