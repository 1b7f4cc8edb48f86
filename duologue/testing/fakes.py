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

    A model sees the same tools. Raises ConfigurationError for a name that no tool has.
    """
    own = [each if isinstance(each, Tool | ToolSource) else Tool(each) for each in shared]
    there = {tool.name for tool in own if isinstance(tool, Tool)}
    there.update(tool.name for agent in agents for tool in agent.toolset)
    for name in fakes:
        if name not in there:
            raise ConfigurationError(
                f"there is no tool {name!r} to replace: there are {', '.join(sorted(there)) or 'none'}"
            )

    def replaced(tool: Tool | ToolSource) -> Tool | ToolSource:
        if isinstance(tool, Tool) and tool.name in fakes:
            return tool.with_function(_stand_in(fakes[tool.name]))
        return tool

    if not fakes:
        return list(agents), own
    faked = [replace(agent, tools=(*map(replaced, agent.toolset), *agent.sources)) for agent in agents]
    return faked, list(map(replaced, own))


def _stand_in(fake: Any) -> Callable[..., Any]:
    """Return a function with any arguments that gives the fake's result."""

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
