"""MCP: the tools, prompts and resources of servers, for agents."""

from __future__ import annotations

from .source import MCPTools

__all__ = ["MCPTools"]
