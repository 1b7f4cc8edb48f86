"""What an engine is set up with when a call begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...agents.agent import configuration
from ...agents.engine import EngineConfig
from ...frames import Configure
from ..kernel.groups import leaves
from ..tools import shared_tools
from .handoff import Handoff

if TYPE_CHECKING:
    from ...session.session import Session


def first_configuration(session: Session, config: EngineConfig, voices: str) -> tuple[Configure | None, str]:
    """What the session's agent, and the tools that every agent has, add to an engine's own configuration.

    Also the greeting that is to be said. Nothing of both if a `Handoff` sees to them. `voices` is the family of the
    engine's voices.
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
