"""A change of services is seen by whoever watches the call: feed, rows, and the command line's view."""

from __future__ import annotations

from duologue.cli.view import ViewRows
from duologue.services.cascade import Cascade
from duologue.services.fallback import Fallback
from duologue.session.call_events import FeedEvent, ServiceMoved
from duologue.session.rows import Row, RowEvent, Rows
from duologue.testing.mocks import MockSTT, MockTTS
from tests.services.fallback.faulty import Fault, FaultyLLM, Other
from tests.services.story import story


async def test_the_feed_the_rows_and_the_view_have_it() -> None:
    models = Fallback([FaultyLLM(["One."], dead=Fault("refuses")), Other(["Two."])])
    events: list[FeedEvent] = []
    rows: list[RowEvent] = []
    async with story(engine=Cascade(MockSTT(["Hello?"]), models, MockTTS())) as call:
        call.session.feed.on(events.append, ServiceMoved)
        Rows(call.session, "coalesce").listen(rows.append)
        await call.types("Hello?")
        await call.waits(5)
        assert call.log == ["caller: Hello?", "agent: Two."], "the log has no words of it"
    (moved,) = events
    assert isinstance(moved, ServiceMoved)
    assert (moved.kind, moved.source, moved.target, moved.reason) == ("llm", "FaultyLLM", "Other", "refused")
    (row,) = [row for row in rows if isinstance(row, Row) and row.type == "note"]
    change = {"kind": "llm", "source": "FaultyLLM", "target": "Other", "reason": "refused"}
    assert (row.role, row.metadata["name"], row.metadata["data"]) == ("system", "service", change)
    assert (row.message, row.final) == ("Other replaces FaultyLLM: refused", True)
    shown = ViewRows().translate(moved)
    assert shown is not None
    assert shown.text == "Other replaces FaultyLLM: refused"
