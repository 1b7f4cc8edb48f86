"""Nothing of a caller is kept, or heard, before they agree; and from the moment on at which they do not any longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.audio.pcm import deinterleave
from duologue.audio.wav import read_wav
from duologue.errors import BadInput, ConfigurationError
from duologue.frames import UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.recorder import Recorder
from duologue.services.cascade import Cascade
from duologue.services.openai import OpenAIRealtime
from duologue.session import Session
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted import ScriptedOpenAI
from duologue.trace import Trace, read
from duologue.transports import MemoryTransport

pytestmark = pytest.mark.virtual_clock

RATE = 16_000
ENGINES = ("openai", "cascade")


class Heard(Processor):
    """Keeps the caller's audio as the engine gets it."""

    def __init__(self) -> None:
        self.pcm = bytearray()

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.pcm += frame.audio
        await self.push(frame)

    def seconds(self) -> float:
        return np.count_nonzero(np.frombuffer(self.pcm, "<i2")) / RATE


class Kept(BareCall):
    """A call that is recorded, in a file and in a trace. The caller's line is never silent."""

    def __init__(self, folder: Path, engine: Processor, needed: Any) -> None:
        self.transport, self.heard = MemoryTransport(RATE), Heard()
        self.path, self.trace = folder / "call.wav", Trace(folder / "calls", audio=True)
        parts = [self.transport.input(), Recorder(self.path), self.heard, engine, self.transport.output()]
        super().__init__(Session(Pipeline(parts), trace=self.trace))
        self.consent = self.session.audio.consent
        if needed:
            self.consent.require(needed)

    async def talks(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            await asyncio.sleep(0.02)
            self.transport.send(np.full(RATE // 50, 1000, "<i2").tobytes())

    def recorded(self) -> list[tuple[float, float]]:
        """The start and the end of each sound of the caller in the file, in seconds to the hundredth."""
        left = np.frombuffer(deinterleave(read_wav(self.path).pcm)[0], "<i2")
        steps = np.flatnonzero(np.diff(np.r_[0, left != 0, 0]))
        return [
            (round(float(a / RATE), 2), round(float(b / RATE), 2)) for a, b in zip(steps[::2], steps[1::2], strict=True)
        ]

    def records(self, folder: Path) -> list[Any]:
        return list(read(folder / "calls" / next(iter((folder / "calls").iterdir())).name))


@asynccontextmanager
async def kept(folder: Path, engine: str, needed: str = "") -> AsyncIterator[Kept]:
    async with ScriptedOpenAI([[]]) as server:
        native = OpenAIRealtime(api_key="test", base_url=server.url)
        cascade = Cascade(MockSTT(), MockLLM(), MockTTS())
        async with Kept(folder, native if engine == "openai" else cascade, needed) as call:
            yield call


@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_is_kept_before_the_consent_or_after_it(tmp_path: Path, engine: str) -> None:
    async with kept(tmp_path, engine, "recording") as call:
        began = call.session.now()
        await call.talks(2.0)
        given = call.session.now()
        call.consent.give(by="caller")
        await call.talks(1.5)
        withdrawn = call.session.now()
        call.consent.withdraw(by="the button")
        await call.talks(2.0)
    assert began < 0.1
    [(start, end)] = call.recorded()
    assert start == round(given, 2)
    assert withdrawn - 0.03 < end <= withdrawn + 1e-6  # the piece that is on its way is not kept
    assert call.heard.seconds() == pytest.approx(5.5, abs=0.021)  # the engine hears them
    records = call.records(tmp_path)
    audio = [record for record in records if record.kind == "audio"]
    assert sum(record.facts["samples"] for record in audio) == pytest.approx((end - start) * RATE, abs=0.02 * RATE)
    assert all(given - 0.001 <= record.facts["at"] < withdrawn for record in audio)
    notes = [item.data for item in call.session.conversation if item.name == "consent"]
    assert notes == [
        {"consent": "given", "to": "recording", "by": "caller"},
        {"consent": "withdrawn", "to": "recording", "by": "the button"},
    ]
    told = [record.facts["consent"] for record in records if record.facts.get("name") == "consent"]
    assert told == ["given", "withdrawn"]
    assert records[0].facts["records"]["consent"] == {"to": "recording", "given": False}
    rows = [row["message"] for row in call.session.conversation.rows()]
    assert rows[-1] == "The consent to recording is withdrawn by the button"


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_agent_that_listens_to_a_room_hears_nothing_without_consent(tmp_path: Path, engine: str) -> None:
    async with kept(tmp_path, engine, "listening") as call:
        await call.talks(2.0)
        assert call.heard.seconds() == 0
        call.session.set_access("muted", by="host")
        call.session.set_access("active", by="host")  # is no consent
        await call.talks(1.0)
        assert call.heard.seconds() == 0
        call.consent.give()
        await call.talks(1.0)
        call.consent.withdraw()
        await call.talks(1.0)
        call.consent.give()
        call.session.set_access("muted", by="host")
        await call.talks(1.0)
        assert call.heard.seconds() == pytest.approx(1.0, abs=0.021)
    assert sum(end - start for start, end in call.recorded()) == pytest.approx(1.0, abs=0.021)


async def test_a_piece_that_is_spoken_while_the_consent_is_given_is_kept_from_there_on(tmp_path: Path) -> None:
    async with kept(tmp_path, "cascade", "recording") as call:
        await asyncio.sleep(0.7)
        call.consent.give()
        given = call.session.now()
        await asyncio.sleep(0.3)
        call.transport.send(np.full(RATE, 1000, "<i2").tobytes())
        await asyncio.sleep(0.1)
    assert call.recorded() == [(round(given, 2), round(given + 0.3, 2))]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_call_that_asked_for_nothing_obeys_a_withdrawal_all_the_same(tmp_path: Path, engine: str) -> None:
    async with kept(tmp_path, engine) as call:
        await call.talks(1.0)
        withdrawn = call.session.now()
        call.consent.withdraw()
        call.consent.withdraw()
        await call.talks(5.0)
        assert call.heard.seconds() == pytest.approx(6.0, abs=0.021)
    [(_, end)] = call.recorded()
    assert withdrawn - 0.03 < end <= withdrawn + 1e-6
    assert len([item for item in call.session.conversation if item.name == "consent"]) == 1


async def test_the_model_is_not_told(tmp_path: Path) -> None:
    model = MockLLM(["Hello."])
    async with BareCall(Session(Pipeline([Cascade(MockSTT(), model, MockTTS())]))) as call:
        call.session.audio.consent.require("recording")
        call.session.audio.consent.give()
        await call.types("hello")
        await asyncio.sleep(1.0)
    assert "onsent" not in json.dumps([message.text for message in model.requests[0].messages])


def test_values_that_are_no_consent_are_refused() -> None:
    consent = Session(Pipeline([Heard()])).audio.consent
    with pytest.raises(ConfigurationError, match="listening"):
        consent.require("everything")  # type: ignore[arg-type]
    consent.require("recording")
    for by in ("", "x" * 1_000_000, None, b"caller"):
        with pytest.raises(BadInput, match="origin"):
            consent.give(by=by)  # type: ignore[arg-type]
    assert not consent.given
