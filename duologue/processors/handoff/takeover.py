"""How a call goes to another configuration or another engine: as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from ...agents.engine import Engine, EngineConfig
from ...agents.tool import plain_specs
from ...errors import ConfigurationError
from ...frames import Configure, Frame, Say, ToolResult
from ..switch import Switch
from .find import find_engine

if TYPE_CHECKING:
    from ...session.session import Session

FirstWords = list[Say | ToolResult]


def engines(session: Session) -> tuple[dict[str, Engine], str]:
    """The engines of a call by name, and the name of the active one. A single engine has the name "".

    Raises ConfigurationError if there is none.
    """
    place = find_engine(session.pipeline)
    if place is None:
        raise ConfigurationError("there is no engine in the pipeline")
    return ({**place.branches}, place.active) if isinstance(place, Switch) else ({"": place}, "")


async def take_over(
    session: Session,
    name: str,
    configured: Configure,
    *,
    farewell: Callable[[], Awaitable[None]],
    commit: Callable[[float], FirstWords],
    tell: Callable[[Frame], Awaitable[None]],
    done: Callable[[], None],
) -> None:
    """Let the engine of this name have the call, configured like this.

    The engine is prepared while the old one still has the call. Then that one says its `farewell` and finishes what it
    has begun. `commit` is called in the moment of the change, with the session time at which the old one had finished;
    what it returns is the first that the new one is told, by `tell` if the engine stays. `done` is called after that:
    the old engine may still be closing then.

    Raises ConfigurationError with the reason if it does not come about. The old engine then goes on as before.
    """
    named, active = engines(session)
    engine = named[name]
    engine.check(configured)
    if name == active:
        await farewell()
        began = session.now()
        await engine.configure(configured)
        for frame in commit(began):
            await tell(frame)
        done()
        return
    place = find_engine(session.pipeline)
    assert isinstance(place, Switch)
    await _switch(session, place, name, configured, farewell, commit, done)


async def _switch(
    session: Session,
    place: Switch[Any],
    name: str,
    configured: Configure,
    farewell: Callable[[], Awaitable[None]],
    commit: Callable[[float], FirstWords],
    done: Callable[[], None],
) -> None:
    old: Engine = place.branches[place.active]
    new: Engine = place.branches[name]
    before, began, moved = new.config, 0.0, False

    async def finish() -> None:
        nonlocal began
        await farewell()
        await _drain(session, old)
        began = session.now()

    def move() -> None:
        nonlocal moved
        left = old.release()
        words = commit(began)
        new.adopt(
            msgspec.structs.replace(
                left,
                asked=(*(frame for frame in words if isinstance(frame, Say)), *left.asked),
                results=tuple(frame for frame in words if isinstance(frame, ToolResult)),
            )
        )
        moved = True
        done()

    await new.configure(configured)
    try:
        await place.select(name, drain=finish, move=move)
    except Exception as error:
        if moved:
            raise
        await new.configure(_restoring(before))
        raise ConfigurationError(f"{configured.agent} cannot take the call: {error}") from error


async def _drain(session: Session, old: Engine) -> None:
    """Let the old engine finish. What takes longer than a call's end may take is cut."""
    try:
        for limit_s in (session.deadlines.drain_s, session.deadlines.stop_s):
            with anyio.move_on_after(limit_s) as scope:
                await old.drain()
            if not scope.cancelled_caught:
                return
            session.interrupt("hand-off")
    except Exception:
        old.stay()
        raise


def _restoring(config: EngineConfig) -> Configure:
    return Configure(
        agent=config.agent,
        instructions=config.instructions,
        voice=config.voice,
        language=config.language,
        tools=plain_specs(config.tools),
    )
