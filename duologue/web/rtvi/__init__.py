"""RTVI, the protocol of Pipecat's clients.

`of(transport)` returns the client of a call, for the application; a `ClientTool` runs in the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazily

if TYPE_CHECKING:
    from .client import ClientTool as ClientTool
    from .client import RtviClient as RtviClient
    from .client import of as of
    from .controls import ALL_CONTROLS as ALL_CONTROLS
    from .controls import ControlName as ControlName
    from .rtvi import Rtvi as Rtvi

_HOMES = {"client": "ClientTool RtviClient of", "controls": "ALL_CONTROLS ControlName", "rtvi": "Rtvi"}

_names, __getattr__ = lazily(__name__, _HOMES, globals())
__all__ = [*_names]
