"""Processors: the parts of a pipeline.

The names are imported at their first use, since the session imports the kernel of this package, and `Processor` imports
the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from .pipeline import Pipeline as Pipeline
    from .processor import Processor as Processor
    from .processor import handles as handles
    from .switch import Switch as Switch
    from .tee import Tee as Tee

_HOMES = {"pipeline": "Pipeline", "processor": "Processor handles", "switch": "Switch", "tee": "Tee"}

__all__, __getattr__ = lazily(__name__, _HOMES, globals())
