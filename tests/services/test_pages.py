"""The programs in the pages on correction, guardrails and knowledge run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def program(page: str) -> dict[str, Any]:
    """The names that the Python blocks of a page define, run as one program."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL))
    names: dict[str, Any] = {"__name__": page}
    exec(compile(code, page, "exec", flags=0, dont_inherit=True), names)
    return names


async def test_guardrails(capsys: pytest.CaptureFixture[str]) -> None:
    await program("guardrails.md")["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "agent: replaced, refused",
        "caller: answered, refused",
        "caller: what shall I take",
        "agent: We have aspirin. A doctor will tell you how much. Anything else?",
        "agent: Please keep your card to yourself.",
    ]


async def test_correction(capsys: pytest.CaptureFixture[str]) -> None:
    await program("correction.md")["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "caller: I take Metformin twice a day",
        "caller: is the ENT department open",
        "caller: my aunt called",
    ]


async def test_knowledge(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await program("knowledge.md")["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "caller: when do you open",
        "agent: We open at ten.",
        "caller: From earlier calls of this caller:",
        "when do you open",
        "caller: when do you open",
        "agent: We open at ten.",
    ]
