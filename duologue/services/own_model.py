"""`OwnModel`: a language model that belongs to a processor, and answers beside the call."""

from __future__ import annotations

from ..frames import Usage
from ..processors.kernel.groups import build
from ..processors.kernel.host import Host
from ..processors.kernel.node import EndPort, drop
from ..processors.kernel.tasks import close_stream
from .context import Request
from .llm import LLM
from .thoughts import ModelText, begins_with_thoughts


class OwnModel:
    """Asks a language model that has no other place in the pipeline. Its consumption is reported as `Usage`."""

    def __init__(self, model: LLM) -> None:
        self.model = model

    def join(self, host: Host) -> None:
        """Let the model join the host's session. Frames that it pushes are dropped."""
        self.model._join(host)
        build(self.model, "down", EndPort(lambda frame_type: drop))
        build(self.model, "up", EndPort(lambda frame_type: drop))

    async def ask(self, request: Request, longest: int) -> str:
        """Return the model's answer without its thoughts, cut after `longest` characters."""
        model, said = self.model, ""
        first = model.thinks_first
        text = ModelText(thinks_first=begins_with_thoughts(model.model) if first is None else first)
        pieces = model.ask(request)
        asked = model.spent.take()
        try:
            async for piece in pieces:
                if isinstance(piece, str):
                    if asked is not None:
                        asked.wrote(piece)
                    said = (said + text.feed(piece)).lstrip()
                elif isinstance(piece, Usage) and asked is not None:
                    asked.told(piece)
                if len(said) > longest:
                    break
        finally:
            await close_stream(pieces)
            if asked is not None:
                asked.close()
        return (said + text.flush()).strip()[:longest]
