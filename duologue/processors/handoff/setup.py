"""The configuration of an engine when a call begins."""

from __future__ import annotations

import msgspec

from ...agents.agent import configuration
from ...agents.engine import EngineConfig
from ...frames import Configure
from ...session.session import Session
from ..kernel.groups import leaves
from ..tools import shared_tools
from .handoff import Handoff


def first_configuration(session: Session, config: EngineConfig, voices: str) -> tuple[Configure | None, str]:
    """Return what the session's agent and the tools of every agent add to an engine's `config`, and the greeting.

    With a `Handoff` in the pipeline they are None and "": it sees to both. `voices` is the family of the engine's
    voices.
    """
    if any(isinstance(leaf, Handoff) for leaf in leaves(session.pipeline)):
        return None, ""
    shared, agent = shared_tools(session.pipeline), session.agent
    if agent is None:
        names = {tool.name for tool in config.tools}
        tools = (*config.tools, *(tool for tool in shared if tool.name not in names))
        return Configure(tools=tuple(msgspec.to_builtins(tool) for tool in tools)), ""
    if config.agent == agent.name:
        return None, ""
    return configuration(agent, shared, voices), agent.greeting
