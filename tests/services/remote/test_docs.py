"""`docs/vendors.md` shows the code of the made-up vendor as it is, and that vendor is as short as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "vendors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (?P<path>\S+)\n(?P<code>.*?)```", PAGE, re.DOTALL)
PARROT = ROOT / "duologue" / "testing" / "parrot"


def test_every_block_names_its_file() -> None:
    assert len(BLOCKS) == PAGE.count("```python") > 5


@pytest.mark.parametrize(("path", "code"), BLOCKS, ids=[str(n) for n in range(len(BLOCKS))])
def test_the_page_shows_the_code_as_it_is(path: str, code: str) -> None:
    assert code in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("service", "limit"), [("stt", 220), ("tts", 250)])
def test_a_service_is_short(service: str, limit: int) -> None:
    files = ["__init__.py", "options.py", "wire.py", f"{service}.py"]
    assert sum(len((PARROT / file).read_text(encoding="utf-8").splitlines()) for file in files) <= limit


def test_every_path_on_the_page_exists() -> None:
    for path in re.findall(r"`((?:duologue|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
