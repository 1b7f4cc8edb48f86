"""`Pipeline`: processors in a row."""

from __future__ import annotations

from .kernel.groups import RowGroup
from .processor import Processor


class Pipeline(Processor, RowGroup):
    """Processors in a row. Downstream is from the first to the last.

    Raises ConfigurationError, with the names, for an object that is not a processor, a processor that is used twice, a
    cycle, and a handler with a wrong signature.
    """
