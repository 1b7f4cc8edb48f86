"""AssemblyAI's streaming speech-to-text. It needs the extra `remote`."""

from __future__ import annotations

from .stt import AssemblyAISTT
from .wire import AssemblyAISTTOptions

__all__ = ["AssemblyAISTT", "AssemblyAISTTOptions"]
