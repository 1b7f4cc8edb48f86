"""`OpenAIRealtime`: OpenAI's speech-to-speech models, over the Realtime API."""

from __future__ import annotations

from collections.abc import Iterable

from ...agents.engine import AnswerSetting, Capabilities, EngineConfig
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError
from ..native.dialect import Dialect
from ..native.engine import SpeechToSpeech
from ..remote.connection import ConnectionSettings
from ..remote.dialect import Wire
from .dialect import OpenAIDialect
from .options import (
    DEFAULT_MODEL,
    DEFAULT_VOICE,
    OPENAI_IMAGES,
    SAMPLE_RATE,
    SESSION_LIMIT_S,
    OpenAIRealtimeOptions,
    check,
    resolved,
)
from .wire import OpenAIClient


class OpenAIRealtime(SpeechToSpeech):
    """OpenAI Realtime as an engine. Needs the extra `openai`.

    `api_key` is by default OPENAI_API_KEY of the environment; `base_url` is by default OPENAI_BASE_URL or the
    provider's own, and an address with http means an unencrypted WebSocket. `voice` is for agents without one: a voice
    of the provider, by default marin, or the id of a custom one (`voice_…`). `Configure.options` are fields of
    `OpenAIRealtimeOptions`.

    Raises MissingExtra without the SDK, and ConfigurationError for settings that the model is known to refuse.
    """

    extra = "openai"

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        voice: str = "",
        instructions: str = "",
        tools: Iterable[ToolSpec] = (),
        options: OpenAIRealtimeOptions | None = None,
        connection: ConnectionSettings | None = None,
    ) -> None:
        super().__init__(instructions=instructions, voice=voice, tools=tools, connection=connection)
        if not model:
            raise ConfigurationError("OpenAI needs the name of a model")
        self.model = model
        self.options = options or OpenAIRealtimeOptions()
        self._voice = voice or DEFAULT_VOICE
        self._client = OpenAIClient(api_key, base_url)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of every model of the Realtime API."""
        return Capabilities(
            input_sample_rate=SAMPLE_RATE,
            output_sample_rate=SAMPLE_RATE,
            resumption="replay",
            changes_in_session=frozenset({"instructions", "language", "tools", "options"}),
            history_survives=True,
            model_may_change=False,
            truncation=True,
            early_answers=True,
            turn_detection=frozenset({"server", "client"}),
            manual_turns=True,
            text_input=True,
            video_input=False,
            images=OPENAI_IMAGES,
            tools="async",
            billing="tokens",
            voices="openai",
            answer_settings=self._answer_settings(),
            session_limit_s=SESSION_LIMIT_S,
        )

    def _answer_settings(self) -> frozenset[AnswerSetting]:
        settings: set[AnswerSetting] = {"no_tools", "tool_choice"}
        if self.options.turn_detection is None:
            settings.add("turn_instructions")
        return frozenset(settings)

    def check_config(self, config: EngineConfig) -> None:
        """Raise ConfigurationError for a missing key, or with the name of a setting that the model refuses."""
        self._client.check()
        check(self.model, config, resolved(self.options, config.options))

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection. `handle` is "", because sessions cannot be resumed."""
        return await self._client.dial(self.model)

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """Return the translator for one connection."""
        return OpenAIDialect(
            self.model, config, self.options, voice=self._voice, provider_now=self._client.provider_now
        )

    async def close(self) -> None:
        """End the connection, and release the SDK's client."""
        try:
            await super().close()
        finally:
            await self._client.close()
