"""Calls that fail before they have begun: every processor ends without a fault of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.frames import ErrorRaised
from duologue.processors import Pipeline, Processor
from duologue.processors.cleaning import NoiseSuppression
from duologue.processors.life import CallLimit, IdlePrompts
from duologue.processors.recorder import Recorder
from duologue.processors.tools import Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.session.session import Session
from duologue.transports.memory import MemoryTransport
from tests.services.ear_calls import ENGINES, engine
from tests.services.native.conftest import quick_client

__all__ = ["quick_client"]

pytestmark = [pytest.mark.virtual_clock, pytest.mark.usefixtures("quick_client")]


class Fails(Processor):
    """Cannot open."""

    async def open(self) -> None:
        raise OSError("the device is gone")


def parts(engine: Processor, folder: Path) -> list[Processor]:
    helpers = NoiseSuppression(), Vad(), Endpointing(), Interruption()
    return [
        *helpers,
        IdlePrompts("Are you still there?"),
        CallLimit(60),
        Recorder(folder / "call.wav"),
        engine,
        Tools(),
    ]


@pytest.mark.parametrize("place", range(11))
@pytest.mark.parametrize("kind", ENGINES)
async def test_the_failure_is_the_only_error(kind: str, place: int, tmp_path: Path) -> None:
    transport = MemoryTransport()
    async with engine(kind) as agent:
        row: list[Processor] = [transport.input(), *parts(agent, tmp_path), transport.output()]
        row.insert(place, Fails())
        session = Session(Pipeline(row))
        errors: list[ErrorRaised] = []
        session.on(ErrorRaised, errors.append)
        outcome = await session.run()
    assert isinstance(outcome.error, OSError)
    assert [error.message for error in errors] == ["the device is gone"]
