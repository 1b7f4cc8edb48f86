"""The scenarios, one module for each point of the contract. Importing this package registers them."""

from . import (
    brackets,
    capabilities,
    configuration,
    connections,
    heard,
    interruptions,
    memory,
    running_tools,
    tools,
    transcripts,
    unfinished,
    usage,
)

__all__ = [
    "brackets",
    "capabilities",
    "configuration",
    "connections",
    "heard",
    "interruptions",
    "memory",
    "running_tools",
    "tools",
    "transcripts",
    "unfinished",
    "usage",
]
