"""Cascades whose language model is a vendor's, over its SDK and a scripted server; the speech is a made-up vendor's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ....frames import Configure
from ....processors.processor import Processor
from ....services.cascade import Cascade
from ....services.context import Message
from ....services.google.llm import GeminiLLM
from ....services.openai.llm import OpenAILLM
from ....services.openai.responses_llm import OpenAIResponsesLLM
from ....services.remote.llm import RemoteLLM
from ...parrot import ParrotSTT, ParrotTTS
from ...parrot.options import STT_RATE
from ...scripted.gemini_http import ScriptedGeminiHTTP
from ...scripted.manners import Manners
from ...scripted.openai_api import ScriptedOpenAIHTTP
from ...scripted.parrot import ScriptedParrot
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .remote import INTERIM_S
from .values import plain


@dataclass(frozen=True)
class ModelVendor:
    """A service for a language model, and the server that it talks to."""

    name: str
    llm: Callable[..., RemoteLLM]
    server: Callable[..., Any]


MODEL_VENDORS = (
    ModelVendor("OpenAILLM", OpenAILLM, ScriptedOpenAIHTTP),
    ModelVendor("OpenAIResponsesLLM", OpenAIResponsesLLM, ScriptedOpenAIHTTP),
    ModelVendor("GeminiLLM", GeminiLLM, ScriptedGeminiHTTP),
)


class ModelEnd(FarEnd):
    """The model's server, and the vendor of both speech services."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]],
        vendor: ModelVendor,
        parrot: ScriptedParrot,
        conditions: Conditions,
        manners: Manners | None,
    ) -> None:
        super().__init__(model, manners)
        self.server = vendor.server(self.note, manners=manners)
        self._vendor, self._parrot, self._conditions = vendor, parrot, conditions
        self._engine: Cascade | None = None

    def make(self) -> None:
        """Make the engine, once the server has its address."""
        speech: dict[str, Any] = {"api_key": "test", "base_url": self._parrot.url}
        speech["connection"] = self._conditions.connection
        llm = self._vendor.llm(api_key="test", base_url=self.server.url)
        self._engine = Cascade(ParrotSTT(**speech), llm, ParrotTTS(**speech))

    @property
    def engine(self) -> Processor:
        assert self._engine is not None
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
        body = self.server.posts[-1].json
        return body.get("generationConfig", body).get("temperature")

    @property
    def voice(self) -> str:
        opened = [m for got in self._parrot.got if got.path == "/speak" for m in got.messages if m["type"] == "open"]
        return opened[-1]["voice"] if opened else ""

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self._parrot.got if got.path == "/listen"]


class ModelRig(Rig):
    """A vendor's language model between services of a made-up vendor. Needs the vendor's extra, and `testing`.

    The faults of the suite are those of an engine with one connection. This one has three, and is tested for faults
    elsewhere.
    """

    parts = ("llm", "listen", "speak")
    interim = True
    voices = ("amber", "blue")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def __init__(self, vendor: ModelVendor) -> None:
        self.vendor = vendor
        self.name = f"Cascade, {vendor.name}"

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade with the vendor's service, whose server plays the script."""
        return _model_started(model, self.vendor, conditions, self.manners)


@asynccontextmanager
async def _model_started(
    model: Model | Sequence[Sequence[Act]], vendor: ModelVendor, conditions: Conditions, manners: Manners | None
) -> AsyncIterator[FarEnd]:
    ear = partial(understand, sample_rate=STT_RATE)
    async with ScriptedParrot(
        manners=manners,
        transcripts=ear,
        interim_s=INTERIM_S,
        setup_delay_s=conditions.setup_delay_s,
        answer_delay_s=conditions.transcript_delay_s,
    ) as parrot:
        far = ModelEnd(model, vendor, parrot, conditions, manners)
        async with far.server:
            far.make()
            yield far
