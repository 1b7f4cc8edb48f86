"""`Cascade`: speech-to-text, a language model and text-to-speech, as one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

import msgspec

from ..agents.engine import Capabilities, EngineConfig, Handover
from ..agents.tool import ToolSpec, plain_specs
from ..errors import ConfigurationError
from ..frames import Configure, Control
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor, handles
from .llm import LLM
from .stt import STT
from .tts import TTS


class _Settings(Processor):
    """Sets the cascade up for the session's agent, and takes `Configure` frames."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade

    @property
    def name(self) -> str:
        return "Cascade"

    async def open(self) -> None:
        """Take the session's agent, and the tools that every agent has. A `Handoff` sees to both itself."""
        change = self._cascade.llm.first_change(self._cascade.tts.voices)
        if change is not None:
            await self._cascade.configure(change)

    @handles(Configure)
    async def configure(self, frame: Configure) -> None:
        """Apply it, or report why not."""
        await self._cascade.configure(frame)


class _Mark(Control, frozen=True, kw_only=True):
    """Travels behind everything that was pushed before it."""

    number: int


class _Checkpoint(Processor):
    """Stands behind processors of the application, and notices when they have passed on all frames."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._expected: dict[int, asyncio.Event] = {}

    async def passed(self, source: Processor) -> None:
        """Wait until everything that `source` has pushed by now has come here, or was dropped."""
        mark, reached = _Mark(number=next(self._numbers)), asyncio.Event()
        self._expected[mark.number] = reached
        try:
            await source.push(mark)
            await reached.wait()
        finally:
            self._expected.pop(mark.number, None)

    @handles(_Mark)
    async def reached(self, mark: _Mark) -> None:
        """A mark has arrived. Those of other checkpoints mean nothing here."""
        if reached := self._expected.get(mark.number):
            reached.set()


class Cascade(Pipeline):
    """An engine made of three services. Obeys the engine contract (capabilities, configuration, turns).

    `heard` are processors behind the STT: they may change or drop a `UserTranscript` before the model and the log get
    it. Turn-taking and `Transcribed` have it as the STT gave it; `Session.intercept` changes it for these as well.

    `spoken` are processors before the TTS: they may change or drop a `BotText`, piece by piece as the model writes it.
    The log, and the model's later requests, have the text that was spoken; `Item.written` keeps the model's own. For
    whole sentences use `Session.intercept(BotText, …)`, which has the last word before the TTS.

    `instructions`, `voice` and `tools` are the first configuration; an `Agent` given to the session, or a `Handoff`,
    replaces them. The tools given to the pipeline's `Tools` are added to either. The text that the caller heard is
    fixed by word times where the TTS gives them.

    Raises ConfigurationError for a voice that the TTS does not have, and for two tools of one name.
    """

    def __init__(
        self,
        stt: STT,
        llm: LLM,
        tts: TTS,
        *,
        heard: Iterable[Processor] = (),
        spoken: Iterable[Processor] = (),
        instructions: str = "",
        voice: str = "",
        tools: tuple[ToolSpec, ...] = (),
    ) -> None:
        self.stt, self.llm, self.tts = stt, llm, tts
        self.heard, self.spoken = tuple(heard), tuple(spoken)
        self._heard_all, self._wrote_all = _Checkpoint(), _Checkpoint()
        # The settings are behind the STT, lest a `Configure` overtake speech that waits for its transcript.
        before = (*self.heard, self._heard_all) if self.heard else ()
        after = (*self.spoken, self._wrote_all) if self.spoken else ()
        super().__init__([stt, *before, _Settings(self), llm, *after, tts])
        first = Configure(instructions=instructions, voice=voice, tools=plain_specs(tools))
        llm.config = self._changed(first)

    @property
    def replaceable(self) -> bool:
        """True while another engine can take the call if a service fails for good."""
        return self.stt.replaceable

    @replaceable.setter
    def replaceable(self, replaceable: bool) -> None:
        self.stt.replaceable = self.tts.replaceable = replaceable

    @property
    def config(self) -> EngineConfig:
        """The configuration."""
        return self.llm.config

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of a cascade. Everything can change in mid-call: each response carries its whole context."""
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
            text_may_change=True,
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
        """Finish the responses that have begun and the `Say`s that wait, with all of their audio; begin no others."""
        if self.heard:
            await self._heard_all.passed(self.stt)
        await self.llm.drain()
        if self.spoken:
            await self._wrote_all.passed(self.llm)
        await self.tts.drain()

    def stay(self) -> None:
        """The change of engines does not come about: go on."""
        self.llm.stay()

    def release(self) -> Handover:
        """Give away the speech that has no transcript yet, and the frames that wait for an answer."""
        return msgspec.structs.replace(self.llm.release(), speech=self.stt.release())

    def adopt(self, left: Handover) -> None:
        """Take over the work that another engine has left, ahead of all later frames."""
        self.stt.adopt(left.speech)
        self.llm.adopt(left)
