"""Processors: what frames travel through."""

from .kernel.groups import Parallel, Pipeline, Switch
from .kernel.processor import Processor, handles

__all__ = ["Parallel", "Pipeline", "Processor", "Switch", "handles"]
