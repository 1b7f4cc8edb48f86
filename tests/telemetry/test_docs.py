"""The program of docs/observability.md runs, and its table has every metric."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from duologue.telemetry.instruments import INSTRUMENTS
from tests.test_guides import program
from tools.docs_site import ROOT

PAGE = ROOT / "docs" / "observability.md"


async def test_the_program_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("observability_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(program(PAGE), str(PAGE), "exec", dont_inherit=True), vars(module))
    await module.main()


def test_every_metric_is_in_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for one in INSTRUMENTS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        assert f"| `{one.name}`, {one.kind}: " in text
        assert f"| {one.unit} | {labels} |" in text
