"""The cascade of local services: PocketSphinx, a scripted language model, espeak-ng."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from ....agents.engine import plain_specs
from ....errors import ConfigurationError, ServiceError
from ....frames import Configure, Usage
from ....processors.processor import Processor
from ....services.cascade import Cascade
from ....services.context import Message, Request, ToolRequest
from ....services.llm import LLM
from ....services.local.stt import SphinxSTT
from ....services.local.tts import EspeakTTS
from ....services.stt import STT
from ....services.tts import TTS
from ...scripted.manners import Manners
from ...scripted.server import SPEECH_CHARACTERS_PER_S, Act, Asked, CallTool, Fail, Model, Speak, Wait
from ...scripted.spoiled import spoiled
from ..phrases import HELLO, PHRASES, THANKS
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .values import plain


class ScriptedLLM(LLM):
    """A language model that follows a script. It has one option, `temperature`."""

    def __init__(self, far: ScriptedEnd) -> None:
        super().__init__()
        self._far = far
        self._calls = 0

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for any option except a `temperature` from 0 to 2."""
        for name, value in options.items():
            if name != "temperature":
                raise ConfigurationError(f"{self.name} has no option {name!r}")
            if not isinstance(value, int | float) or not 0 <= value <= 2:
                raise ConfigurationError(f"temperature is {value!r}: it lies between 0 and 2")

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the script's next answer."""
        last, said = request.messages[-1:], 0
        self._far.options = request.options
        asked = Asked(
            connection=0,
            instructions=request.instructions,
            voice=self.config.voice,
            tools=plain_specs(request.tools),
            history=request.messages,
            said=last[0].text if last and last[0].role == "user" else "",
        )
        manners = self._far.manners
        tokens = self._perform(spoiled(manners, "llm", self._far.note, asked))
        async for token in tokens if manners is None else manners.tokens(tokens):
            said += len(token) if isinstance(token, str) else 0
            yield token
        tokens_in = sum(len(message.text) for message in request.messages) // 4
        yield Usage(service=self.name, model="scripted", input_tokens=1 + tokens_in, output_tokens=1 + said // 4)

    async def _perform(self, acts: Sequence[Act]) -> AsyncIterator[str | ToolRequest]:
        said = 0
        for act in acts:
            match act:
                case Speak():
                    for word in re.findall(r"\S+\s*", f" {act.text}" if said else act.text):
                        said += len(word)
                        yield word
                        if act.pace:
                            await anyio.sleep(len(word) / SPEECH_CHARACTERS_PER_S / act.pace)
                case CallTool():
                    self._calls += 1
                    call_id = act.call_id or f"call_{self._calls}"
                    yield ToolRequest(call_id=call_id, name=act.name, arguments=act.arguments)
                case Wait():
                    await anyio.sleep(act.seconds)
                case Fail():
                    raise ServiceError(f"{act.code}: {act.message}")
                case _:
                    raise ConfigurationError(f"{act!r} cannot be scripted here: a cascade has no connection")


class _Ear(SphinxSTT):
    """A speech-to-text service that keeps the audio that it receives."""

    def __init__(self) -> None:
        super().__init__(phrases=(*PHRASES, f"{HELLO} {THANKS}"))
        self.got = bytearray()

    async def feed(self, pcm: bytes) -> str:
        self.got += pcm
        return await super().feed(pcm)


class _Mouth(EspeakTTS):
    """A text-to-speech service that keeps the latest voice."""

    used = ""

    def __init__(self, manners: Manners | None) -> None:
        super().__init__()
        self._manners = manners

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        self.used = voice
        chunks = super().synthesize(text, voice)
        async for chunk in chunks if self._manners is None else self._manners.speech(chunks):
            yield chunk


class ScriptedEnd(FarEnd):
    """A cascade whose language model is a script."""

    def __init__(
        self, model: Model | Sequence[Sequence[Act]], stt: STT, tts: TTS, manners: Manners | None = None
    ) -> None:
        super().__init__(model, manners)
        self.manners = manners
        self.options: dict[str, Any] = {}
        """The options of the latest request."""
        self._engine = Cascade(stt, ScriptedLLM(self), tts)

    @property
    def engine(self) -> Processor:
        return self._engine

    @property
    def history(self) -> tuple[Message, ...]:
        return self.asked[-1].history if self.asked else ()

    @property
    def results(self) -> list[tuple[str, Any]]:
        found: dict[str, Any] = {}
        for asked in self.asked:
            for message in asked.history:
                if message.role == "tool" and message.text != '{"status": "pending"}':
                    found.setdefault(message.call_id, plain(message.text))
        return list(found.items())

    @property
    def instructions(self) -> str:
        return self.asked[-1].instructions

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(tool["name"] for tool in self.asked[-1].tools)

    @property
    def option(self) -> Any:
        return self.options.get("temperature")


class _LocalEnd(ScriptedEnd):
    def __init__(self, model: Model | Sequence[Sequence[Act]], manners: Manners | None) -> None:
        self._ear, self._mouth = _Ear(), _Mouth(manners)
        super().__init__(model, self._ear, self._mouth, manners)

    @property
    def voice(self) -> str:
        return self._mouth.used

    @property
    def audio(self) -> list[bytes]:
        return [bytes(self._ear.got)]


class CascadeRig(Rig):
    """Local services without a connection that could fail. Needs the extra `local`."""

    name = "Cascade"
    parts = ("llm", "tts")
    interim = True
    voices = ("en-us+f3", "en-gb")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade whose language model is the script."""
        return _started(model, self.manners)


@asynccontextmanager
async def _started(model: Model | Sequence[Sequence[Act]], manners: Manners | None) -> AsyncIterator[FarEnd]:
    yield _LocalEnd(model, manners)
