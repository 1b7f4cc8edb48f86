"""The processor that runs the tools of agents."""

from .tools import Tools, more_tools, shared_tools

__all__ = ["Tools", "more_tools", "shared_tools"]
