"""`TextLLM`: the base of OpenAI's language models over HTTP, with the client that all of them use."""

from __future__ import annotations

from ..remote.llm import RemoteLLM
from ..remote.pace import AnswerLimits
from .api import OpenAIAPI


class TextLLM(RemoteLLM):
    """A language model over OpenAI's HTTP API, or one that is compatible with it."""

    def __init__(self, api_key: str, base_url: str, limits: AnswerLimits | None) -> None:
        super().__init__(limits)
        self._api = OpenAIAPI(api_key, base_url)

    async def open(self) -> None:
        """Make the SDK's client. Raises ConfigurationError without a key."""
        await super().open()
        await self._api.open()

    async def warm(self) -> None:
        """Open a connection for the next request, by a question about the model."""
        await self._api.warm(self.model)

    async def close(self) -> None:
        """Release the SDK's client, and its connections."""
        await super().close()
        await self._api.close()
