"""`duologue mcp`: an agent is tried through the official package's client, over stdin and stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mcp.calls import call_tool, program


@pytest.mark.real_clock
async def test_a_coding_assistant_talks_to_the_demos_agents() -> None:
    args = ["-m", "duologue", "mcp", "duologue.cli.agents:agents", "--scripted"]
    async with program(*args, name="duologue") as server:
        assert "plain text" in await server.instructions()
        first = await call_tool(server, "say", text="my order number is four five six seven")
        assert first.splitlines()[0] == "Reception: Hello, this is the corner shop. How can I help you?"
        assert "called get_order(order=4567) -> {'status': 'on its way', 'arrival': 'tomorrow'}" in first
        assert "Order 4567 is on its way" in first
        billing = await call_tool(server, "say", text="I have a question about my bill")
        assert "handed over from Reception to Billing: The caller asks about a bill." in billing
        assert "get_order" in await call_tool(server, "transcript")
        assert await call_tool(server, "reset") == "The next line begins another call."
        again = await call_tool(server, "say", text="hello")
        assert again.splitlines()[0].startswith("Reception: Hello, this is the corner shop.")


def test_agents_that_are_not_there_are_named() -> None:
    command = [sys.executable, "-m", "duologue", "mcp", "duologue.cli.agents:nobody"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no 'nobody'" in done.stderr


def test_what_agents_print_is_no_message(tmp_path: Path) -> None:
    lines = ["from duologue import Agent", "print('loaded')", "agents = Agent(name='Ann')", "RULES = {'a': 'b'}"]
    (tmp_path / "loud.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-m", "duologue", "mcp", "loud:agents", "--scripted"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "loaded" in done.stderr
