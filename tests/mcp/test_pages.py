"""The program in the page on MCP runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.mcp.calls import ROOT


async def test_the_program_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "mcp.md").read_text("utf-8"), re.DOTALL))
    names: dict[str, Any] = {"__name__": "mcp.md"}
    exec(compile(code, "mcp.md", "exec", flags=0, dont_inherit=True), names)
    await names["main"]()
    reply, prompt, resource = capsys.readouterr().out.splitlines()
    assert "called get_order(order=17)" in reply
    assert (prompt, resource) == ("Talk briefly.", "Open from nine to six.")
