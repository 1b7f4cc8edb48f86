"""Prints the table of engines against the points of the contract at the end."""

from __future__ import annotations

import pytest

from duologue.testing.conformance.table import table

PROPERTY = "conformance"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    results: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    rig, scenario, verdict = value
                    results[rig, scenario] = verdict if outcome == "passed" else "FAIL"
    if results:
        terminalreporter.section("engine conformance")
        terminalreporter.write_line(table(dict(sorted(results.items(), key=_in_order))))


def _in_order(entry: tuple[tuple[str, str], str]) -> tuple[str, str]:
    return entry[0]
