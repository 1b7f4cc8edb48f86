"""The tools of a call that come from sources: opened with the call, and changed during it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from ...agents.agent import Agent
from ...agents.engine import Engine, plain_specs
from ...agents.flow import TOOL_NAME
from ...agents.sources import ToolSource, named_apart
from ...agents.tool import Tool
from ...errors import DeadlineExceeded, ServiceError, error_text
from ...frames import Configure
from ...session.boundary import ask_outside
from ...session.call_trace import boundary_of
from ...session.session import Session
from ..kernel.groups import active_members, leaves
from .listing import tools_of

log = logging.getLogger("duologue")


@runtime_checkable
class _HasAgents(Protocol):
    """A processor with all agents of the call, such as `Handoff`."""

    agents: Mapping[str, Agent]


class Sources:
    """The sources of one call: those that all agents share (`shared`), and those of each agent.

    `taken` are the names of the shared tools, which no tool of a source gets.
    """

    def __init__(self, session: Session, shared: Sequence[ToolSource], taken: Iterable[str]) -> None:
        self._session = session
        self._shared = tuple(shared)
        self._taken = frozenset({TOOL_NAME, *taken})
        self._given: set[str] = set()  # every name that an engine may have from here
        self.opened: tuple[ToolSource, ...] = ()
        """The sources that are open."""
        self._syncing = asyncio.Lock()

    def tools(self, agent: Agent | None) -> dict[str, Tool]:
        """Return the present tools for an agent by the names that its model has for them."""
        sources = (*(agent.sources if agent is not None else ()), *self._shared)
        if not sources:
            return {}
        own = (tool.name for tool in agent.toolset) if agent is not None else ()
        listed = ((source.name, self._listed(source)) for source in dict.fromkeys(sources))
        found = named_apart(listed, (*self._taken, *own))
        self._given.update(found)
        return found

    def _listed(self, source: ToolSource) -> Sequence[Tool]:
        """Return the tools that a source has. One that fails has none, and costs no call and no other tool."""
        try:
            tools = tools_of(source, self._session, boundary_of(self._session))
            if wrong := [tool for tool in tools if not isinstance(tool, Tool)]:
                raise TypeError(f"{wrong[0]!r} is not a Tool")
        except Exception as error:
            self._failed(source, error)
            return ()
        return tools

    async def open(self, changed: Callable[[], None]) -> None:
        """Open the sources of all agents, at the same time. `changed` is called when their tools have changed.

        A failure, or a source that takes longer than three quarters of `Deadlines.start_s`, is reported: the call goes
        on.
        """
        self.opened = tuple(dict.fromkeys((*self._shared, *_agents_sources(self._session))))
        await asyncio.gather(*(self._open(source, changed) for source in self.opened))

    async def _open(self, source: ToolSource, changed: Callable[[], None]) -> None:
        limit_s = 0.75 * self._session.deadlines.start_s
        try:
            async with asyncio.timeout(limit_s):
                entered = partial(self._changed, changed)
                await ask_outside("tool", f"source {source.name}", partial(source.open, self._session, entered))
        except TimeoutError:
            self._failed(source, DeadlineExceeded(f"it was not open after {limit_s:g} s"))
        except Exception as error:
            self._failed(source, error)

    def _changed(self, changed: Callable[[], None]) -> None:
        boundary = boundary_of(self._session)
        if boundary is None:
            changed()
        else:
            boundary.enter("tools changed", (), changed)

    def _failed(self, source: ToolSource, error: Exception) -> None:
        log.warning("session %s: the source of tools %r", self._session.id, source.name, exc_info=error)
        why = f"the source of tools {source.name!r}: {type(error).__name__}: {error_text(error)}"
        self._session.report(ServiceError(why), source.name)

    async def close(self) -> None:
        """Close the sources."""
        opened, self.opened = self.opened, ()
        boundary = boundary_of(self._session)
        if boundary is None or not boundary.replays:  # in a replay they were not open
            await asyncio.gather(*(source.close(self._session) for source in opened))

    async def sync(self) -> None:
        """Give the engine the present tools of the agent that has the call, if it has others.

        Raises ConfigurationError for tools that the engine refuses: it keeps those that it has.
        """
        if not self.opened:
            return
        async with self._syncing:
            engine = next((n for n in active_members(self._session.pipeline) if isinstance(n, Engine)), None)
            if engine is None:
                return
            present = [tool.spec for tool in self.tools(self._session.agent).values()]
            own = self._session.agent.toolset if self._session.agent is not None else ()
            fixed = {*self._taken, *(tool.name for tool in own)}
            kept = [spec for spec in engine.config.tools if spec.name in fixed or spec.name not in self._given]
            wanted = {spec.name: spec for spec in (*kept, *present)}
            if wanted != {spec.name: spec for spec in engine.config.tools}:
                await engine.configure(Configure(tools=plain_specs(wanted.values())))


def _agents_sources(session: Session) -> Iterator[ToolSource]:
    if session.agent is not None:
        yield from session.agent.sources
    for leaf in leaves(session.pipeline):
        if isinstance(leaf, _HasAgents):
            for agent in leaf.agents.values():
                yield from agent.sources
