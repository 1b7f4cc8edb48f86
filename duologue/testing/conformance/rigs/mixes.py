"""Cascades of vendors' services over their SDKs, each vendor on a scripted server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ....frames import Configure
from ....processors.processor import Processor
from ....services.context import Message
from ...scripted.server import Act, Model
from ...scripted.vendors import Delays, ScriptedCascade
from ..phrases import understand, understand_so_far
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .remote import INTERIM_S
from .values import plain

MIXES = (
    ("deepgram", "openai", "elevenlabs"),
    ("deepgram-flux", "gemini", "openai"),
    ("elevenlabs", "openai-responses", "deepgram"),
    ("openai", "gemini", "elevenlabs"),
    ("deepgram", "openai-responses", "openai"),
    ("deepgram-flux", "openai", "deepgram-flux"),
    ("elevenlabs", "gemini", "deepgram"),
    ("openai", "openai-responses", "elevenlabs-http"),
    ("assemblyai", "openai", "cartesia"),
    ("cartesia", "gemini", "cartesia"),
)
"""Speech-to-text, language model, text-to-speech, by their names in `duologue.services.vendors`."""

_ELEVENLABS = ("hpp4J3VqNfWAUOO0d1Us", "JBFqnCBsd6RMkjVDRZzb")
VOICES = {
    "elevenlabs": _ELEVENLABS,
    "elevenlabs-http": _ELEVENLABS,
    "deepgram": ("aura-2-thalia-en", "aura-2-luna-en"),
    "deepgram-flux": ("flux-alexis-en", "flux-haley-en"),
    "openai": ("ash", "coral"),
    "cartesia": ("a5136bf9-224c-4d76-b823-52bd5efcffcc", "694f9389-aac1-45b6-b726-9d9369183238"),
}
_TIMELESS = frozenset({"audio-without-words"})
_UNSEEN = {
    "openai": _TIMELESS,
    "deepgram": _TIMELESS,
    "deepgram-flux": _TIMELESS,
    "elevenlabs-http": frozenset({"late-pieces", "missing-end"}),
}
"""The faults that a text-to-speech cannot show: some voices have no word times, and a request ends with its audio."""


class MixEnd(FarEnd):
    """The three servers. The language model's plays the script."""

    def __init__(self, model: Model | Sequence[Sequence[Act]], rig: MixRig, conditions: Conditions) -> None:
        super().__init__(model, rig.manners)
        stt, llm, tts = rig.mix
        self.scripted = ScriptedCascade(
            stt,
            llm,
            tts,
            self.note,
            understand,
            understand_so_far,
            interim_s=INTERIM_S,
            delays=Delays(setup_s=conditions.setup_delay_s, transcript_s=conditions.transcript_delay_s),
            manners=rig.manners,
        )
        self.made: Processor | None = None

    @property
    def engine(self) -> Processor:
        assert self.made is not None
        return self.made

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
        body = self.scripted.llm_server.posts[-1].json
        return body.get("generationConfig", body).get("temperature")

    @property
    def voice(self) -> str:
        return self.scripted.voice

    @property
    def audio(self) -> list[bytes]:
        return self.scripted.audio


class MixRig(Rig):
    """A cascade of three vendors' services. Needs the vendors' extras, and `testing`.

    The faults of the suite are those of an engine with one connection. A mix has three, and is tested for faults
    elsewhere.
    """

    interim = True
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def __init__(self, stt: str, llm: str, tts: str) -> None:
        self.mix = (stt, llm, tts)
        self.name = "+".join(self.mix)
        self.parts = ("llm", "openai" if stt == "openai" else "listen", "speak")
        self.unseen = _UNSEEN.get(tts, frozenset())
        self.detects_turns = stt == "deepgram-flux"
        self.voices = VOICES[tts]

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade over the three servers."""
        return _mix_started(MixEnd(model, self, conditions))


@asynccontextmanager
async def _mix_started(far: MixEnd) -> AsyncIterator[FarEnd]:
    async with far.scripted:
        far.made = far.scripted.cascade()
        yield far
