"""`ScriptedOpenAIHTTP`: a server on loopback that speaks OpenAI's HTTP API, played by a script.

    async with ScriptedOpenAIHTTP([[Speak("Hello.")]]) as server:
        client = AsyncOpenAI(api_key="test", base_url=server.url)

Requests are checked as strictly as the provider does, and what is sent by the types of the SDK. `server.requests` has
the record of each request, with the side that broke its answer off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .openai_audio import ModelRoute, SpeechRoute, TranscriptionRoute
from .openai_chat import ChatRoutes
from .openai_http import OpenAIServer
from .openai_responses import ResponsesRoutes
from .server import Model
from .text_model import TextAct


class ScriptedOpenAIHTTP(OpenAIServer):
    """OpenAI's HTTP API, scripted. A module with a further part of the API adds its routes here."""

    def __init__(self, model: Model | Sequence[Sequence[TextAct]] = (), **behaviour: Any) -> None:
        super().__init__(model, **behaviour)
        self.chat = ChatRoutes(self, self.model)
        self.responses = ResponsesRoutes(self, self.model)
        self.speech = SpeechRoute(self)
        self.transcriptions = TranscriptionRoute(self)
        ModelRoute(self)
