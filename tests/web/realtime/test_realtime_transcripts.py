"""Which turn of the caller's a transcript belongs to."""

from __future__ import annotations

from duologue.protocols.openai_realtime.response import ServerItem
from duologue.web.realtime.transcripts import TurnTranscripts


def told_by(*steps: tuple[object, ...]) -> list[tuple[str, str]]:
    """Carries out ("turn", id, start, end), ("said", text, start, end) and ("over",); returns the reports, in order."""
    told: list[tuple[str, str]] = []
    transcripts = TurnTranscripts(lambda item, text, seconds: told.append((item.id, text)), lambda log_id: None)
    for kind, *values in steps:
        if kind == "turn":
            item_id, start, end = values
            transcripts.committed(ServerItem({"id": item_id}), start, end)  # type: ignore[arg-type]
        elif kind == "said":
            transcripts.said(*values)  # type: ignore[arg-type]
        else:
            transcripts.settle()
    return told


def test_a_transcript_may_come_before_the_turn_is_known_or_long_after() -> None:
    early = told_by(("said", "hello", 100, 900), ("over",), ("turn", "a", 0, 1000), ("over",))
    late = told_by(("turn", "a", 0, 1000), ("over",), ("said", "hello", 100, 900), ("over",))
    assert early == late == [("a", "hello")]


def test_several_transcripts_of_one_turn_are_joined() -> None:
    steps = (("said", "hello", 100, 400), ("turn", "a", 0, 1000), ("said", "there", 500, 900), ("over",))
    assert told_by(*steps) == [("a", "hello there")]


def test_one_transcript_of_several_turns_stands_where_most_of_it_was_said() -> None:
    steps = (("turn", "a", 0, 500), ("turn", "b", 500, 2000), ("said", "all of it", 0, 2000), ("over",))
    assert told_by(*steps) == [("a", ""), ("b", "all of it")]


def test_a_late_transcript_is_not_taken_for_that_of_the_next_turn() -> None:
    steps = (
        ("turn", "a", 0, 1000),
        ("over",),
        ("turn", "b", 2000, 3000),
        ("said", "first", 0, 900),
        ("over",),
        ("said", "second", 2100, 2900),
        ("over",),
    )
    assert told_by(*steps) == [("a", "first"), ("b", "second")]


def test_what_was_not_understood_is_told_as_such() -> None:
    assert told_by(("turn", "a", 0, 1000), ("said", "", 0, 900), ("over",)) == [("a", "")]


def test_a_transcript_of_no_known_time_belongs_to_the_oldest_turn() -> None:
    assert told_by(("turn", "a", 500, 1000), ("said", "hello", 0, 0), ("over",)) == [("a", "hello")]
