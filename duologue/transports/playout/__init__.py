"""Playout: paces the agent's speech to the caller, for every transport."""
