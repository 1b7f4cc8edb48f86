"""The log: a client's words cannot forge its lines, and what repeats is counted."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue import Pipeline, Session
from duologue.errors import ServiceError
from duologue.frames import ErrorRaised
from duologue.session.call_events import Failed
from duologue.session.error_desk import REPEATED, Decision
from duologue.session.logs import MAX_KEYS, MAX_LINE, LogFilter, Repeats, printable
from duologue.testing import BareCall
from duologue.transports.memory import MemoryTransport

log = logging.getLogger("duologue")


@given(st.text())
def test_a_text_becomes_one_printable_line(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert len(printable(text * 1_000)) <= 10 * MAX_LINE + 40
    if text.isprintable() and len(text) <= MAX_LINE:
        assert line == text


def test_a_clients_string_makes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    evil = "x\nERROR duologue FORGED\x1b[31m\u2028\r"
    log.warning("call %s: %s", evil, evil)
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("call %s failed", evil)
    for record in caplog.records:
        formatted = logging.Formatter("%(levelname)s %(message)s").format(record)
        lines = formatted.splitlines()
        assert lines[0].startswith(record.levelname)
        assert all(line.startswith("  ") for line in lines[1:])
        assert "\x1b" not in formatted
        assert "FORGED" in formatted


def test_warnings_that_differ_in_their_id_only_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    filtered = LogFilter()

    def passes(at: float, *args: object, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("duologue", level, "file", 1, "call %s: %s", args, None)
        record.created = at
        return record.getMessage() if filtered.filter(record) else None

    told = [passes(100.0, number, "cut off") for number in range(50)]
    assert [line is not None for line in told] == [True] * 20 + [False] * 30
    assert passes(100.0, 1, "another reason") == "call 1: another reason"
    assert passes(102.0, 7, "cut off") == "call 7: cut off (and 30 more like it)"
    assert all(passes(100.0, number, "begun", level=logging.INFO) for number in range(50))


def test_the_kinds_that_are_counted_are_bounded() -> None:
    repeats: Repeats[int] = Repeats(1, 10.0)
    for key in range(2 * MAX_KEYS):
        assert repeats.take(key, 0.0) == 0
        assert repeats.take(key, 1.0) is None
    assert len(repeats.left_out()) == MAX_KEYS
    assert repeats.take(2 * MAX_KEYS - 1, 11.0) == 1


async def test_errors_that_repeat_are_told_in_part_and_decided_all(caplog: pytest.LogCaptureFixture) -> None:
    decided: list[ErrorRaised] = []
    told: list[Any] = []

    def decide(error: ErrorRaised) -> Decision:
        decided.append(error)
        return "continue"

    transport = MemoryTransport()
    session = Session(Pipeline([transport.input(), transport.output()]), id="s1", on_error=decide)
    call = BareCall(session, ends=False)
    session.feed.on(told.append, Failed)
    async with call:
        for number in range(3_536):
            call.session.report(ServiceError(f"no agent {number}"), "Rtvi")
        call.session.report(ServiceError("no line"), "Phone")
        assert len(decided) == 3_537
        assert len(told) == REPEATED + 1
        assert told[-1].message == "no line"
        call.session.report(ServiceError("the end"), "Rtvi", fatal=True)
        assert told[-1].fatal
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= REPEATED + 5
    assert lines[-1] == f"session s1: Rtvi: ServiceError (and {3_536 - REPEATED} more like it)"
