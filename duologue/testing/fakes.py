"""`with_fakes`: replaces tools of agents by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..agents.agent import Agent
from ..agents.sources import ToolSource
from ..agents.tool import Tool
from ..errors import ConfigurationError


def with_fakes(
    agents: Sequence[Agent], shared: Iterable[Tool | ToolSource | Callable[..., Any]], fakes: Mapping[str, Any]
) -> tuple[list[Agent], list[Tool | ToolSource]]:
    """Return the agents, and the tools that all have, with other functions in the place of some.

    A model sees the same tools. Raises ConfigurationError for a name that no tool has, unless there is a source, whose
    tools are not known yet.
    """
    given = [each if isinstance(each, Tool | ToolSource) else Tool(each) for each in shared]
    own = [each for each in given if isinstance(each, Tool)]
    sources = [each for each in given if isinstance(each, ToolSource)]
    there = {tool.name for tool in own}.union(*({tool.name for tool in agent.toolset} for agent in agents))
    anything = bool(sources) or any(agent.sources for agent in agents)
    for name in fakes:
        if name not in there and not anything:
            raise ConfigurationError(
                f"there is no tool {name!r} to replace: there are {', '.join(sorted(there)) or 'none'}"
            )

    def replaced(tool: Tool) -> Tool:
        return tool.with_function(_stand_in(fakes[tool.name])) if tool.name in fakes else tool

    def all_of(tools: Iterable[Tool], sources: Iterable[ToolSource]) -> list[Tool | ToolSource]:
        return [*map(replaced, tools), *(_FakedSource(source, replaced) for source in sources)]

    if not fakes:
        return list(agents), given
    return [replace(agent, tools=all_of(agent.toolset, agent.sources)) for agent in agents], all_of(own, sources)


class _FakedSource(ToolSource):
    """A source, some of whose tools are replaced."""

    def __init__(self, source: ToolSource, replaced: Callable[[Tool], Tool]) -> None:
        self.name = source.name
        self._source, self._replaced = source, replaced

    def tools(self, session: Any) -> Sequence[Tool]:
        return [self._replaced(tool) for tool in self._source.tools(session)]

    async def open(self, session: Any, changed: Callable[[], None]) -> None:
        await self._source.open(session, changed)

    async def close(self, session: Any) -> None:
        await self._source.close(session)


def _stand_in(fake: Any) -> Callable[..., Any]:
    """Return a function that takes any arguments and returns the fake's result."""

    async def call(*given: Any, **arguments: Any) -> Any:
        if isinstance(fake, BaseException) or (isinstance(fake, type) and issubclass(fake, BaseException)):
            raise fake
        if not callable(fake):
            return fake
        if given:  # of a tool that was made from a schema: session, name, arguments
            arguments = {"session": given[0], **given[-1]}
        result = fake(**_taken(fake, arguments))
        return await result if inspect.isawaitable(result) else result

    return call


def _taken(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return arguments
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return arguments
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in arguments.items() if name in names}
