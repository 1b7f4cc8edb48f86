"""Definitions: agents, their tools, the flow between them, and the contract of engines. No session, no I/O."""
