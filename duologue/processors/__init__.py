"""Processors: what a pipeline is made of.

The names are imported when they are first used: the session is built on the kernel below this package, and `Processor`
on the session.
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
