"""A speech-to-text vendor whose connection is dead without a sign: no utterance is lost in silence."""

from __future__ import annotations

import anyio
import pytest

from duologue.services.remote import Wire
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.tones import tone
from tests.services.ears import VENDORS, EarCall, hearing

pytestmark = pytest.mark.virtual_clock

OMIT_ANSWERS = ("assemblyai", "deepgram", "elevenlabs-vad")
"""Vendors that may leave the end of an utterance without an answer."""


def dies(caller: EarCall, *, for_good: bool) -> None:
    """The connection becomes half-open. `for_good`: no other one can be made."""
    caller.server.connections[-1].go_half_open()
    if for_good:
        caller.stt.dial = refuse  # type: ignore[method-assign, assignment]


async def refuse(_: object) -> Wire:
    raise ConnectionLost("no route")


@pytest.mark.parametrize("heard", [0, 10, 20])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_utterance_on_a_dead_connection_has_failed_with_an_error(vendor: str, heard: int) -> None:
    async with hearing(vendor, lambda pcm: "hello there") as caller:
        await caller.begins(heard)
        dies(caller, for_good=True)
        await caller.goes_on(20 - heard)
        await caller.stops()
        await caller.until_transcribed(1)
        assert [(frame.text, frame.failed) for frame in caller.finals()] == [("", True)]
        assert [error.category for error in caller.errors] == ["timeout"]


@pytest.mark.parametrize("vendor", OMIT_ANSWERS)
async def test_another_connection_gets_the_utterance_before_its_time_is_up(vendor: str) -> None:
    async with hearing(vendor, lambda pcm: "hello there") as caller:
        dies(caller, for_good=False)
        await caller.says(tone(0.6, caller.stt.sample_rate))
        assert await caller.until_transcribed(1, within_s=caller.stt.timeout_s) == ["hello there"]
        assert not caller.errors


@pytest.mark.parametrize("vendor", OMIT_ANSWERS)
async def test_a_vendor_that_lives_and_has_no_text_has_heard_nothing(vendor: str) -> None:
    async with hearing(vendor, lambda pcm: "hello there", answers=0) as caller:
        await caller.utters()
        await caller.until_transcribed(1, within_s=2.5)
        assert [(frame.text, frame.failed) for frame in caller.finals()] == [("", False)]
        await anyio.sleep(1)
        assert not caller.errors
        assert caller.stt.connections_made == 1


async def test_final_text_does_not_hide_that_the_rest_of_an_utterance_was_lost() -> None:
    async with hearing("assemblyai", lambda pcm: "hello there") as caller:
        await caller.begins(20)
        connection = caller.server.connections[-1]
        await connection.tell_turn("Book a table", end=True)
        connection.next_turn()
        await anyio.sleep(0.1)
        dies(caller, for_good=False)
        await caller.goes_on(20)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello there"]  # all of it, from the next connection
        assert len(caller.server.got[-1].utterances[-1]) >= 40 * 640
