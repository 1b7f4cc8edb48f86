"""Processors: what a pipeline is made of.

The names are imported when they are first used: the kernel below this package is part of what the session, and so
`Processor` itself, is made of.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .processor import Processor, handles
    from .switch import Switch
    from .tee import Tee

__all__ = ["Pipeline", "Processor", "Switch", "Tee", "handles"]

_MODULES = {
    "Pipeline": ".pipeline",
    "Processor": ".processor",
    "Switch": ".switch",
    "Tee": ".tee",
    "handles": ".processor",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
