"""`Cascade`: speech-to-text, a language model and text-to-speech, as one engine."""

from __future__ import annotations

from ..errors import ConfigurationError
from ..frames import Configure
from ..processors.base import Processor, handles
from ..processors.pipeline import Pipeline
from ..processors.tools import ToolSpec
from .engine import Capabilities, EngineConfig
from .llm import LLM
from .stt import STT
from .tts import TTS


class _Settings(Processor):
    """Takes `Configure` frames for the cascade."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade

    @property
    def name(self) -> str:
        return "Cascade"

    @handles(Configure)
    async def configure(self, frame: Configure) -> None:
        """Apply it, or report why not."""
        await self._cascade.configure(frame)


class Cascade(Pipeline):
    """An engine made of three services. Obeys the engine contract (capabilities, configuration, turns).

    `instructions`, `voice` and `tools` are what it starts with; an `Agent` given to the session, or a `Handoff`,
    replaces them. What the caller hears is fixed by word times where the text-to-speech gives them.

    Raises ConfigurationError for a voice that the text-to-speech does not have.
    """

    def __init__(
        self,
        stt: STT,
        llm: LLM,
        tts: TTS,
        *,
        instructions: str = "",
        voice: str = "",
        tools: tuple[ToolSpec, ...] = (),
    ) -> None:
        self.stt, self.llm, self.tts = stt, llm, tts
        super().__init__([_Settings(self), stt, llm, tts])
        if voice:
            tts.check_voice(voice)
        llm.config = EngineConfig(instructions=instructions, voice=voice, tools=tools)

    @property
    def config(self) -> EngineConfig:
        """How it is set up now."""
        return self.llm.config

    @property
    def capabilities(self) -> Capabilities:
        """What a cascade can do: everything changes in mid-call, for every response carries its whole context."""
        return Capabilities(
            input_sample_rate=self.stt.sample_rate,
            output_sample_rate=self.tts.sample_rate,
            resumption="replay",
            changes_in_session=frozenset({"instructions", "voice", "language", "tools", "options"}),
            history_survives=True,
            model_may_change=True,
            truncation=True,
            turn_detection=frozenset({"client"}),
            manual_turns=True,
            text_input=True,
            video_input=False,
            tools="blocking",
            billing="token",
        )

    async def configure(self, change: Configure) -> None:
        """Apply all of a change to the responses that begin from now on, or none of it.

        Raises ConfigurationError for an unknown voice, a malformed tool, or an option that the model refuses.
        """
        config = self.config.changed(change)
        if change.voice:
            self.tts.check_voice(change.voice)
        if change.options is not None:
            self.llm.check_options(config.options)
        if len({tool.name for tool in config.tools}) < len(config.tools):
            raise ConfigurationError(f"two tools of one name: {', '.join(t.name for t in config.tools)}")
        self.llm.config = config
