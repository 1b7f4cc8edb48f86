"""The scenarios, by point of the contract. They register themselves when this is imported."""

from . import (
    brackets,
    capabilities,
    configuration,
    connections,
    heard,
    interruptions,
    memory,
    tools,
    transcripts,
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
    "tools",
    "transcripts",
    "usage",
]
