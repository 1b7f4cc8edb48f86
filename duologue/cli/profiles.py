"""`--profile` and `--skill`: JSON files that change the agents of a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import isroutine
from types import ModuleType

from ..agents.agent import Agent
from ..agents.profile import Profile, Skill
from ..agents.tool import Tool
from ..errors import ConfigurationError
from .target import AgentsFound


def with_files(found: AgentsFound, profiles: Sequence[str], skills: Sequence[str]) -> AgentsFound:
    """Return the agents with the profiles and skills in JSON files, in this order.

    Each is the path of a file, which is for the first agent, or "AGENT=path". The tools that a skill names are those of
    the agents, and the functions and tools of their module.

    Raises BadInput that names the file and the field at fault, ConfigurationError for an agent or a tool that is not
    there.
    """
    agents = {agent.name: agent for agent in found.agents}
    for name, path in _placed(profiles, agents):
        agents[name] = _applied(agents[name], path, Profile.load(path))
    given = _skill_tools(found.module, found.agents) if skills else {}
    for name, path in _placed(skills, agents):
        own = {tool.name: tool for tool in agents[name].toolset}
        agents[name] = _applied(agents[name], path, skill=Skill.load(path, tools=(given | own).values()))
    return replace(found, agents=list(agents.values()))


def _placed(options: Iterable[str], agents: Mapping[str, Agent]) -> list[tuple[str, str]]:
    """Return the agent and the path of each option."""
    placed = []
    for option in options:
        agent, equals, path = option.partition("=")
        if equals and "/" not in agent and agent not in agents:
            raise ConfigurationError(f"{option!r} is for the agent {agent!r}: there are {', '.join(agents)}")
        placed.append((agent, path) if agent in agents and equals else (next(iter(agents)), option))
    return placed


def _applied(agent: Agent, path: str, profile: Profile | None = None, skill: Skill | None = None) -> Agent:
    try:
        return agent.with_(profile, skills=[skill] if skill is not None else ())
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _skill_tools(module: ModuleType, agents: Iterable[Agent]) -> dict[str, Tool]:
    """Return the tools that a skill may name: those of a module's agents come before those of the module."""
    found: dict[str, Tool] = {}
    for name, value in vars(module).items():
        if isinstance(value, Tool):
            found[value.name] = value
        elif isroutine(value) and not name.startswith("_"):
            try:
                found.setdefault(name, Tool(value, name=name))
            except ConfigurationError:
                continue  # not every function of a module is a tool
    return found | {tool.name: tool for agent in agents for tool in agent.toolset}
