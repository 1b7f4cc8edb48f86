"""Rows of calls with native engines."""

from __future__ import annotations

import pytest

from duologue.session.rows import Removed, Row, RowEvent, Rows
from duologue.testing.scripted.server import Speak
from tests.services.native.calls import MODES, PROVIDERS, Provider, calling


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("manual", MODES)
async def test_each_side_has_one_row_that_is_rewritten_until_it_is_final(provider: Provider, manual: bool) -> None:
    answers = [[Speak("That is a fine colour.", seconds=1.0, pace=1.0)], [Speak("Bye.", seconds=0.4)]]
    behaviour = {"transcripts": ["my card is blue", "thank you"]}
    async with calling(provider, answers, manual=manual, behaviour=behaviour) as call:
        events: list[RowEvent] = []
        Rows(call.session).listen(events.append)
        for number in (1, 2):
            await call.says()
            await call.hears(number)
            await call.waits(1.5)
        rows = [event for event in events if isinstance(event, Row)]
        assert len(rows) == len(events)  # nothing was taken back
        ids = dict.fromkeys(row.id for row in rows)
        last = {row.id: row for row in rows}
        assert [(last[i].role, last[i].message, last[i].final) for i in ids] == [
            ("caller", "my card is blue", True),
            ("agent", "That is a fine colour.", True),
            ("caller", "thank you", True),
            ("agent", "Bye.", True),
        ]
        heard = [row.metadata["heard"] for row in rows if row.role == "agent"]
        assert any(0 < count < len("That is a fine colour.") for count in heard)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_speech_that_the_provider_did_not_understand_leaves_no_row(provider: Provider) -> None:
    behaviour = {"transcripts": [""]}
    async with calling(provider, [[Speak("Pardon?", seconds=0.4)]], behaviour=behaviour) as call:
        events: list[RowEvent] = []
        Rows(call.session).listen(events.append)
        await call.says()
        await call.hears(1)
        shown = {event.id for event in events if isinstance(event, Row) and event.role == "caller"}
        assert shown == {event.id for event in events if isinstance(event, Removed)}
