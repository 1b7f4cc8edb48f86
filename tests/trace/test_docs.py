"""The programs in docs/traces.md, docs/resume.md and docs/replay.md run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_guides import program
from tools.docs_site import ROOT


@pytest.mark.parametrize("name", ["traces", "resume", "replay"])
async def test_the_program_of_the_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, module = ROOT / "docs" / f"{name}.md", ModuleType(f"page_{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(program(page), str(page), "exec", dont_inherit=True), vars(module))
    await module.main()
