"""The processor that runs the tools of agents."""

from .tools import Tools, shared_tools

__all__ = ["Tools", "shared_tools"]
