"""What frames travel through."""

from .base import Processor, handles
from .pipeline import Parallel, Pipeline, Switch

__all__ = ["Parallel", "Pipeline", "Processor", "Switch", "handles"]
