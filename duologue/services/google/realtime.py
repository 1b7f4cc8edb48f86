"""`GeminiLive`: Google's speech-to-speech models."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

import msgspec

from ...agents.engine import Capabilities, EngineConfig
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, check_installed
from ..native.dialect import Dialect
from ..native.engine import SpeechToSpeech
from ..remote.connection import ConnectionSettings
from ..remote.dialect import Wire
from .dialect import NO_HISTORY, GeminiDialect
from .options import (
    DEFAULT_VOICE,
    DETECTION_OPTIONS,
    INPUT_RATE,
    LIVE_IMAGES,
    OUTPUT_RATE,
    GeminiLiveOptions,
    check,
    live_family,
    resolved,
)
from .setup import connect_config
from .wire import LiveAPI

KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""The environment variables for the key, of which the first that is set is used."""
SESSION_LIMIT_S = 900.0
"""The provider's limit of an audio session without compression of its context, in seconds."""


class GeminiLive(SpeechToSpeech):
    """Gemini Live as an engine. Needs the extra `google`.

    The key is `api_key`, by default GOOGLE_API_KEY or GEMINI_API_KEY of the environment. `base_url` is a custom
    endpoint, which must use TLS; `ssl_context` trusts its certificate. For an unknown model id no option is refused.
    `Configure.options` are fields of `GeminiLiveOptions`.

    Raises ConfigurationError for options that contradict each other or that the model refuses.
    """

    extra = "google"

    def __init__(
        self,
        model: str = "gemini-3.8-live",
        *,
        api_key: str = "",
        base_url: str = "",
        api_version: str = "v1beta",
        ssl_context: ssl.SSLContext | None = None,
        voice: str = DEFAULT_VOICE,
        instructions: str = "",
        tools: Iterable[ToolSpec] = (),
        options: GeminiLiveOptions | None = None,
        handle: str = "",
        connection: ConnectionSettings | None = None,
    ) -> None:
        check_installed("google", "google.genai", "websockets")
        if not model:
            raise ConfigurationError("Gemini Live needs the name of a model")
        self.model = model
        self.options = resolved(options or GeminiLiveOptions(), {})
        self._family = live_family(model)
        self._api_key = api_key
        self._api = LiveAPI(base_url, api_version, ssl_context)
        super().__init__(instructions=instructions, voice=voice, tools=tools, handle=handle, connection=connection)
        check(model, self._family, self.options, voice, self.config.tools)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model with these options."""
        options, family = self._options(self.config), self._family
        blocking = (options.tool_behavior or family.tools) == "BLOCKING"
        in_place = {"agent", "instructions", "language", "tools"} if family.context_update else set()
        return Capabilities(
            input_sample_rate=INPUT_RATE,
            output_sample_rate=OUTPUT_RATE,
            resumption="native",
            changes_in_session=frozenset(in_place),
            history_survives=True,
            model_may_change=False,
            truncation=False,
            turn_detection=frozenset({"server", "client"}),
            manual_turns=True,
            text_input=True,
            video_input=family.video,
            images=LIVE_IMAGES,
            tools="blocking" if blocking else "async",
            billing="tokens",
            voices="gemini",
            session_limit_s=None if options.context_window_compression else SESSION_LIMIT_S,
            affect=bool(options.enable_affective_dialog),
        )

    def check_config(self, config: EngineConfig) -> None:
        """Raise ConfigurationError for a missing key, or with the name of a setting that the model refuses."""
        check(self.model, self._family, self._options(config), config.voice, config.tools)
        self._key()

    def with_manual_turns(self, config: EngineConfig) -> EngineConfig:
        """Return the configuration without the server's detection of turns. The caller's activity interrupts."""
        config = super().with_manual_turns(config)
        detection = dict.fromkeys(DETECTION_OPTIONS)
        options = {**config.options, **detection, "activity_handling": "START_OF_ACTIVITY_INTERRUPTS"}
        return msgspec.structs.replace(config, options=options)

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a session. Raises ConnectionLost, ConfigurationError without a key, MissingExtra without the SDK."""
        set_up = connect_config(config, self._options(config), self._family, handle)
        first = NO_HISTORY if "history_config" in set_up else ""
        return await self._api.dial(self._key(), self.model, set_up, resumed=bool(handle), first=first)

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """Return the translator for one connection."""
        options = self._options(config)
        return GeminiDialect(config, options, self._family, resumed=bool(handle), model=self.model, service=self.name)

    async def close(self) -> None:
        """End the connection, and release the SDK's client."""
        try:
            await super().close()
        finally:
            await self._api.close()

    def _options(self, config: EngineConfig) -> GeminiLiveOptions:
        return resolved(self.options, config.options)

    def _key(self) -> str:
        key = self._api_key or next((value for name in KEY_VARIABLES if (value := os.environ.get(name))), "")
        if not key.strip():
            raise ConfigurationError(f"{self.model} needs a key: give api_key, or set {' or '.join(KEY_VARIABLES)}")
        return key
