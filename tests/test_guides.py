"""The guides: the Python blocks of each are one program, which runs, and every public name is in one of them."""

from __future__ import annotations

import re
import sys
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType

import pytest

from tools.docs_site import PACKAGES, ROOT, public_names

GUIDES = [*sorted((ROOT / "docs" / "guides").glob("*.md")), ROOT / "docs" / "modes.md"]


def program(guide: Path) -> str:
    """The Python blocks of a page, each on its own lines of the page."""
    lines, inside = [], False
    for line in guide.read_text(encoding="utf-8").splitlines():
        fence = line.startswith("```")
        lines.append(line if inside and not fence else "")
        inside = line == "```python" if fence else inside
    return "\n".join(lines)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
async def test_the_program_of_the_guide_runs(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"guide_{guide.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(program(guide), str(guide), "exec", dont_inherit=True), vars(module))
    assert iscoroutinefunction(module.main)
    await module.main()


def test_every_public_name_is_in_a_guide() -> None:
    words = set(re.findall(r"\w+", "\n".join(guide.read_text(encoding="utf-8") for guide in GUIDES)))
    assert {name for package in PACKAGES for name in public_names(package)} - words == set()
