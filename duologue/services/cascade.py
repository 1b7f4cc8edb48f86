"""`Cascade`: speech-to-text, a language model and text-to-speech as one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

import msgspec

from ..agents.engine import AnswerSetting, Capabilities, EngineConfig, Handover, plain_specs
from ..agents.tool import ToolSpec
from ..errors import ConfigurationError
from ..frames import Configure, Control, EndOfTurn
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor, handles
from .llm import LLM
from .reading import Reading
from .service import check_made
from .stt import STT
from .tts import TTS


class _Settings(Processor):
    """Configures the cascade for the session's agent, and handles `Configure` frames."""

    def __init__(self, cascade: Cascade) -> None:
        self._cascade = cascade

    @property
    def name(self) -> str:
        return "Cascade"

    async def open(self) -> None:
        """Apply the session's agent, and the tools that all agents share. With a `Handoff`, that does both."""
        change = await self._cascade.llm.first_change(self._cascade.tts.voices)
        if change is not None:
            await self._cascade.configure(change)

    @handles(Configure)
    async def configure(self, frame: Configure) -> None:
        """Apply the change, or report the reason for its refusal."""
        await self._cascade.configure(frame)


class _Mark(Control, frozen=True, kw_only=True):
    """Travels behind all frames that were pushed before it."""

    number: int


class _Checkpoint(Processor):
    """Stands behind processors of the application, and detects when they have passed on all frames."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._expected: dict[int, asyncio.Event] = {}

    async def passed(self, source: Processor) -> None:
        """Wait until all frames that `source` has pushed have arrived here or were dropped."""
        mark, reached = _Mark(number=next(self._numbers)), asyncio.Event()
        self._expected[mark.number] = reached
        try:
            await source.push(mark)
            await reached.wait()
        finally:
            self._expected.pop(mark.number, None)

    @handles(_Mark)
    async def reached(self, mark: _Mark) -> None:
        """Note the arrival of a mark. Marks of other checkpoints are ignored."""
        if reached := self._expected.get(mark.number):
            reached.set()


class Cascade(Pipeline):
    """An engine made of three services. Keeps the engine contract (capabilities, configuration, turns).

    `heard` are processors behind the STT: they may change or drop a `UserTranscript` before the model and the log
    receive it. Turn-taking and `Transcribed` have the text of the STT; `Session.intercept` changes it for these, too.

    `spoken` are processors before the TTS: they may change or drop a `BotText`, piece by piece as the model writes it.
    The log and the model's later requests have the spoken text; `Item.written` keeps the model's own. For whole
    sentences use `Session.intercept(BotText, …)`: its hooks run last before the TTS.

    `reading` says numbers, addresses and the like in words; without it the TTS's own is used, by default none. The log
    and the page show the text as the model wrote it, also for an answer that was cut.

    `eager_starts` is the number of answers that may be begun in a turn of the caller before its end is certain: see
    `LLM`. It needs an STT or an `Endpointing` that pushes `EagerEndOfTurn`. Nothing is begun if one of
    `heard` may change the caller's words, and no speech is prepared if one of `spoken` may change the agent's.

    `instructions`, `voice` and `tools` are the first configuration, until an `Agent` of the session or a `Handoff`
    replaces them. The tools of the pipeline's `Tools` are added to either. The heard text follows the word times, if
    the TTS gives them.

    Raises ConfigurationError for a voice that the TTS does not have, for two tools of one name, and for a service
    whose `__init__` does not call that of its base.
    """

    def __init__(
        self,
        stt: STT,
        llm: LLM,
        tts: TTS,
        *,
        heard: Iterable[Processor] = (),
        spoken: Iterable[Processor] = (),
        reading: Reading | None = None,
        eager_starts: int | None = None,
        instructions: str = "",
        voice: str = "",
        tools: tuple[ToolSpec, ...] = (),
    ) -> None:
        for service, base in ((stt, STT), (llm, LLM), (tts, TTS)):
            if not isinstance(service, base):
                raise ConfigurationError(f"a cascade is made of an STT, an LLM and a TTS, not {service!r}")
            check_made(service)
        self.stt, self.llm, self.tts = stt, llm, tts
        tts.reading = reading or tts.reading
        if eager_starts is not None:
            if eager_starts < 0:
                raise ConfigurationError(f"eager_starts is {eager_starts!r}: it is 0 or more")
            llm.eager_starts = eager_starts
        self.heard, self.spoken = tuple(heard), tuple(spoken)
        self._heard_all, self._wrote_all = _Checkpoint(), _Checkpoint()
        # The settings are behind the STT, so that a `Configure` cannot overtake speech that waits for its transcript.
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
        """The abilities of a cascade. All settings can change in mid-call: each response carries its whole context."""
        return Capabilities(
            input_sample_rate=self.stt.sample_rate,
            output_sample_rate=self.tts.sample_rate,
            resumption="replay",
            changes_in_session=frozenset({"instructions", "voice", "language", "tools", "options"}),
            history_survives=True,
            model_may_change=True,
            truncation=True,
            turn_detection=frozenset({"client" if self._waits_for_turns else "server"}),
            manual_turns=self._waits_for_turns,
            text_input=True,
            video_input=False,
            images=self.llm.images,
            tools="blocking",
            billing="tokens",
            text_may_change=True,
            early_answers=True,
            answer_settings=self._answer_settings(),
            voices=self.tts.voices,
        )

    def _answer_settings(self) -> frozenset[AnswerSetting]:
        settings: set[AnswerSetting] = {"no_tools"}
        if self.llm.chooses_tools:
            settings.add("tool_choice")
        if self._waits_for_turns:  # else the service ends the turns, whatever was said before it
            settings.add("turn_instructions")
        return frozenset(settings)

    @property
    def _waits_for_turns(self) -> bool:
        """True if the pipeline finds the caller's turns, and not the STT."""
        return EndOfTurn not in self.stt.gives

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError for an unknown voice, a malformed tool, or an option that the model refuses."""
        self._changed(change)

    async def configure(self, change: Configure) -> None:
        """Apply a change to the responses that begin from now on, as a whole or not at all. Raises as `check` does."""
        config = self._changed(change)
        if config != self.llm.config:
            self.llm.forget_guess("another configuration")
        self.llm.config = config
        self.stt.language = self.tts.language = config.language
        self.tts.agent_voice = config.voice

    def _changed(self, change: Configure) -> EngineConfig:
        config = self.config.changed(change)
        if change.voice:
            self.tts.check_voice(change.voice)
        if change.model:
            self.llm.check_model(change.model)
        if change.options is not None:
            self.llm.check_options(config.options)
        if len({tool.name for tool in config.tools}) < len(config.tools):
            raise ConfigurationError(f"two tools of one name: {', '.join(t.name for t in config.tools)}")
        return config

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Finish the responses that have begun and the `Say`s that wait, with all their audio, and begin no others."""
        if self.heard:
            await self._heard_all.passed(self.stt)
        await self.llm.drain()
        if self.spoken:
            await self._wrote_all.passed(self.llm)
        await self.tts.drain()

    def stay(self) -> None:
        """Go on after `drain`: the change of engines was called off."""
        self.llm.stay()

    def release(self) -> Handover:
        """Return the speech that has no transcript yet, and the frames that wait for an answer."""
        self.llm.forget_guess("another engine has the call")
        return msgspec.structs.replace(self.llm.release(), speech=self.stt.release())

    def adopt(self, left: Handover) -> None:
        """Take over the unfinished work of another engine, ahead of all later frames."""
        self.stt.adopt(left.speech)
        self.llm.adopt(left)
