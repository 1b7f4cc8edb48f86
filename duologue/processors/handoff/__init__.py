"""The hand-off of a call from one agent, or one engine, to another."""
