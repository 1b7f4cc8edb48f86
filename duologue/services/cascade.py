"""`Cascade`: speech-to-text, a language model and text-to-speech, as one engine."""

from __future__ import annotations

import msgspec

from ..agents.engine import Capabilities, EngineConfig, Handover
from ..agents.tool import ToolSpec
from ..errors import ConfigurationError
from ..frames import Configure, Say, SessionStarted
from ..processors.handoff.setup import first_configuration
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor, handles
from .llm import LLM
from .stt import STT
from .tts import TTS


class _Settings(Processor):
    """Sets the cascade up for the session's agent, and takes `Configure` frames."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade
        self._greeting = ""

    @property
    def name(self) -> str:
        return "Cascade"

    async def open(self) -> None:
        """Take the session's agent, and the tools that every agent has. A `Handoff` sees to both itself."""
        change, self._greeting = first_configuration(self.session, self._cascade.config, self._cascade.tts.voices)
        if change is not None:
            await self._cascade.configure(change)

    @handles(SessionStarted)
    async def greet(self, signal: SessionStarted) -> None:
        """The session's agent greets."""
        if self._greeting:
            await self.push(Say(text=self._greeting))

    @handles(Configure)
    async def configure(self, frame: Configure) -> None:
        """Apply it, or report why not."""
        await self._cascade.configure(frame)


class Cascade(Pipeline):
    """An engine made of three services. Obeys the engine contract (capabilities, configuration, turns).

    `instructions`, `voice` and `tools` are what it starts with; an `Agent` given to the session, or a `Handoff`,
    replaces them. The tools given to the pipeline's `Tools` are added to either. What the caller heard is fixed by
    word times where the text-to-speech gives them.

    Raises ConfigurationError for a voice that the text-to-speech does not have, and for two tools of one name.
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
        self.replaceable = False
        # Behind the STT, lest a `Configure` overtake what waits for its transcript.
        super().__init__([stt, _Settings(self), llm, tts])
        first = Configure(
            instructions=instructions, voice=voice, tools=tuple(msgspec.to_builtins(tool) for tool in tools)
        )
        llm.config = self._changed(first)

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
            voices=self.tts.voices,
        )

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError for an unknown voice, a malformed tool, or an option that the model refuses."""
        self._changed(change)

    async def configure(self, change: Configure) -> None:
        """Apply all of a change to the responses that begin from now on, or none of it. Raises as `check` does."""
        config = self._changed(change)
        self.llm.config, self.stt.language = config, config.language

    def _changed(self, change: Configure) -> EngineConfig:
        config = self.config.changed(change)
        if change.voice:
            self.tts.check_voice(change.voice)
        if change.options is not None:
            self.llm.check_options(config.options)
        if len({tool.name for tool in config.tools}) < len(config.tools):
            raise ConfigurationError(f"two tools of one name: {', '.join(t.name for t in config.tools)}")
        return config

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Let out what has been begun and what is to be said, all of its audio included; begin nothing else."""
        await self.llm.drain()
        await self.tts.drain()

    def stay(self) -> None:
        """The change does not come about: go on."""
        self.llm.stay()

    def release(self) -> Handover:
        """Give away the speech that has no transcript yet, and what waits for an answer."""
        return msgspec.structs.replace(self.llm.release(), speech=self.stt.release())

    def adopt(self, left: Handover) -> None:
        """Take over what another engine has not dealt with, ahead of all that comes."""
        self.stt.adopt(left.speech)
        self.llm.adopt(left)
