"""Agents as definitions: what an agent is, what it can do, and what an engine must offer it. No session, no I/O."""
