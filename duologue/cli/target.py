"""`module:object` on the command line: finds the object, and the agents in it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..agents.agent import Agent
from ..agents.flow import Flow, Stage
from ..errors import ConfigurationError


def find_object(target: str) -> tuple[ModuleType, Any]:
    """Return the module and the object of "module:object". Raises ConfigurationError for one that is not there."""
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f"{target!r} names nothing: write module:object")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the working directory
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"there is no module {error.name!r}") from error
    found = getattr(module, name, None)
    if found is None:
        raise ConfigurationError(f"module {module_name!r} has no {name!r}")
    return module, found


@dataclass(frozen=True, slots=True)
class AgentsFound:
    """The agents of a module, with its `RULES` and its `stages` if it has them."""

    module: ModuleType
    agents: list[Agent]
    flow: Flow | Iterable[Stage] | None
    rules: Any


def find_agents(target: str) -> AgentsFound:
    """Return the agents at "module:object": an `Agent`, a list of them, or a function without parameters that returns
    either. Raises ConfigurationError for anything else.
    """
    module, found = find_object(target)
    made = found() if callable(found) and not _needs_arguments(found) else found
    agents = [made] if isinstance(made, Agent) else made
    if not isinstance(agents, list | tuple) or not agents or not all(isinstance(agent, Agent) for agent in agents):
        raise ConfigurationError(f"{target} is {type(made).__name__}: an agent, or a list of agents, is needed")
    stages = getattr(module, "stages", None)
    return AgentsFound(module, list(agents), stages() if callable(stages) else stages, getattr(module, "RULES", None))


def _needs_arguments(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
