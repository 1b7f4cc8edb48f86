"""RTVI, the protocol of Pipecat's clients.

`of(transport)` returns the client of a call, for the application; a `ClientTool` runs in the client.
"""

from __future__ import annotations

from .client import ClientTool, RtviClient, of
from .controls import ALL_CONTROLS, ControlName
from .rtvi import Rtvi

__all__ = ["ALL_CONTROLS", "ClientTool", "ControlName", "Rtvi", "RtviClient", "of"]
