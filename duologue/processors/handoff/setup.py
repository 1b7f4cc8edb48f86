"""The first configuration of an engine: that of the session's agent, with the tools that every agent has."""

from __future__ import annotations

from ...agents.agent import configuration
from ...agents.engine import EngineConfig
from ...agents.tool import plain_specs
from ...frames import Configure
from ...session.session import Session
from ..kernel.groups import leaves
from ..tools import shared_tools
from .handoff import Handoff


def first_configuration(session: Session, config: EngineConfig, voices: str) -> tuple[Configure | None, str]:
    """Return the change by which the session's agent, and the tools that every agent has, extend an engine's own
    configuration, and the greeting that is to be said.

    Returns None and "" if a `Handoff` sees to both. `voices` is the family of the engine's voices.
    """
    if any(isinstance(leaf, Handoff) for leaf in leaves(session.pipeline)):
        return None, ""
    shared, agent = shared_tools(session.pipeline), session.agent
    if agent is None:
        names = {tool.name for tool in config.tools}
        tools = (*config.tools, *(tool for tool in shared if tool.name not in names))
        return Configure(tools=plain_specs(tools)), ""
    if config.agent == agent.name:
        return None, ""
    return configuration(agent, shared, voices), agent.greeting
