"""The engine contract for a cascade whose services are behind a `Fallback`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from duologue import Cascade, Fallback
from duologue.services.llm import Request
from duologue.testing.conformance import SCENARIOS, Rig, Scenario, check, expected
from duologue.testing.conformance.phrases import understand
from duologue.testing.conformance.rig import NORMAL, Conditions, FarEnd
from duologue.testing.conformance.rigs.cascade import ScriptedLLM
from duologue.testing.conformance.rigs.remote import INTERIM_S, RemoteCascadeRig, RemoteEnd
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.parrot import ParrotSTT, ParrotTTS
from duologue.testing.parrot.options import STT_RATE
from duologue.testing.scripted.parrot import ScriptedParrot
from duologue.testing.scripted.server import Act, Model


class Deaf(MockSTT):
    """Does not open."""

    async def open(self) -> None:
        raise ConnectionError("deaf")


class Mute(MockTTS):
    """Speaks nothing."""

    voices = "none"

    def check_voice(self, voice: str) -> None:
        """Leave the check to the other voice."""
        ParrotTTS(api_key="test").check_voice(voice)

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        raise ConnectionError("mute")
        yield


class Dumb(MockLLM):
    """Answers nothing."""

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        raise ConnectionError("dumb")
        yield

    def check_options(self, options: dict[str, Any]) -> None:
        """Leave the check to the other model."""
        ScriptedLLM(None).check_options(options)  # type: ignore[arg-type]


class FallbackRig(RemoteCascadeRig):
    """The made-up vendor's services as the first of each kind, with mocks in reserve, or behind services that fail."""

    def __init__(self, name: str, *, fails: bool) -> None:
        self.name = name
        self.fails = fails

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        return self._started(model, conditions)

    @asynccontextmanager
    async def _started(self, model: Model | Sequence[Sequence[Act]], conditions: Conditions) -> AsyncIterator[FarEnd]:
        async with ScriptedParrot(
            transcripts=partial(understand, sample_rate=STT_RATE),
            interim_s=INTERIM_S,
            setup_delay_s=conditions.setup_delay_s,
            answer_delay_s=conditions.transcript_delay_s,
        ) as server:
            end = RemoteEnd(model, server, conditions.connection, self.manners)
            stt = ParrotSTT(api_key="test", base_url=server.url, connection=conditions.connection)
            tts = ParrotTTS(api_key="test", base_url=server.url, connection=conditions.connection)
            llm = ScriptedLLM(end)
            if self.fails:
                tts.voices = "none"
                end._engine = Cascade(
                    Fallback([Deaf(), stt], retry_s=300),
                    Fallback([Dumb(), llm], retry_s=300),
                    Fallback([Mute(), tts], retry_s=300),
                )
            else:
                end._engine = Cascade(Fallback([stt, MockSTT()]), Fallback([llm, Dumb()]), Fallback([tts, MockTTS()]))
            yield end


RIGS = [FallbackRig("the first works", fails=False), FallbackRig("the first fails", fails=True)]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
@pytest.mark.parametrize("rig", RIGS, ids=[rig.name.replace(" ", "-") for rig in RIGS])
def test_a_cascade_of_fallbacks_obeys_the_contract(rig: Rig, scenario: Scenario) -> None:
    assert check(rig, scenario, 1) == anyio.run(expected, rig, scenario)
